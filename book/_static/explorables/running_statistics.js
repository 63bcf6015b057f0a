// Running statistics of one neuron: how they follow the batches, by momentum and batch size.
"use strict";

(() => {
  const rms = (values) => Math.sqrt(d3.mean(values.map((value) => value ** 2)));
  const momentumOf = (power) => Number((10 ** power).toPrecision(2));

  bnExplorables.define("running_statistics", {
    controls: [
      {
        name: "momentum",
        type: "range",
        label: "Momentum",
        min: -2,
        max: 0,
        step: 0.1,
        value: -1,
        format: (power) => String(momentumOf(power)),
      },
      { name: "size", type: "range", label: "Batch size", min: 1, max: 6, step: 1, value: 4, format: (power) => String(2 ** power) },
      { name: "jump", type: "checkbox", label: "The weights change in the middle", value: true },
    ],

    compute({ momentum, size, jump }, data) {
      const weight = momentumOf(momentum);
      const m = 2 ** size;
      const half = data.batches.length / 2;
      const std = Math.sqrt(data.var);
      const steps = [];
      let [running, runningVar] = [0, 1];
      data.batches.forEach((batch, k) => {
        const late = jump && k >= half;
        const x = batch.slice(0, m).map((value) => (late ? 1.5 * value - std : value));
        const mu = d3.mean(x);
        const unbiased = x.reduce((sum, value) => sum + (value - mu) ** 2, 0) / (m - 1);
        running = (1 - weight) * running + weight * mu;
        runningVar = (1 - weight) * runningVar + weight * unbiased;
        steps.push({
          mean: mu,
          var: unbiased,
          running_mean: running,
          running_var: runningVar,
          true_mean: late ? 1.5 * data.mean - std : data.mean,
          true_var: late ? 2.25 * data.var : data.var,
        });
      });
      // How far off in the second half of what stays as it is: in standard deviations of the neuron.
      const settled = steps.slice(half / 2, half);
      const off = (name) => rms(settled.map((step) => (step[name] - step.true_mean) / std));
      return {
        weight,
        steps,
        batch_off: off("mean"),
        running_off: off("running_mean"),
        worth: (2 - weight) / weight,
        start: (1 - weight) ** half,
        // Batches after the middle until the running mean is near the true one; negative where it doesn't come near.
        arrival: steps.findIndex((step, k) => k >= half && Math.abs(step.running_mean - step.true_mean) < 0.5 * std) + 1 - half,
      };
    },

    draw({ steps }, state, { plot, Plot, width, height, color }) {
      const panel = (name, begin, title, domain, last) => {
        const line = [begin, ...steps.map((step) => step[`running_${name}`])];
        const after = (_, k) => k + 1;
        return plot({
          height: height / 2,
          marginTop: 28,
          marginLeft: 40,
          marginRight: 16,
          marginBottom: last ? 36 : 22,
          x: { domain: [0, steps.length], label: last ? "batch →" : null },
          y: { domain, label: null, ticks: 5, clamp: true },
          marks: [
            Plot.gridY({ stroke: color.grid, strokeOpacity: 1, ticks: 5 }),
            Plot.text([title], { frameAnchor: "top-left", dx: -36, dy: -26, fontWeight: 600, fill: color.ink }),
            Plot.dot(steps, { x: after, y: name, fill: color.blue, fillOpacity: 0.5, r: 3 }),
            Plot.line(steps, { x: after, y: `true_${name}`, stroke: color.ink, strokeDasharray: "5,4" }),
            Plot.line(line, { x: (_, k) => k, y: (value) => value, stroke: color.orange, strokeWidth: 2.5 }),
          ],
        });
      };
      const all = steps.flatMap((step) => [step.mean, step.running_mean]);
      const vars = steps.map((step) => step.true_var);
      const legend = width < 500 ? "" : ": batches (dots), running (line), of all images (dashed)";
      return [
        panel("mean", 0, `mean${legend}`, [Math.min(0, ...all), Math.max(0, ...all)], false),
        panel("var", 1, "variance", [0, 2.5 * Math.max(...vars)], true),
      ];
    },

    say({ weight, batch_off, running_off, worth, start, arrival }, { size, jump }) {
      const percent = (share) => {
        const value = 100 * share;
        return value < 0.1 ? "less than 0.1%" : `${Number(value.toPrecision(2))}%`;
      };
      const batches = (count) => `${Number(count.toPrecision(2))} ${count < 1.5 ? "batch" : "batches"}`;
      const late =
        arrival > 0 ? `it is near the new one after ${batches(arrival)}` : "50 batches don't bring it near the new one";
      return (
        `Momentum ${weight} is worth a plain average over ${batches(worth)}. During batches 26 to 50, the mean of ` +
        `${2 ** size} values is off by ${batch_off.toFixed(2)} standard deviations, the running mean by ` +
        `${running_off.toFixed(2)}. ` +
        (jump ? `When the weights change, ${late}.` : `After 50 batches the start still weighs ${percent(start)}.`)
      );
    },
  });
})();
