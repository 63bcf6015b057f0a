// Ghost batches against the full batch: the same values, normalized by the statistics of fewer of them.
"use strict";

(() => {
  const SIZES = [2, 4, 8, 16, 32, 64, 128];

  function normalize(x, eps) {
    const mu = d3.mean(x);
    const std = Math.sqrt(d3.mean(x.map((value) => (value - mu) ** 2)) + eps);
    return x.map((value) => (value - mu) / std);
  }

  // As many ghost batches as fit, as even as can be: the first ones are one larger where it doesn't come out even.
  function cut(x, size) {
    const parts = Math.max(1, Math.floor(x.length / size));
    const [each, over] = [Math.floor(x.length / parts), x.length % parts];
    const start = (part) => part * each + Math.min(part, over);
    return Array.from({ length: parts }, (_, part) => x.slice(start(part), start(part + 1)));
  }

  const rms = (a, b) => Math.sqrt(d3.mean(a.map((value, i) => (value - b[i]) ** 2)));

  bnExplorables.define("ghost", {
    controls: [
      {
        name: "size",
        type: "range",
        label: "Examples in a ghost batch",
        min: 2,
        max: 128,
        step: 1,
        value: 32,
      },
      {
        name: "batch",
        type: "select",
        label: "Batch of 128 images",
        options: ["1", "2", "3", "4"].map((batch) => [batch, batch]),
        value: "1",
      },
    ],

    compute({ size, batch }, { batches, eps }) {
      const x = batches[batch - 1];
      const full = normalize(x, eps);
      const ghosts = cut(x, size);
      const parts = ghosts.map((ghost) => normalize(ghost, eps));
      const error = (of) => rms(cut(x, of).flatMap((ghost) => normalize(ghost, eps)), full);
      return {
        full,
        ghost: parts.flat(),
        number: parts.flatMap((part, k) => part.map(() => k)),
        sizes: ghosts.map((ghost) => ghost.length),
        error: rms(parts.flat(), full),
        curve: SIZES.map((of) => ({ size: of, error: error(of) })),
      };
    },

    draw({ full, ghost, number, error, curve }, { size }, { plot, Plot, height, color, handle }) {
      const points = full.map((value, i) => ({ full: value, ghost: ghost[i], number: number[i] }));
      const top = plot({
        height: 0.6 * height,
        marginTop: 14,
        marginLeft: 52,
        marginBottom: 38,
        x: { domain: [-3.5, 3.5], label: "x̂ by the full batch →" },
        y: { domain: [-3.5, 3.5], label: "x̂ by its ghost batch", labelAnchor: "center", labelArrow: "none", ticks: 7 },
        marks: [
          Plot.gridY({ stroke: color.grid, strokeOpacity: 1, ticks: 7 }),
          Plot.line([[-3.5, -3.5], [3.5, 3.5]], { stroke: color.ink, strokeDasharray: "4 3" }),
          Plot.line(points, { x: "full", y: "ghost", z: "number", sort: "full", stroke: color.blue, strokeOpacity: 0.35 }),
          Plot.dot(points, { x: "full", y: "ghost", r: 3, fill: color.blue, fillOpacity: 0.6 }),
        ],
      });
      const bottom = plot({
        height: 0.4 * height,
        marginTop: 12,
        marginLeft: 52,
        marginBottom: 38,
        x: { type: "log", base: 2, domain: [1.8, 142], ticks: curve.map((point) => point.size), tickFormat: "d", label: "examples in a ghost batch →" },
        y: { domain: [0, 1], label: "difference", labelAnchor: "center", labelArrow: "none", ticks: 4 },
        marks: [
          Plot.gridY({ stroke: color.grid, strokeOpacity: 1, ticks: 4 }),
          Plot.line(curve, { x: "size", y: "error", stroke: color.blue, strokeWidth: 2.5 }),
          Plot.dot(curve, { x: "size", y: "error", fill: color.blue, r: 3 }),
          Plot.dot([{ size, error }], { x: "size", y: "error", fill: color.orange, r: 6 }),
        ],
      });
      const scale = bottom.scale("x");
      handle("size", bottom, scale.apply(size), bottom.scale("y").apply(error), (x) => scale.invert(x));
      return [top, bottom];
    },

    say({ sizes, error, ghost }, { size }) {
      if (sizes.length === 1) return `One ghost batch of all ${sizes[0]} examples is the full batch: no difference.`;
      const [low, high] = [Math.min(...sizes), Math.max(...sizes)];
      const each = low === high ? `of ${low}` : `of ${low} and ${high}`;
      const two = size === 2 ? ` Nearly every value is −1 or +1 (${(100 * d3.mean(ghost.map((y) => Math.abs(Math.abs(y) - 1) < 0.01))).toFixed(0)}% of them to within 0.01).` : "";
      return (
        `${sizes.length} ghost batches ${each} examples. Normalized by its ghost batch, an example comes out ` +
        `${error.toFixed(2)} standard deviations from where the full batch puts it (root mean square).${two}`
      );
    },
  });
})();
