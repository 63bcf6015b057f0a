// Size of values and of gradients through many fresh layers, with and without batch normalization; computed here.
"use strict";

(() => {
  // phi, its derivative (given z), and the standard deviation of weights times the root of fan-in: He's, or Glorot's.
  const sigmoid = (z) => 1 / (1 + Math.exp(-z));
  const ACTIVATIONS = {
    relu: [(z) => Math.max(z, 0), (z) => (z > 0 ? 1 : 0), Math.SQRT2],
    tanh: [Math.tanh, (z) => Math.cosh(z) ** -2, 1],
    sigmoid: [sigmoid, (z) => sigmoid(z) * sigmoid(-z), 1],
    linear: [(z) => z, () => 1, 1],
  };
  const LOOKS = {
    plain: { color: "orange", dash: "6 4", label: "without BN" },
    bn: { color: "blue", label: "with BN" },
    skip: { color: "green", dash: "2 3", label: "BN, skip" },
  };

  const SEED = 7000; // as in signal_depth.py

  // Standard normal numbers: splitmix32 for uniform ones, Box and Muller for normal ones.
  const drawn = new Map();
  function normals(seed, n) {
    seed += SEED;
    const key = `${seed} ${n}`;
    if (!drawn.has(key)) {
      const uniform = (place) => {
        let z = (seed + Math.imul(place, 0x9e3779b9)) | 0;
        z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
        z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
        return (((z ^ (z >>> 15)) >>> 0) + 0.5) / 2 ** 32;
      };
      drawn.set(
        key,
        Float64Array.from({ length: n }, (_, i) => Math.sqrt(-2 * Math.log(uniform(2 * i + 1))) * Math.cos(2 * Math.PI * uniform(2 * i + 2))),
      );
    }
    return drawn.get(key);
  }

  // A product of matrices stored row by row: (m, k) times (k, n), times a number.
  function product(a, b, m, k, n, times) {
    const c = new Float64Array(m * n);
    for (let i = 0; i < m; i++)
      for (let l = 0; l < k; l++) {
        const factor = times * a[i * k + l];
        for (let j = 0; j < n; j++) c[i * n + j] += factor * b[l * n + j];
      }
    return c;
  }

  // The same with the second matrix, (n, k), turned.
  function productTurned(a, b, m, k, n, times) {
    const c = new Float64Array(m * n);
    for (let i = 0; i < m; i++)
      for (let j = 0; j < n; j++) {
        let sum = 0;
        for (let l = 0; l < k; l++) sum += a[i * k + l] * b[j * k + l];
        c[i * n + j] = times * sum;
      }
    return c;
  }

  // Normalize every column of z (m, n), in place; return 1 / std of each.
  function normalize(z, m, n, eps) {
    return Float64Array.from({ length: n }, (_, j) => {
      let mu = 0;
      let variance = 0;
      for (let i = 0; i < m; i++) mu += z[i * n + j] / m;
      for (let i = 0; i < m; i++) variance += (z[i * n + j] - mu) ** 2 / m;
      const scale = 1 / Math.sqrt(variance + eps);
      for (let i = 0; i < m; i++) z[i * n + j] = (z[i * n + j] - mu) * scale;
      return scale;
    });
  }

  // The gradient on its way back through that, in place: without its mean, and without the part along z.
  function normalizeBack(g, z, scale, m, n) {
    for (let j = 0; j < n; j++) {
      let mu = 0;
      let along = 0;
      for (let i = 0; i < m; i++) {
        mu += g[i * n + j] / m;
        along += (g[i * n + j] * z[i * n + j]) / m;
      }
      for (let i = 0; i < m; i++) g[i * n + j] = scale[j] * (g[i * n + j] - mu - z[i * n + j] * along);
    }
  }

  const size = (values) => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);

  function profile(arm, { activation, gain, depth }, { x, width, eps }) {
    const [phi, slope, std] = ACTIVATIONS[activation];
    const m = x.length;
    let h = Float64Array.from(x.flat());
    let fanIn = x[0].length;
    const layers = [];
    const values = [];
    for (let layer = 0; layer < depth; layer++) {
      const weight = normals(layer + 1, fanIn * width);
      const times = (2 ** gain * std) / Math.sqrt(fanIn);
      const z = product(h, weight, m, fanIn, width, times);
      const scale = arm === "plain" ? null : normalize(z, m, width, eps);
      const came = h;
      h = z.map(phi);
      if (arm === "skip" && layer > 0) h = h.map((value, i) => value + came[i]);
      layers.push({ weight, times, z, scale, fanIn });
      values.push(size(h));
      fanIn = width;
    }
    let g = normals(0, m * width);
    const gradients = [];
    for (let layer = depth - 1; layer >= 0; layer--) {
      gradients.unshift(size(g));
      const { weight, times, z, scale, fanIn } = layers[layer];
      const dz = g.map((value, i) => value * slope(z[i]));
      if (scale) normalizeBack(dz, z, scale, m, width);
      const back = productTurned(dz, weight, m, width, fanIn, times);
      g = arm === "skip" && layer > 0 ? back.map((value, i) => value + g[i]) : back;
    }
    return { values, gradients };
  }

  const raised = (exponent) => String(exponent).replace(/[-0-9]/g, (sign) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(sign)]);

  // 1467 as 1,500, and what is far from 1 as a power of ten.
  function times(factor) {
    if (factor >= 1e5 || factor < 1e-3) {
      const [digit, exponent] = factor.toExponential(0).split("e");
      return `${digit} · 10${raised(exponent.replace("+", ""))}`;
    }
    return Number(factor.toPrecision(2)).toLocaleString("en-US");
  }

  function power(value) {
    const exponent = Math.round(Math.log10(value));
    return exponent === 0 ? "1" : `10${raised(exponent)}`;
  }

  bnExplorables.define("signal_depth", {
    controls: [
      {
        name: "activation",
        type: "select",
        label: "Activation",
        options: [
          ["relu", "ReLU"],
          ["tanh", "tanh"],
          ["sigmoid", "sigmoid"],
          ["linear", "none (linear)"],
        ],
        value: "relu",
      },
      {
        name: "gain",
        type: "range",
        label: "Gain",
        min: -2,
        max: 4,
        step: 0.25,
        value: 0,
        format: (exponent) => (2 ** exponent).toFixed(2),
      },
      { name: "depth", type: "range", label: "Layers", min: 5, max: 50, step: 5, value: 50 },
      { name: "skip", type: "checkbox", label: "And with skip connections", value: false },
    ],

    compute(state, data) {
      const arms = state.skip ? ["plain", "bn", "skip"] : ["plain", "bn"];
      return Object.fromEntries(arms.map((arm) => [arm, profile(arm, state, data)]));
    },

    draw(result, { depth }, { plot, Plot, width, height, color, d3 }) {
      const panel = (what, title, share, labels) => {
        const points = Object.entries(result).flatMap(([arm, profile]) => profile[what].map((value, k) => ({ arm, layer: k + 1, value })));
        // At least four decades, so that what is level looks level, and at most sixty.
        const [low, high] = d3.extent(points.filter(({ value }) => value > 0), ({ value }) => Math.log10(value));
        const ends = [Math.max(-30, Math.min(-2, Math.floor(low))), Math.min(30, Math.max(2, Math.ceil(high)))];
        const step = Math.ceil((ends[1] - ends[0]) / 6);
        const ticks = d3.range(Math.ceil(ends[0] / step) * step, ends[1] + 1, step).map((exponent) => 10 ** exponent);
        const inside = ({ value }) => value >= 10 ** ends[0] && value <= 10 ** ends[1];
        return plot({
          height: share * height,
          marginTop: labels ? 42 : 22,
          marginLeft: 56,
          marginBottom: 36,
          x: { domain: [1, depth], label: "layer →", ticks: width < 500 ? 5 : 10, tickFormat: "d" },
          y: { type: "log", domain: ends.map((exponent) => 10 ** exponent), label: null, ticks, tickFormat: power },
          marks: [
            Plot.gridY(ticks, { stroke: color.grid, strokeOpacity: 1 }),
            Plot.text([title], { frameAnchor: "top-left", lineAnchor: "top", textAnchor: "start", dy: labels ? -40 : -20, fill: color.ink, fontWeight: 600 }),
            ...Object.entries(LOOKS)
              .filter(([arm]) => result[arm])
              .flatMap(([arm, look], k) => [
                Plot.line(points.filter((point) => point.arm === arm && inside(point)), {
                  x: "layer",
                  y: "value",
                  stroke: color[look.color],
                  strokeWidth: 2.5,
                  strokeDasharray: look.dash,
                }),
                labels
                  ? Plot.text([look.label], { frameAnchor: "top-left", lineAnchor: "top", textAnchor: "start", dx: [0, 92, 156][k], dy: -20, fill: color[look.color], fontWeight: 600 })
                  : null,
              ]),
          ],
        });
      };
      return [panel("values", "Size of the values", 0.52, true), panel("gradients", "Size of the gradient, coming back", 0.48, false)];
    },

    say(result, { depth, gain, activation }) {
      const forward = (arm) => times(result[arm].values.at(-1) / result[arm].values[0]);
      const back = (arm) => times(result[arm].gradients[0] / result[arm].gradients.at(-1));
      const skip = result.skip ? `; with skip connections too, by ${forward("skip")} and ${back("skip")}` : "";
      const name = { relu: "ReLU", linear: "linear" }[activation] ?? activation;
      return (
        `${depth} ${name} layers, gain ${(2 ** gain).toFixed(2)}. Without BN the values are multiplied by ` +
        `${forward("plain")} from the first layer to the last, and the gradient by ${back("plain")} on its way back; ` +
        `with BN by ${forward("bn")} and ${back("bn")}${skip}.`
      );
    },
  });
})();
