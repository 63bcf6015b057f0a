// What the backward pass takes out of a gradient: its mean, and the part in proportion to x_hat.
"use strict";

(() => {
  const OWN = [0.8, -1.4, 0.9, -0.3, 1.2, -0.5];
  const size = (values) => Math.sqrt(d3.mean(values.map((value) => value ** 2)));
  const signed = (value) => value.toFixed(1).replace("-", "−");
  const two = (value) => value.toFixed(2).replace(/^-(?=0\.00$)/, "").replace("-", "−");

  bnExplorables.define("removed_gradient", {
    controls: [
      { name: "offset", type: "range", label: "Raise all by", min: -1.5, max: 1.5, step: 0.1, value: 1, format: signed },
      { name: "slope", type: "range", label: "Tilt by", min: -1.5, max: 1.5, step: 0.1, value: 0.8, format: signed },
      ...OWN.map((value, k) => ({
        name: `own${k}`,
        type: "handle",
        label: `Gradient of example ${k + 1}, without what was raised and tilted`,
        min: -2,
        max: 2,
        step: 0.1,
        value,
        format: signed,
      })),
    ],

    compute(state, { x_hat, inv_std }) {
      const dy = x_hat.map((value, k) => state[`own${k}`] + state.offset + state.slope * value);
      const average = d3.mean(dy);
      const along = d3.mean(dy.map((value, k) => value * x_hat[k]));
      const dx = dy.map((value, k) => inv_std * (value - average - along * x_hat[k]));
      return { dy, average, along, dx };
    },

    draw({ dy, average, along, dx }, state, { plot, Plot, data, height, color, handle }) {
      const { x_hat } = data;
      const ends = [-2, 2];
      const panel = (values, line, title, label) =>
        plot({
          height: height / 2,
          marginTop: 28,
          marginLeft: 34,
          marginRight: 8,
          marginBottom: label ? 36 : 22,
          x: { domain: ends, label, ticks: 5 },
          y: { domain: [-6, 6], label: null, ticks: 5 },
          marks: [
            Plot.gridY({ stroke: color.grid, strokeOpacity: 1, ticks: 5 }),
            Plot.text([title], { frameAnchor: "top-left", dx: -30, dy: -26, fontWeight: 600, fill: color.ink }),
            Plot.line(ends, { x: (end) => end, y: line, stroke: color.orange, strokeWidth: 2, clip: true }),
            Plot.ruleX(values, { x: x_hat, y1: (_, k) => line(x_hat[k]), y2: (value) => value, stroke: color.blue, strokeWidth: 2 }),
            Plot.dot(values, { x: x_hat, y: (value) => value, fill: color.blue, r: 6 }),
          ],
        });
      const above = panel(dy, (x) => average + along * x, "dy: what arrives, and its best line", null);
      const below = panel(dx, () => 0, "dx: what is handed on", "x_hat →");
      const [across, down] = [above.scale("x"), above.scale("y")];
      dy.forEach((value, k) => {
        const rest = state.offset + state.slope * x_hat[k];
        handle(`own${k}`, above, across.apply(x_hat[k]), down.apply(value), (_, place) => down.invert(place) - rest);
      });
      return [above, below];
    },

    say({ dy, average, along, dx }) {
      const whole = size(dy);
      const share = whole === 0 ? 0 : (100 * size(dx)) / whole;
      return (
        `Of dy, the backward pass takes out the mean, ${two(average)}, and the tilt, ${two(along)} per unit of x_hat: the ` +
        `orange line. ${share.toFixed(0)}% of its size is left, with mean 0 and no tilt.`
      );
    },
  });
})();
