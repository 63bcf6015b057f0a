// Test error against the learning rate, at a depth to choose: the recorded grid, cut open.
"use strict";

(() => {
  const ARMS = { he: ["he", "bn", "skip"], default: ["default", "bn default"] };
  const LOOKS = {
    he: { color: "orange", dash: "6 4", label: "without BN" },
    default: { color: "orange", dash: "6 4", label: "without BN" },
    bn: { color: "blue", label: "with BN" },
    "bn default": { color: "blue", label: "with BN" },
    skip: { color: "green", dash: "2 3", label: "small steps" },
  };
  const median = (values) => [...values].sort((a, b) => a - b)[(values.length - 1) / 2]; // of an odd number
  const percent = (share) => `${Math.round(100 * share)}%`;
  const short = (value) => String(Number(value.toPrecision(2)));

  bnExplorables.define("learning_rate_depth", {
    controls: [
      {
        name: "depth",
        type: "select",
        label: "Hidden layers",
        options: ["2", "4", "8", "16", "32"].map((depth) => [depth, depth]),
        value: "2",
      },
      {
        name: "start",
        type: "select",
        label: "Initial weights",
        options: [
          ["he", "He's (the fair pair)"],
          ["default", "PyTorch's default"],
        ],
        value: "he",
      },
      {
        name: "rate",
        type: "range",
        label: "Learning rate",
        min: 0,
        max: 7,
        step: 1,
        value: 4,
        format: (place) => short(0.00794 * 10 ** (0.4 * place)),
      },
    ],

    compute({ depth, start, rate }, { errors, rates, trains }) {
      const arms = {};
      for (const arm of ARMS[start]) {
        const seeds = errors[arm][depth]; // rates x seeds
        const curve = seeds.map((row, k) => ({
          rate: rates[k],
          median: median(row),
          low: Math.min(...row),
          high: Math.max(...row),
        }));
        const largest = seeds[0].map((_, seed) =>
          Math.max(0, ...rates.filter((_, k) => seeds[k][seed] <= trains)),
        );
        const best = curve.reduce((best, point) => (point.median < best.median ? point : best));
        arms[arm] = { curve, here: curve[rate], largest, middle: median(largest), best };
      }
      const [without, withBn] = ARMS[start].map((arm) => arms[arm].largest);
      // Where neither trains BN gives no room, and where it alone does, room without end.
      const room = median(withBn.map((rate, seed) => (rate === without[seed] ? 1 : rate / without[seed])));
      return { arms, room, rate: rates[rate] };
    },

    draw({ arms, rate }, state, { plot, Plot, data, height, color, handle }) {
      const ratio = data.rates[1] / data.rates[0];
      const marks = Object.entries(arms).flatMap(([arm, { curve }], k) => {
        const look = LOOKS[arm];
        const fill = color[look.color];
        return [
          Plot.areaY(curve, { x: "rate", y1: (p) => 100 * p.low, y2: (p) => 100 * p.high, fill, fillOpacity: 0.2 }),
          Plot.line(curve, { x: "rate", y: (p) => 100 * p.median, stroke: fill, strokeWidth: 2.5, strokeDasharray: look.dash }),
          Plot.dot(curve, { x: "rate", y: (p) => 100 * p.median, fill, r: 3.5 }),
          Plot.text([look.label], {
            frameAnchor: "top-left",
            textAnchor: "start",
            lineAnchor: "top",
            dx: [0, 90, 154][k],
            dy: -36,
            fill,
            fontWeight: 600,
          }),
        ];
      });
      const svg = plot({
        height,
        marginTop: 44,
        marginLeft: 50,
        marginBottom: 40,
        x: { type: "log", domain: [data.rates[0] / ratio ** 0.4, data.rates.at(-1) * ratio ** 0.4], label: "learning rate →", tickFormat: "~g", ticks: 4 },
        y: { domain: [0, 100], label: "test error, %", labelAnchor: "center", labelArrow: "none", ticks: 5 },
        marks: [
          Plot.gridY({ stroke: color.grid, strokeOpacity: 1, ticks: 5 }),
          Plot.ruleX([rate], { stroke: color.faint, strokeWidth: 1.5 }),
          Plot.ruleY([100 * data.trains], { stroke: color.ink, strokeDasharray: "2 3" }),
          ...marks,
        ],
      });
      const scale = svg.scale("x");
      handle("rate", svg, scale.apply(rate), svg.scale("y").apply(100), (x) => Math.log(scale.invert(x) / data.rates[0]) / Math.log(ratio));
      return svg;
    },

    say({ arms, room, rate }, { depth, start }) {
      const [without, withBn] = ARMS[start].map((arm) => arms[arm]);
      const reach = ({ middle }) => (middle ? `${short(middle)}` : "none");
      const times =
        !withBn.middle && !without.middle
          ? "Neither trains at any rate."
          : `The largest rate that trains is ${reach(withBn)} with BN and ${reach(without)} without` +
            (withBn.middle && without.middle ? `: ${short(room)} times.` : ".");
      const skip = arms.skip ? ` Small steps without BN: ${percent(arms.skip.here.median)}.` : "";
      return (
        `${depth} hidden layers, learning rate ${short(rate)}: ${percent(withBn.here.median)} of the test digits are ` +
        `wrong with BN, ${percent(without.here.median)} without.${skip} ${times}`
      );
    },
  });
})();
