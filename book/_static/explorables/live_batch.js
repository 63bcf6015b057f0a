// Six values go through batch normalization, line by line.
"use strict";

(() => {
  const START = [-2, 0.2, 1.4, 2.6, 3.8, 6];
  const COLORS = ["blue", "orange", "green", "pink", "amber", "sky"];
  const DOMAIN = [-7, 9.5];

  const variance = (values) => {
    const mu = d3.mean(values);
    return d3.mean(values.map((value) => (value - mu) ** 2));
  };

  const signed = (value) => value.toFixed(1).replace("-", "−");
  const two = (value) => value.toFixed(2).replace(/^-(?=0\.00$)/, "").replace("-", "−");

  bnExplorables.define("live_batch", {
    controls: [
      {
        name: "statistics",
        type: "select",
        label: "Mean and variance of",
        options: [
          ["batch", "this batch (training)"],
          ["running", "the past (evaluation)"],
        ],
        value: "batch",
      },
      { name: "gamma", type: "range", label: "gamma", min: -1, max: 2, step: 0.1, value: 1, format: signed },
      { name: "beta", type: "range", label: "beta", min: -3, max: 3, step: 0.1, value: 0, format: signed },
      {
        name: "eps",
        type: "range",
        label: "eps",
        min: -5,
        max: 1,
        step: 0.5,
        value: -5,
        format: (power) => String(Number((10 ** power).toPrecision(1))),
      },
      ...START.map((value, k) => ({
        name: `x${k}`,
        type: "handle",
        label: `Value ${k + 1} of the batch`,
        min: -3,
        max: 7,
        step: 0.1,
        value,
        format: signed,
      })),
    ],

    compute(state, data) {
      const x = START.map((_, k) => state[`x${k}`]);
      const [mu, variance_] = state.statistics === "batch" ? [d3.mean(x), variance(x)] : [data.mean, data.var];
      const std = Math.sqrt(variance_ + 10 ** state.eps);
      const x_hat = x.map((value) => (value - mu) / std);
      const y = x_hat.map((value) => state.gamma * value + state.beta);
      return { x, mu, var: variance_, x_hat, y };
    },

    draw({ x, mu, var: variance_, x_hat, y }, { statistics }, { plot, Plot, width, height, color, handle }) {
      const lines = [
        { name: width < 500 ? "x" : "x, as it comes in", values: x, bar: [mu, Math.sqrt(variance_)] },
        { name: width < 500 ? "x_hat" : "x_hat, normalized", values: x_hat, bar: [d3.mean(x_hat), Math.sqrt(variance(x_hat))] },
        { name: width < 500 ? "y" : "y, as it leaves", values: y, bar: [d3.mean(y), Math.sqrt(variance(y))] },
      ].map((line, place) => ({ ...line, level: 2 - place }));
      const threads = x.flatMap((_, k) => lines.map(({ values, level }) => ({ k, value: values[k], level })));
      const bars = lines.map(({ bar: [middle, std], level }) => ({ level: level - 0.26, middle, low: middle - std, high: middle + std }));
      const hue = ({ k }) => color[COLORS[k]];
      const svg = plot({
        marginTop: 22,
        marginLeft: 8,
        marginRight: 8,
        marginBottom: 28,
        x: { domain: DOMAIN, label: null, ticks: width < 500 ? 5 : 9 },
        y: { type: "linear", domain: [-0.45, 2.25], axis: null },
        marks: [
          Plot.ruleX([0], { stroke: color.grid }),
          Plot.ruleY(lines, { y: "level", stroke: color.faint }),
          Plot.line(threads, { x: "value", y: "level", z: "k", stroke: hue, strokeWidth: 1.5, strokeOpacity: 0.7 }),
          Plot.dot(threads, { x: "value", y: "level", fill: hue, r: 6 }),
          Plot.ruleY(bars, { y: "level", x1: "low", x2: "high", stroke: color.ink, strokeWidth: 2, clip: true }),
          Plot.dot(bars, { x: "middle", y: "level", symbol: "diamond", fill: color.ink, r: 6, clip: true }),
          Plot.text(lines, { x: DOMAIN[0], y: "level", text: "name", textAnchor: "start", dy: -12, fontWeight: 600, fill: color.ink }),
          Plot.text([statistics === "batch" ? "mean ± std" : "running mean ± std"], {
            x: mu,
            y: 1.74,
            dy: 15,
            fill: color.ink,
          }),
        ],
      });
      const [across, down] = [svg.scale("x"), svg.scale("y")];
      x.forEach((value, k) => handle(`x${k}`, svg, across.apply(value), down.apply(2), (place) => across.invert(place)));
      return svg;
    },

    say({ mu, var: variance_, y }, { statistics, gamma }) {
      const whose = statistics === "batch" ? "The batch has" : "The running statistics are";
      const moving = statistics === "batch" ? "all six change" : "the other five stay";
      return (
        `${whose} mean ${two(mu)} and variance ${variance_ < 0.1 ? Number(variance_.toPrecision(2)) : two(variance_)}. What leaves has mean ${two(d3.mean(y))} and ` +
        `standard deviation ${two(Math.sqrt(variance(y)))}.` +
        (gamma === 0 ? " With gamma 0 it is beta, whatever comes in." : ` Move one value, and ${moving}.`)
      );
    },
  });
})();
