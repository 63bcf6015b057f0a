// Batch normalization behind the convolutions of a trained network: gamma to choose, eps to move.
"use strict";

(() => {
  const GAMMA = {
    exact: (variance, eps) => Math.sqrt(variance + eps),
    root: (variance) => Math.sqrt(variance),
    var: (variance) => variance,
    one: () => 1,
  };
  const NAMES = { exact: "√(σ² + ε)", root: "√σ²", var: "σ²", one: "1" };
  const LOWEST = -8; // of the exponents of eps
  const raised = (exponent) => String(exponent).replace(/[-0-9]/g, (sign) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(sign)]);
  const power = (exponent) => (exponent === 0 ? "1" : `10${raised(exponent)}`);

  // What is only rounding as what it is, 0.0047 as 0.5%, 5.9 as it is.
  function change(value) {
    if (value < 1e-12) return "by nothing but rounding";
    if (value >= 2) return `by ${value.toFixed(1)} times the largest`;
    const percent = 100 * value;
    if (percent >= 0.1) return `by ${percent >= 10 ? percent.toFixed(0) : percent.toFixed(1)}% of the largest`;
    const exponent = Math.floor(Math.log10(value));
    return `by ${Math.floor(value / 10 ** exponent)} · ${power(exponent)} of the largest`;
  }

  bnExplorables.define("insertion", {
    controls: [
      {
        name: "gamma",
        type: "select",
        label: "γ of the inserted layers",
        options: [
          ["one", "1 (a fresh layer, β = 0)"],
          ["var", "σ² (and β = μ)"],
          ["root", "√σ² (and β = μ)"],
          ["exact", "√(σ² + ε) (and β = μ)"],
        ],
        value: "one",
      },
      { name: "eps", type: "range", label: "ε", min: LOWEST, max: 0, step: 1, value: -5, format: power },
    ],

    compute({ gamma, eps }, data) {
      const value = data.eps[eps - LOWEST];
      const channels = data.layers.flatMap(({ mean, var: variances }, layer) =>
        variances.map((variance, c) => {
          const slope = GAMMA[gamma](variance, value) / Math.sqrt(variance + value);
          const mu = gamma === "one" ? 0 : mean[c];
          const before = Math.sqrt(variance);
          return {
            layer: layer + 1,
            before,
            after: slope * before,
            // root mean square of what is added to the channel's values, in its own standard deviations
            error: Math.hypot((slope - 1) * before, mu - mean[c]) / before,
          };
        }),
      );
      return { channels, measured: data.measured[gamma][eps - LOWEST] };
    },

    draw({ channels, measured }, { gamma, eps }, { plot, Plot, data, width, height, color, handle, d3 }) {
      const ends = d3.extent(channels, (channel) => channel.before);
      const top = plot({
        height: 0.6 * height,
        marginTop: 14,
        marginLeft: 60,
        marginBottom: 38,
        x: { type: "log", domain: [ends[0] / 1.2, ends[1] * 1.2], label: "standard deviation before →", tickFormat: "~g", ticks: 5 },
        y: { type: "log", domain: [0.008, 20], label: "behind the layer", labelAnchor: "center", labelArrow: "none", tickFormat: "~g", ticks: 4 },
        marks: [
          Plot.line([ends, ends].map((_, k) => [ends[k], ends[k]]), { stroke: color.ink, strokeDasharray: "4 3" }),
          Plot.text([[ends[0], ends[0]]], { text: ["unchanged"], dx: 6, dy: 14, fill: color.ink, textAnchor: "start" }),
          Plot.dot(channels, { x: "before", y: "after", r: 3.5, fill: gamma === "exact" ? color.blue : color.orange, fillOpacity: 0.6 }),
        ],
      });
      const points = Object.entries(data.measured).flatMap(([name, rows]) =>
        rows.map(({ change }, k) => ({ name, eps: data.eps[k], change: Math.max(change, 1e-16) })),
      );
      const here = { eps: data.eps[eps - LOWEST], change: Math.max(measured.change, 1e-16) };
      const bottom = plot({
        height: 0.4 * height,
        marginTop: 12,
        marginLeft: 60,
        marginBottom: 38,
        x: { type: "log", label: "ε →", tickFormat: (e) => power(Math.round(Math.log10(e))), ticks: width < 500 ? 4 : 8 },
        y: { type: "log", domain: [1e-17, 100], label: "change", labelAnchor: "center", labelArrow: "none", tickFormat: (v) => power(Math.round(Math.log10(v))), ticks: 4 },
        marks: [
          Plot.gridY({ stroke: color.grid, strokeOpacity: 1, ticks: 4 }),
          Plot.line(points, {
            x: "eps",
            y: "change",
            z: "name",
            stroke: (p) => (p.name !== gamma ? color.faint : gamma === "exact" ? color.blue : color.orange),
            strokeWidth: 2,
          }),
          Plot.text(
            points.filter((p) => p.eps === data.eps[0] && p.name !== "one"),
            {
              x: "eps",
              y: "change",
              text: (p) => `γ = ${NAMES[p.name]}`,
              dx: 4,
              dy: -9,
              textAnchor: "start",
              fill: (p) => (p.name !== gamma ? color.faint : gamma === "exact" ? color.blue : color.orange),
            },
          ),
          Plot.text([points.find((p) => p.name === "one")], {
            x: "eps",
            y: "change",
            text: ["γ = 1"],
            dx: 4,
            dy: 10,
            textAnchor: "start",
            fill: gamma === "one" ? color.orange : color.faint,
          }),
          Plot.dot([here], { x: "eps", y: "change", r: 6, fill: gamma === "exact" ? color.blue : color.orange }),
        ],
      });
      const scale = bottom.scale("x");
      handle("eps", bottom, scale.apply(here.eps), bottom.scale("y").apply(here.change), (x) => Math.log10(scale.invert(x)));
      return [top, bottom];
    },

    say({ channels, measured }, { gamma, eps }) {
      const factors = channels.map(({ before, after }) => after / before);
      const [low, high] = [Math.min(...factors), Math.max(...factors)].map((factor) => factor.toFixed(2));
      const what = low === high && low === "1.00" ? "All standard deviations stay as they are" : `Standard deviations become ${low} to ${high} times what they were`;
      const means = gamma === "one" ? " and all means 0" : "";
      const classes =
        measured.classes === 0
          ? "and no image changes its class"
          : `and ${(100 * measured.classes).toFixed(0)}% of the images change their class`;
      return (
        `γ = ${NAMES[gamma]}, ε = ${power(eps)}. ${what}${means}. With such layers behind all six convolutions, the ` +
        `outputs of the network change ${change(measured.change)}, ${classes}.`
      );
    },
  });
})();
