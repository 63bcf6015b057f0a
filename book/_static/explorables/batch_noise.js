// The noise of batch statistics: two hundred batches of one size, and what they make of one example.
"use strict";

(() => {
  const BATCHES = 200;
  const rms = (values) => Math.sqrt(d3.mean(values.map((value) => value ** 2)));

  function moments(values) {
    const mu = d3.mean(values);
    return [mu, d3.mean(values.map((value) => (value - mu) ** 2))];
  }

  // Batches of m values of x: Park and Miller's generator, so that the same button press gives the same batches anywhere.
  function draw(x, m, seed) {
    let s = 1000 * seed + m;
    const next = () => x[(s = (s * 48271) % 2147483647) % x.length];
    return Array.from({ length: BATCHES }, () => Array.from({ length: m }, next));
  }

  const signed = (value) => value.toFixed(1).replace("-", "−");
  const two = (value) => value.toFixed(2).replace("-", "−");

  bnExplorables.define("batch_noise", {
    controls: [
      {
        name: "values",
        type: "select",
        label: "Values of",
        options: [
          ["neuron", "a neuron"],
          ["area", "areas of cells, lopsided"],
        ],
        value: "neuron",
      },
      { name: "size", type: "range", label: "Batch size", min: 2, max: 8, step: 1, value: 4, format: (power) => String(2 ** power) },
      { name: "x_hat", type: "range", label: "An example at", min: -3, max: 3, step: 0.1, value: 2, format: signed },
      { name: "again", type: "button", label: "Other batches" },
    ],

    compute({ values, size, x_hat, again }, data) {
      const { x, theory } = data[values];
      const m = 2 ** size;
      const [mu, variance] = moments(x);
      const std = Math.sqrt(variance);
      const batches = draw(x, m, again + 1).map((batch) => {
        const [batchMu, batchVariance] = moments(batch);
        return {
          mean_off: (batchMu - mu) / std,
          var_ratio: batchVariance / variance,
          seen: (mu + x_hat * std - batchMu) / Math.sqrt(batchVariance + 1e-5),
        };
      });
      const ratios = batches.map(({ var_ratio }) => var_ratio);
      const [, spread] = moments(ratios);
      const seen = batches.map((batch) => batch.seen);
      return {
        batches,
        mean_noise: rms(batches.map(({ mean_off }) => mean_off)),
        var_noise: Math.sqrt(spread),
        theory: theory[m],
        from: d3.quantile(seen, 0.05),
        to: d3.quantile(seen, 0.95),
      };
    },

    draw({ batches, from, to }, { x_hat }, { plot, Plot, width, height, color }) {
      const margins = { marginLeft: 34, marginRight: 10, marginBottom: 40 };
      const cloudHeight = Math.round(0.66 * height);
      const cloud = plot({
        ...margins,
        marginTop: 26,
        height: cloudHeight,
        x: { domain: [-1.5, 1.5], label: "mean of the batch, off by →", ticks: 7 },
        y: { domain: [0, 3], label: "↑ variance of the batch, of the true one", ticks: 6 },
        marks: [
          Plot.gridY({ stroke: color.grid, strokeOpacity: 1, ticks: 6 }),
          Plot.ruleX([0], { stroke: color.ink, strokeDasharray: "5,4" }),
          Plot.ruleY([1], { stroke: color.ink, strokeDasharray: "5,4" }),
          Plot.dot(batches, { x: "mean_off", y: "var_ratio", fill: color.blue, fillOpacity: 0.5, r: 3, clip: true }),
        ],
      });
      const lift = (_, k) => ((k * 0.618) % 1) * 2 - 1; // the golden ratio spreads them evenly
      const label = width < 500 ? `what x_hat = ${signed(x_hat)} becomes →` : `what an example of x_hat = ${signed(x_hat)} becomes →`;
      const strip = plot({
        ...margins,
        marginTop: 12,
        height: height - cloudHeight,
        x: { domain: [-6, 6], label, ticks: 7 },
        y: { type: "linear", domain: [-1.4, 1.4], axis: null },
        marks: [
          Plot.rect([0], { x1: from, x2: to, y1: -1.4, y2: 1.4, fill: color.orange, fillOpacity: 0.15, clip: true }),
          Plot.ruleX([x_hat], { stroke: color.ink, strokeDasharray: "5,4" }),
          Plot.dot(batches, { x: "seen", y: lift, fill: color.orange, fillOpacity: 0.6, r: 3, clip: true }),
        ],
      });
      return [cloud, strip];
    },

    say({ mean_noise, var_noise, theory, from, to }, { size, x_hat }) {
      return (
        `In 200 batches of ${2 ** size} the mean is off by ${two(mean_noise)} standard deviations (theory: ${two(theory[0])}), the ` +
        `variance by ${two(var_noise)} of itself (theory: ${two(theory[1])}). In nine of ten batches, an example at ` +
        `${signed(x_hat)} becomes a value from ${two(from)} to ${two(to)}.`
      );
    },
  });
})();
