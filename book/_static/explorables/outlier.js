// One wrong value among 178: what is left of the others after three scalings.
"use strict";

(() => {
  const COLORS = { raw: "faint", "min-max": "green", standardized: "blue", robust: "pink" };

  function std(values) {
    const mu = d3.mean(values);
    return Math.sqrt(d3.mean(values.map((value) => (value - mu) ** 2)));
  }

  // Each scaling subtracts one number and divides by another.
  function scalings(x) {
    const low = Math.min(...x);
    const [q1, median, q3] = [0.25, 0.5, 0.75].map((share) => d3.quantile(x, share));
    return {
      raw: [0, 1],
      "min-max": [low, Math.max(...x) - low],
      standardized: [d3.mean(x), std(x)],
      robust: [median, q3 - q1],
    };
  }

  const percent = (share) => `${(100 * share).toFixed(0)}%`;

  bnExplorables.define("outlier", {
    controls: [
      {
        name: "factor",
        type: "range",
        label: "The wrong value, times what it should be",
        min: 1,
        max: 12,
        step: 0.1,
        value: 10,
        format: (value) => value.toFixed(1),
      },
    ],

    compute({ factor }, data) {
      const x = [factor * data.x[0], ...data.x.slice(1)];
      const right = scalings(data.x);
      const wrong = scalings(x);
      const values = {};
      const left = {}; // what the others keep of their spread
      for (const [name, [shift, spread]] of Object.entries(wrong)) {
        values[name] = x.map((value) => (value - shift) / spread);
        left[name] = right[name][1] / spread;
      }
      return { values, left };
    },

    draw({ values, left }, state, { plot, Plot, data, width, height, color, handle, d3 }) {
      const strips = Object.entries(values).map(([name, x]) => {
        const [low, high] = data.windows[name];
        const outside = x[0] > high;
        const title = name === "raw" ? "raw" : `${name}: the others keep ${percent(left[name])}`;
        return plot({
          height: height / 4,
          marginTop: 24,
          marginLeft: 14,
          marginRight: 14,
          marginBottom: 22,
          x: { domain: [low, high], label: null, ticks: width < 500 ? 4 : 8 },
          y: { domain: [-1.2, 1.2], axis: null },
          marks: [
            Plot.gridX({ stroke: color.grid, strokeOpacity: 1 }),
            Plot.text([title], { frameAnchor: "top-left", dy: -20, fontWeight: 600, fill: color[COLORS[name]] }),
            Plot.dot(x.slice(1), {
              x: (value) => value,
              y: data.lift.slice(1),
              r: 3,
              fill: color[COLORS[name]],
              fillOpacity: 0.5,
            }),
            outside
              ? Plot.text([`at ${x[0].toFixed(1)} ▶`], { frameAnchor: "right", fill: color.orange, fontWeight: 600 })
              : Plot.dot([x[0]], { x: (value) => value, y: 0, r: 6, fill: color.orange }),
          ],
        });
      });
      const scale = strips[0].scale("x");
      handle("factor", strips[0], scale.apply(values.raw[0]), strips[0].scale("y").apply(0), (x) => scale.invert(x) / data.x[0]);
      return strips;
    },

    say({ values, left }, { factor }) {
      if (factor === 1) return "The value is right. Every scaling leaves the others all of their spread: 100%.";
      return (
        `One value is ${factor.toFixed(1)} times what it should be. The other ${values.raw.length - 1} keep ` +
        `${percent(left["min-max"])} of their spread after min-max scaling, ${percent(left.standardized)} after ` +
        `standardization, ${percent(left.robust)} after robust scaling.`
      );
    },
  });
})();
