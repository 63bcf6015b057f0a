// AdaBN by degrees: histograms of the first layer, normalized here, and accuracies that were measured.
"use strict";

(() => {
  const WINDOW = 4; // the histograms show x_hat from -4 to 4
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const median = (values) => [...values].sort((a, b) => a - b)[(values.length - 1) / 2]; // of an odd number

  // A histogram of x becomes one of x_hat: each edge goes where normalization sends it.
  function normalize(edges, seen, channel, mean, scale) {
    const counts = seen.counts[channel];
    const at = edges[channel].map((x) => (x - mean) / scale);
    return {
      bars: counts.map((count, k) => ({
        from: at[k],
        to: at[k + 1],
        density: count / sum(counts) / (at[k + 1] - at[k]),
      })),
      mean: (seen.mean[channel] - mean) / scale,
      std: Math.sqrt(seen.var[channel]) / scale,
    };
  }

  const range = (values, digits) => `${Math.min(...values).toFixed(digits)} to ${Math.max(...values).toFixed(digits)}`;
  const signed = (value) => value.toFixed(1).replace(/^-0\.0$/, "0.0").replace("-", "−");

  bnExplorables.define("adabn", {
    controls: [
      {
        name: "moved",
        type: "range",
        label: "Statistics moved",
        min: 0,
        max: 100,
        step: 10,
        value: 50,
        format: (percent) => `${percent}%`,
      },
      {
        name: "shift",
        type: "select",
        label: "What has changed",
        options: [
          ["lamp", "the light is orange"],
          ["ginger", "all garments are orange"],
          ["colors", "each has its own color"],
        ],
        value: "lamp",
      },
      {
        name: "images",
        type: "select",
        label: "New images, unlabeled",
        options: ["1", "16", "1000"].map((n) => [n, n]),
        value: "1000",
      },
      {
        name: "channel",
        type: "range",
        label: "Channel",
        min: 1,
        max: 8,
        step: 1,
        value: 1,
      },
    ],

    compute({ moved, shift, images, channel }, data) {
      const c = channel - 1;
      const share = moved / 100;
      const { old, eps, edges, seen } = data;
      const fresh = data.new[shift][images];
      const between = (name) => (1 - share) * old[name][c] + share * fresh[name][c];
      const spread = (variance) => Math.sqrt(variance + eps);
      const runs = data.accuracy[shift][images]; // seeds x places
      const curve = data.moved.map((at, k) => {
        const values = runs.map((run) => run[k]);
        return { at, median: median(values), low: Math.min(...values), high: Math.max(...values), values };
      });
      return {
        gray: normalize(edges, seen.gray, c, old.mean[c], spread(old.var[c])),
        now: normalize(edges, seen[shift], c, between("mean"), spread(between("var"))),
        curve,
        here: curve[data.moved.indexOf(moved)],
      };
    },

    draw({ gray, now, curve, here }, { channel }, { plot, Plot, data, height, color, handle }) {
      const inside = (x) => Math.min(WINDOW, Math.max(-WINDOW, x));
      const bars = (histogram, look) =>
        Plot.rectY(
          histogram.bars.filter(({ from, to }) => inside(from) < inside(to)),
          { x1: ({ from }) => inside(from), x2: ({ to }) => inside(to), y: ({ density }) => Math.min(density, top), inset: 0, ...look },
        );
      const top = 1.5 * Math.max(...gray.bars.map((bar) => bar.density), 0.5);
      const legend = (words, fill, dx) =>
        Plot.text([words], { frameAnchor: "top-left", textAnchor: "start", lineAnchor: "top", dx, dy: -20, fill, fontWeight: 600 });
      const above = plot({
        height: 0.52 * height,
        marginTop: 24,
        marginLeft: 52,
        marginBottom: 38,
        x: { domain: [-WINDOW, WINDOW], label: `x̂ of channel ${channel} →` },
        y: { domain: [0, top], label: "density", labelAnchor: "center", labelArrow: "none", ticks: 3 },
        marks: [
          bars(gray, { fill: color.faint, fillOpacity: 0.35 }),
          bars(now, { fill: color.blue, fillOpacity: 0.45, stroke: color.blue, strokeWidth: 0.75 }),
          Plot.ruleX([inside(now.mean)], { stroke: color.blue, strokeWidth: 2 }),
          Plot.ruleX([gray.mean], { stroke: color.ink, strokeDasharray: "3 3" }),
          legend("gray, as in training", color.faint, 0),
          legend("new images", color.blue, 158),
        ],
      });
      const below = plot({
        height: 0.48 * height,
        marginTop: 12,
        marginLeft: 52,
        marginBottom: 38,
        x: { domain: [0, 100], label: "statistics moved, % →" },
        y: { domain: [0, 100], label: "accuracy, %", labelAnchor: "center", labelArrow: "none", ticks: 5 },
        marks: [
          Plot.gridY({ stroke: color.grid, strokeOpacity: 1, ticks: 5 }),
          Plot.areaY(curve, { x: "at", y1: "low", y2: "high", fill: color.blue, fillOpacity: 0.2 }),
          Plot.line(curve, { x: "at", y: "median", stroke: color.blue, strokeWidth: 2.5 }),
          Plot.dot(curve, { x: "at", y: "median", fill: color.blue, r: 3 }),
          Plot.ruleY([median(data.gray)], { stroke: color.ink, strokeDasharray: "2 3" }),
          Plot.text(["on gray garments"], { frameAnchor: "bottom-left", x: 0, y: median(data.gray), dy: -4, dx: 4, textAnchor: "start", lineAnchor: "bottom", fill: color.ink }),
          Plot.dot([here], { x: "at", y: "median", fill: color.blue, r: 6 }),
        ],
      });
      const scale = below.scale("x");
      handle("moved", below, scale.apply(here.at), below.scale("y").apply(here.median), (x) => scale.invert(x));
      return [above, below];
    },

    say({ now, gray, curve, here }, { moved, images, channel }, data) {
      const whose = images === "1" ? "one image" : `${images} images`;
      const statistics =
        moved === 0 ? "With the old statistics" : moved === 100 ? `With the statistics of ${whose}` : `With statistics ${moved}% of the way to those of ${whose}`;
      const before = moved === 0 ? "" : `${Math.round(curve[0].median)}% before and `;
      return (
        `${statistics}, channel ${channel} has mean ${signed(now.mean)} and standard deviation ${now.std.toFixed(1)} ` +
        `(gray: ${signed(gray.mean)} and ${gray.std.toFixed(1)}). ${Math.round(here.median)}% of the garments are ` +
        `recognized (five networks: ${range(here.values, 0)}), ` +
        `against ${before}${Math.round(median(data.gray))}% on gray garments.`
      );
    },
  });
})();
