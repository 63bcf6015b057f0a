// Gradient descent on two badly scaled features, and on the same features standardized.
"use strict";

(() => {
  // Eigenvalues of a symmetric 2 x 2 matrix, the larger first.
  function eigenvalues([[a, b], [, d]]) {
    const middle = (a + d) / 2;
    const apart = Math.hypot((a - d) / 2, b);
    return [middle + apart, middle - apart];
  }

  // How far the loss at w is above its lowest point.
  function above([[a, b], [, d]], [w1, w2], [end1, end2]) {
    const [u, v] = [w1 - end1, w2 - end2];
    return (a * u * u + 2 * b * u * v + d * v * v) / 2;
  }

  bnExplorables.define("descent", {
    controls: [
      {
        name: "scaling",
        type: "select",
        label: "Features",
        options: [
          ["raw", "raw: 0 to 1, and 0 to 5"],
          ["standardized", "standardized"],
        ],
        value: "raw",
      },
      { name: "rate", type: "range", label: "Learning rate", min: 0.02, max: 2.1, step: 0.02, value: 0.9, format: (rate) => rate.toFixed(2) },
      { name: "steps", type: "range", label: "Steps", min: 1, max: 60, step: 1, value: 30 },
    ],

    compute({ scaling, rate, steps }, data) {
      const { hessian, end, height } = data[scaling];
      const [[a, b], [, d]] = hessian;
      let w = [0, 0];
      const path = [w];
      for (let step = 0; step < steps; step++) {
        const [u, v] = [w[0] - end[0], w[1] - end[1]];
        w = [w[0] - rate * (a * u + b * v), w[1] - rate * (b * u + d * v)];
        path.push(w);
      }
      const [largest, smallest] = eigenvalues(hessian);
      return {
        path,
        left: path.map((w) => above(hessian, w, end) / height),
        limit: 2 / largest,
        best: 2 / (largest + smallest),
        kappa: largest / smallest,
      };
    },

    draw({ path, left }, { scaling }, { plot, Plot, data, width, height, color }) {
      const { hessian, end, height: start } = data[scaling];
      const stroke = scaling === "raw" ? color.orange : color.blue;
      const mapHeight = Math.round(0.64 * height);
      const margins = { marginTop: 24, marginLeft: 58, marginRight: 12, marginBottom: 38 };
      // One unit is as long on both axes, and the start at 0, 0 is in the map.
      const reach = 1.3 * Math.max(...end.map(Math.abs));
      const aspect = (mapHeight - 62) / (width - 70);
      const side = Math.max(reach * aspect, 1.15 * Math.abs(end[1]));
      const across = side / aspect;
      const map = plot({
        ...margins,
        height: mapHeight,
        x: { domain: [end[0] - across, end[0] + across], label: "weight of feature 1 →", ticks: width < 500 ? 5 : 9 },
        y: { domain: [end[1] - side, end[1] + side], label: "↑ weight of feature 2", ticks: 6 },
        marks: [
          Plot.contour({
            value: (x, y) => above(hessian, [x, y], end) / start,
            x1: end[0] - across,
            x2: end[0] + across,
            y1: end[1] - side,
            y2: end[1] + side,
            thresholds: [0.03, 0.1, 0.3, 1, 3, 10],
            stroke: color.faint,
            strokeOpacity: 0.7,
            pixelSize: 3,
          }),
          Plot.line(path, { stroke, strokeWidth: 1.5, clip: true }),
          Plot.dot(path, { fill: stroke, r: 2.5, clip: true }),
          Plot.dot([end], { symbol: "star", fill: color.ink, r: 7 }),
          Plot.text(["start"], { x: 0, y: 0, dx: 6, dy: 12, textAnchor: "start", fill: color.ink }),
        ],
      });
      const [low, high] = [1e-4, 10];
      const shown = left.map((value) => Math.min(high, Math.max(low, value)));
      const curve = plot({
        ...margins,
        height: height - mapHeight,
        x: { domain: [0, 60], label: "step →" },
        y: { type: "log", domain: [low, high], label: "↑ loss left, as a share of the start", ticks: 3, tickFormat: "~g" },
        marks: [
          Plot.gridY({ stroke: color.grid, strokeOpacity: 1, ticks: 3 }),
          Plot.line(shown, { x: (_, step) => step, y: (value) => value, stroke, strokeWidth: 1.5 }),
          Plot.dot(shown, { x: (_, step) => step, y: (value) => value, fill: stroke, r: 2.5 }),
        ],
      });
      return [map, curve];
    },

    say({ left, limit, kappa }, { scaling, rate, steps }) {
      const last = left.at(-1);
      const where = `${scaling === "raw" ? "Raw" : "Standardized"} features, condition number ${kappa.toPrecision(2)}.`;
      if (rate > limit) {
        return `${where} The learning rate ${rate.toFixed(2)} is above the limit of ${limit.toFixed(3)}: every step overshoots by more than the last.`;
      }
      const percent = 100 * last;
      const share = percent < 0.01 ? "less than 0.01%" : `${percent.toPrecision(2)}%`;
      const plural = steps === 1 ? "step" : "steps";
      return `${where} At the learning rate ${rate.toFixed(2)} (the limit is ${limit.toFixed(3)}), ${share} of the way down is left after ${steps} ${plural}.`;
    },
  });
})();
