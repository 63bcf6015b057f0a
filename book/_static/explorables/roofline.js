// How fast batch normalization is, and how fast memory lets it be: the recorded benchmark, one shape to a point.
"use strict";

(() => {
  const LOOKS = {
    torch: { color: "orange", symbol: "square" },
    "bnlab eager": { color: "pink", symbol: "triangle" },
    "bnlab numba": { color: "blue", symbol: "circle" },
    "bnlab triton": { color: "blue", symbol: "circle" },
  };
  const DEVICES = { cpu: "CPU", gpu: "GPU" };
  const MEASURES = {
    bandwidth: { label: "GB per second", type: "log" },
    share: { label: "% of the floor's speed", type: "linear" },
    times: { label: "times as fast as torch", type: "log" },
  };
  const short = (value) => String(Number(value.toPrecision(2)));

  bnExplorables.define("roofline", {
    controls: [
      {
        name: "measure",
        type: "select",
        label: "Show",
        options: [
          ["bandwidth", "GB per second"],
          ["share", "part of the floor's speed"],
          ["times", "times as fast as torch"],
        ],
        value: "bandwidth",
      },
      {
        name: "pass",
        type: "select",
        label: "Pass",
        options: [
          ["forward", "forward"],
          ["backward", "backward"],
        ],
        value: "forward",
      },
      {
        name: "layout",
        type: "select",
        label: "Layout",
        options: [
          ["NCHW", "NCHW"],
          ["channels_last", "channels_last"],
        ],
        value: "NCHW",
      },
      {
        name: "device",
        type: "select",
        label: "Device",
        options: Object.entries(DEVICES),
        value: "cpu",
      },
      { name: "shape", type: "range", label: "Shape, from small to large", min: 1, max: 17, step: 1, value: 10 },
    ],

    compute({ pass, layout, device, shape }, data) {
      if (data.missing.includes(device)) return { missing: true };
      const timings = data.devices[device].timings.filter((t) => t.pass === pass && t.layout === layout && t.dtype === "float32");
      const groups = new Map();
      for (const timing of timings) {
        const key = `${timing.network} ${timing.shape}`;
        if (!groups.has(key)) groups.set(key, []);
        groups.get(key).push(timing);
      }
      const times = data.floor[pass]; // how often the input's bytes move, at least; a copy moves them twice
      const shapes = [...groups.values()].map((rows) => {
        const { network, shape, layers, bytes } = rows[0];
        const took = Object.fromEntries(rows.map((row) => [row.name, row.milliseconds]));
        const floor = (times / 2) * took.copy;
        const points = Object.keys(took)
          .filter((name) => name !== "copy")
          .map((name) => ({
            name,
            milliseconds: took[name],
            bandwidth: (times * bytes) / took[name] / 1e6,
            share: (100 * floor) / took[name],
            times: took.torch / took[name],
          }));
        return { network, shape, layers, mib: bytes / 2 ** 20, floor, copy: (2 * bytes) / took.copy / 1e6, points };
      });
      shapes.sort((a, b) => a.mib - b.mib || a.network.localeCompare(b.network) || b.shape[1] - a.shape[1]);
      return { missing: false, shapes, chosen: shapes[Math.min(shape, shapes.length) - 1] };
    },

    draw({ missing, shapes, chosen }, { measure, device }, { plot, Plot, width, height, color, handle, d3 }) {
      if (missing) {
        const words = `No ${DEVICES[device]} has been measured yet.`;
        return plot({ height, axis: null, marks: [Plot.text([words], { frameAnchor: "middle", fontSize: 16, fill: color.ink })] });
      }
      const points = shapes.flatMap(({ mib, points }) => points.map((point) => ({ mib, ...point })));
      const names = [...new Set(points.map(({ name }) => name))];
      const { label, type } = MEASURES[measure];
      const values = points.map((point) => point[measure]);
      const reference = { bandwidth: [], share: [100], times: [1] }[measure];
      const copies = d3.rollups(shapes, (group) => d3.median(group, ({ copy }) => copy), ({ mib }) => mib);
      const top = d3.max([...values, ...reference, ...(measure === "bandwidth" ? copies.map(([, copy]) => copy) : [])]);
      const low = type === "linear" ? 0 : d3.min([...values, ...reference]) / 1.3;
      const letter = width < 500 ? 6.9 : 8; // pixels
      const start = (k) => letter * names.slice(0, k).reduce((sum, name) => sum + name.length + 3, 0);
      const legend = names.map((name, k) =>
        Plot.text([`${{ square: "■", triangle: "▲", circle: "●" }[LOOKS[name].symbol]} ${name}`], {
          frameAnchor: "top-left",
          textAnchor: "start",
          lineAnchor: "top",
          dx: start(k),
          dy: -38,
          fill: color[LOOKS[name].color],
          fontWeight: 600,
          fontSize: width < 500 ? 11 : 13,
        }),
      );
      const svg = plot({
        height,
        marginTop: 42,
        marginLeft: 52,
        marginBottom: 40,
        x: { type: "log", label: "input in MiB →", tickFormat: "~g", ticks: 5, domain: [2.2, 560] },
        y: { type, domain: [low, top * 1.15], label, labelAnchor: "center", labelArrow: "none", tickFormat: type === "log" ? "~g" : "d", ticks: 5 },
        marks: [
          Plot.gridY({ stroke: color.grid, strokeOpacity: 1, ticks: 5 }),
          Plot.ruleX([chosen.mib], { stroke: color.faint, strokeWidth: 1.5 }),
          Plot.ruleY(reference, { stroke: color.ink, strokeWidth: 1.5 }),
          measure === "bandwidth" ? Plot.line(copies, { stroke: color.ink, strokeWidth: 2 }) : null,
          measure === "bandwidth" ? Plot.text([copies.at(-1)], { text: ["a copy"], dy: -10, dx: -16, fill: color.ink }) : null,
          measure === "share" ? Plot.text(["the floor"], { frameAnchor: "right", y: 100, dy: 10, dx: -4, fill: color.ink }) : null,
          Plot.dot(points, {
            x: "mib",
            y: measure,
            symbol: (p) => LOOKS[p.name].symbol,
            fill: (p) => color[LOOKS[p.name].color],
            fillOpacity: 0.55,
            r: 4,
          }),
          Plot.dot(chosen.points, {
            x: () => chosen.mib,
            y: measure,
            symbol: (p) => LOOKS[p.name].symbol,
            fill: (p) => color[LOOKS[p.name].color],
            stroke: color.ink,
            strokeWidth: 1.5,
            r: 7,
          }),
          ...legend,
        ],
        symbol: { type: "identity" },
      });
      const scale = svg.scale("x");
      const nearest = (x) => 1 + d3.minIndex(shapes, ({ mib }) => Math.abs(scale.apply(mib) - x));
      handle("shape", svg, scale.apply(chosen.mib), svg.scale("y").apply(top * 1.15), nearest);
      return svg;
    },

    say({ missing, chosen }, { pass, layout, device }, data) {
      if (missing) return `No ${DEVICES[device]} has been measured yet, so there is nothing to show. The command that measures one is: make bench-${device}.`;
      const { network, shape, layers, floor, points } = chosen;
      const each = points.map(({ name, milliseconds, share }) => `${name} ${short(milliseconds)} ms (${share.toFixed(0)}%)`);
      const { machine, date } = data.devices[device];
      return (
        `${shape.join(" × ")}, ${layers > 1 ? `in ${layers} layers` : "in one layer"} of ${network}, ${pass}, ${layout}. ` +
        `The floor is ${short(floor)} ms (100%); ${each.join(", ")}. Measured on ${machine}, ${date}.`
      );
    },
  });
})();
