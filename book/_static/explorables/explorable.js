// Brings the figures to life that a reader moves. In the page as it was built each is a still picture, and stays one on
// paper and where scripts don't run. When a figure comes near, its script (NAME.js), its data (data/NAME.js) and the
// libraries that draw (vendor/d3, vendor/plot) are loaded; a page whose figures nobody reaches pays for none of them.
//
// NAME.js calls bnExplorables.define(NAME, figure), where the figure has
//
//   controls   [{ name, type, label, ... }]: what a reader moves. By type:
//                range     min, max, step, value
//                select    options: [[value, text]], value
//                checkbox  value
//                button    nothing more: the state counts how often it was pressed
//                handle    as a range, without an input of its own: `draw` puts it into the drawing (context.handle)
//              `format` turns the value of a range or handle into words.
//   compute    (state, data) => result. Pure and without DOM, with d3 for means and the like: the tests run it in Node. `state` has every control's value.
//   draw       (result, state, context) => an SVG or a list of them, one below the other.
//   say        (result, state, data) => a sentence on what is to be seen; screen readers hear it when it changes.
//
// The context of `draw`: d3, Plot, data, width and height (pixels, for all SVGs together), color (--bn-* of course.css by
// name), plot(options) (Plot.plot in the page's look), and handle(name, svg, x, y, value): a knob at x, y (pixels of the
// svg) that sets the control `name` (a range or a handle). It is dragged, `value(x, y)` says to where, or moved with the
// arrow keys. A knob of a range is for the mouse only: its keys are the range's.
"use strict";

window.bnExplorables = (() => {
  const HERE = new URL(".", document.currentScript.src);
  const COLORS = ["blue", "orange", "green", "pink", "amber", "sky", "ink", "faint", "grid"];
  const defined = new Map();
  const dataOf = new Map();
  const loading = new Map();

  function make(tag, properties, ...children) {
    const { aria = {}, ...rest } = properties;
    const element = Object.assign(document.createElement(tag), rest);
    for (const [name, value] of Object.entries(aria)) element.setAttribute(`aria-${name}`, value);
    element.append(...children);
    return element;
  }

  // Load a script once; it is a classic one, since a page on disk may have no other.
  function load(path) {
    if (!loading.has(path)) {
      const done = new Promise((resolve, reject) => {
        const failed = () => reject(new Error(`${path} could not be loaded`));
        document.head.append(make("script", { src: new URL(path, HERE).href, onload: resolve, onerror: failed }));
      });
      loading.set(path, done);
    }
    return loading.get(path);
  }

  async function loadAll(name) {
    const plot = load("../vendor/d3/d3.min.js").then(() => load("../vendor/plot/plot.umd.min.js"));
    await Promise.all([plot, load(`${name}.js`), load(`data/${name}.js`)]);
  }

  const startOf = (controls) =>
    Object.fromEntries(controls.map(({ name, type, value }) => [name, type === "button" ? 0 : value]));
  const wordsFor = ({ format }, value) => (format ? format(value) : String(value));

  // Move `value` onto the grid of a control.
  function fit({ min, max, step }, value) {
    const onGrid = min + Math.round((value - min) / step) * step;
    return Number(Math.min(max, Math.max(min, onGrid)).toFixed(10));
  }

  // The input of a control, in its label, and how to show a value in it.
  function buildInput(figure, control, id, change) {
    const { name, type, label } = control;
    if (type === "button") {
      const button = make("button", { type: "button", className: "bn-button", textContent: label });
      button.addEventListener("click", () => change({ [name]: figure.state[name] + 1 }));
      return { box: button, show() {} };
    }
    if (type === "select") {
      const input = make("select", { id, autocomplete: "off" });
      input.append(...control.options.map(([value, text]) => make("option", { value, textContent: text })));
      input.addEventListener("change", () => change({ [name]: input.value }));
      const box = make("div", { className: "bn-explorable-control" }, make("label", { htmlFor: id, textContent: label }), input);
      return { box, show: (value) => (input.value = value) };
    }
    if (type === "checkbox") {
      const input = make("input", { id, type, autocomplete: "off" });
      input.addEventListener("change", () => change({ [name]: input.checked }));
      const box = make("label", { className: "bn-explorable-check", htmlFor: id }, input, label);
      return { box, show: (value) => (input.checked = value) };
    }
    const { min, max, step } = control;
    const input = make("input", { id, type: "range", min, max, step, autocomplete: "off" });
    input.addEventListener("input", () => change({ [name]: fit(control, input.valueAsNumber) }));
    const shown = make("span", { className: "bn-explorable-value", aria: { hidden: true } });
    const line = make("div", { className: "bn-explorable-line" }, make("label", { htmlFor: id, textContent: label }), shown);
    return {
      box: make("div", { className: "bn-explorable-control" }, line, input),
      show(value) {
        input.value = value;
        shown.textContent = wordsFor(control, value);
        input.setAttribute("aria-valuetext", shown.textContent);
      },
    };
  }

  // A knob on the drawing. It is an element of the page, not of the SVG, so it outlives every redraw, with its focus.
  function buildKnob(figure, control, change) {
    const knob = make("div", { className: "bn-explorable-knob" });
    let valueAt = null;
    let origin = null;
    let grip = [0, 0]; // from the pointer to the middle of the knob
    const set = (value) => change({ [control.name]: fit(control, value) });

    if (control.type === "handle") {
      knob.tabIndex = 0;
      const attributes = { label: control.label, valuemin: control.min, valuemax: control.max };
      for (const [name, value] of Object.entries(attributes)) knob.setAttribute(`aria-${name}`, value);
      knob.setAttribute("role", "slider");
    } else {
      knob.setAttribute("aria-hidden", "true");
    }

    knob.addEventListener("pointerdown", (event) => {
      const { left, top, width, height } = knob.getBoundingClientRect();
      grip = [left + width / 2 - event.clientX, top + height / 2 - event.clientY];
      knob.setPointerCapture(event.pointerId);
    });
    knob.addEventListener("pointermove", (event) => {
      if (!knob.hasPointerCapture(event.pointerId)) return;
      const { left, top } = origin.getBoundingClientRect();
      set(valueAt(event.clientX + grip[0] - left, event.clientY + grip[1] - top));
    });
    knob.addEventListener("keydown", (event) => {
      const { min, max, step } = control;
      const value = figure.state[control.name];
      const moves = {
        ArrowRight: value + step,
        ArrowUp: value + step,
        ArrowLeft: value - step,
        ArrowDown: value - step,
        PageUp: value + 10 * step,
        PageDown: value - 10 * step,
        Home: min,
        End: max,
      };
      if (!(event.key in moves) || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      set(moves[event.key]);
    });

    return {
      knob,
      place(svg, x, y, value) {
        origin = svg;
        valueAt = value;
        const box = svg.getBoundingClientRect();
        const parent = knob.parentElement.getBoundingClientRect();
        knob.style.left = `${box.left - parent.left + x}px`;
        knob.style.top = `${box.top - parent.top + y}px`;
        knob.setAttribute("aria-valuenow", figure.state[control.name]);
        knob.setAttribute("aria-valuetext", wordsFor(control, figure.state[control.name]));
      },
    };
  }

  function bring(element, name) {
    const { controls, compute, draw, say } = defined.get(name);
    const data = dataOf.get(name);
    const figure = { state: startOf(controls) };
    const stage = element.querySelector(".bn-explorable-stage");
    const caption = element.querySelector("figcaption");
    caption.id ||= `explorable-${name}-caption`;

    const inputs = controls
      .filter(({ type }) => type !== "handle")
      .map((control) => ({ control, ...buildInput(figure, control, `explorable-${name}-${control.name}`, change) }));
    const reset = make("button", { type: "button", className: "bn-button", textContent: "Reset" });
    reset.addEventListener("click", () => change(startOf(controls)));
    const panel = make(
      "div",
      { className: "bn-explorable-controls", role: "group", aria: { label: "What you can change" } },
      ...inputs.map(({ box }) => box),
      reset,
    );

    const sentence = make("p", { className: "bn-explorable-say", id: `explorable-${name}-say` });
    const drawing = make("div", {
      className: "bn-explorable-drawing",
      role: "img",
      aria: { labelledby: caption.id, describedby: sentence.id },
    });
    const plot = make("div", { className: "bn-explorable-plot" }, drawing);
    stage.append(make("div", { className: "bn-explorable-live" }, panel, plot, sentence));

    const knobs = new Map();
    let planned = 0;
    let saying = 0;

    function change(changes) {
      Object.assign(figure.state, changes);
      planned ||= requestAnimationFrame(show);
    }

    function look() {
      const style = getComputedStyle(document.documentElement);
      return Object.fromEntries(COLORS.map((color) => [color, style.getPropertyValue(`--bn-${color}`).trim()]));
    }

    function show() {
      planned = 0;
      const state = { ...figure.state };
      for (const { control, show } of inputs) show(state[control.name]);
      const result = compute(state, data);

      const { width, height } = plot.getBoundingClientRect();
      if (!width || !height) return; // hidden, on paper for instance
      const color = look();
      const wanted = [];
      const context = {
        d3,
        Plot,
        data,
        width,
        height,
        color,
        plot: (options) =>
          Plot.plot({ width, height, ...options, style: { fontSize: "13px", color: color.ink, ...options.style } }),
        handle: (...place) => wanted.push(place),
      };
      drawing.replaceChildren(...[draw(result, state, context)].flat());
      // Plot names the kinds of its marks ("dot"). The drawing is one picture, which the caption and the sentence describe.
      for (const part of drawing.querySelectorAll("[aria-label]")) part.removeAttribute("aria-label");
      for (const [control, ...place] of wanted) {
        if (!knobs.has(control)) {
          knobs.set(control, buildKnob(figure, controls.find(({ name }) => name === control), change));
          plot.append(knobs.get(control).knob);
        }
        knobs.get(control).place(...place);
      }
      for (const [control, { knob }] of knobs) knob.hidden = !wanted.some(([name]) => name === control);

      clearTimeout(saying);
      const words = say(result, state, data);
      if (!sentence.textContent) sentence.textContent = words;
      // Not every value on the way is worth a word.
      saying = setTimeout(() => {
        if (sentence.textContent !== words) sentence.textContent = words;
        sentence.setAttribute("aria-live", "polite");
      }, 250);
    }

    new ResizeObserver(() => change({})).observe(plot);
    // The colors of light and dark are in the page's attribute data-theme.
    new MutationObserver(() => change({})).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    element.classList.add("bn-alive");
    show();
  }

  async function wake(element) {
    const name = element.dataset.explorable;
    try {
      await loadAll(name);
      bring(element, name);
    } catch (error) {
      const words = "This figure stays a picture, because a part of it could not be loaded. Load the page again to try once more.";
      element.querySelector(".bn-explorable-stage").append(make("p", { className: "bn-explorable-failed" }, words));
      console.error(`explorable ${name}:`, error);
    }
  }

  const near = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        near.unobserve(target);
        wake(target);
      }
    },
    { rootMargin: "600px" },
  );
  for (const element of document.querySelectorAll("[data-explorable]")) near.observe(element);

  return {
    define: (name, figure) => defined.set(name, figure),
    data: (name, data) => dataOf.set(name, data),
  };
})();
