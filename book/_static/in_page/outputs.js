// What a cell shows below itself, from the outputs of a notebook (nbformat): text, errors, pictures, reports of checks.
//
//     const outputs = bnOutputs(place);
//     outputs.add(output);   outputs.clear();   outputs.list, as a notebook's file holds them
//
// HTML comes from the reader's own code, or from code that a reader took over from somebody: it may be a table or a
// report, and no more. What could load, run or lead anywhere is left out.
"use strict";

window.bnOutputs = (() => {
  const ELEMENTS = new Set(
    "B BR CODE DETAILS DIV EM H1 H2 H3 H4 HR I LI OL P PRE SMALL SPAN STRONG SUB SUMMARY SUP TABLE TBODY TD TFOOT TH THEAD TR UL".split(" "),
  );
  const ATTRIBUTES = new Set(["aria-hidden", "class", "colspan", "open", "role", "rowspan", "scope", "style"]);
  const ANSI = /\x1b\[[0-9;]*m/g;

  const joined = (text) => (Array.isArray(text) ? text.join("") : String(text));

  function pre(text, className) {
    return Object.assign(document.createElement("pre"), { textContent: text.replace(ANSI, ""), className });
  }

  function safeHtml(text) {
    const { body } = new DOMParser().parseFromString(text, "text/html");
    for (const element of [...body.querySelectorAll("*")]) {
      if (!ELEMENTS.has(element.tagName)) element.remove();
      for (const { name, value } of [...element.attributes]) {
        if (!ATTRIBUTES.has(name) || (name === "style" && /url\(|position/i.test(value))) element.removeAttribute(name);
      }
    }
    const box = Object.assign(document.createElement("div"), { className: "bn-output-html" });
    box.append(...body.childNodes);
    return box;
  }

  // What the figures of bnlab.in_page consist of, and what their attributes may say.
  const SHAPES = new Set(["svg", "title", "g", "clipPath", "rect", "path", "image", "text", "tspan"]);
  const DRAWN = new Set(
    "xmlns viewBox width height role aria-label font-size font-style text-anchor d x y dx dy transform preserveAspectRatio".split(" "),
  );
  const CHECKED = {
    style: /^(?!.*(url|position|image-set|@|\\))/is,
    id: /^bn[0-9a-f]{8}-\d+$/,
    "clip-path": /^url\(#bn[0-9a-f]{8}-\d+\)$/,
    href: /^data:image\/png;base64,[A-Za-z0-9+/=]*$/,
  };

  // A figure as a part of the page, whose colors it takes over; undefined for a drawing that holds anything else.
  function figure(text) {
    const svg = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
    const isFigure = [svg, ...svg.querySelectorAll("*")].every(
      (element) =>
        SHAPES.has(element.nodeName) &&
        [...element.attributes].every(({ name, value }) => DRAWN.has(name) || CHECKED[name]?.test(value)),
    );
    return isFigure && svg.nodeName === "svg" ? document.importNode(svg, true) : undefined;
  }

  function picture(mime, data, metadata) {
    const drawn = mime === "image/svg+xml" && figure(data);
    if (drawn) return drawn;
    const base64 = mime === "image/svg+xml" ? btoa(unescape(encodeURIComponent(data))) : data.replace(/\s/g, "");
    const alt = metadata?.[mime]?.alt ?? metadata?.alt ?? "A figure that this cell has drawn";
    return Object.assign(document.createElement("img"), { src: `data:${mime};base64,${base64}`, alt });
  }

  function element(output) {
    if (output.output_type === "stream") return pre(joined(output.text), `bn-output-${output.name}`);
    if (output.output_type === "error") return pre(output.traceback.join("\n"), "bn-output-error");
    const { data, metadata } = output;
    if (data["text/html"]) return safeHtml(joined(data["text/html"]));
    for (const mime of ["image/svg+xml", "image/png"]) if (data[mime]) return picture(mime, joined(data[mime]), metadata);
    return pre(joined(data["text/plain"] ?? ""), "bn-output-value");
  }

  return (place) => {
    let list = [];

    return {
      get list() {
        return list;
      },
      clear() {
        list = [];
        place.replaceChildren();
        place.removeAttribute("tabindex");
      },
      add(output) {
        const last = list.at(-1);
        if (output.output_type === "stream" && last?.output_type === "stream" && last.name === output.name) {
          last.text += output.text;
          place.lastChild.append(output.text.replace(ANSI, ""));
        } else {
          list.push(output.output_type === "stream" ? { ...output } : output);
          place.append(element(output));
        }
        // What scrolls must be within reach of the keyboard.
        if (place.scrollHeight > place.clientHeight || place.scrollWidth > place.clientWidth) place.tabIndex = 0;
      },
    };
  };
})();
