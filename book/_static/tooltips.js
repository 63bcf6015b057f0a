// Shows the definition of a glossary term beside the link to it: while the pointer is on the link or on the definition,
// while the link has the focus, and on touch with the first tap; the second follows the link. Escape puts it away.
// Without this script the link is a link, and its description is there for screen readers.
"use strict";

(() => {
  const PATIENCE = 150; // ms: a pointer that crosses a link asks nothing; one on its way to the definition may be slow
  const EDGE = 8; // px between a definition and the edges of the window

  const box = document.querySelector(".bn-definitions");
  document.querySelector("main").append(box); // out of the article, which may cut off what stands out

  const tap = Object.assign(document.createElement("p"), { className: "bn-tap", textContent: "Tap again for the glossary." });
  tap.setAttribute("aria-hidden", "true");

  let shown = null; // the link whose definition is on the page
  let waiting = 0;
  let pointer = "mouse";

  const definitionOf = (link) => document.getElementById(link.getAttribute("aria-describedby"));

  function place(link, definition) {
    const line = [...link.getClientRects()].at(-1); // a link may be broken into two lines
    const { width, height } = definition.getBoundingClientRect();
    const left = Math.min(line.left, document.documentElement.clientWidth - width - EDGE);
    const below = line.bottom + EDGE / 2;
    const above = link.getClientRects()[0].top - height - EDGE / 2;
    const top = below + height > innerHeight && above > EDGE ? above : below;
    const origin = definition.offsetParent.getBoundingClientRect();
    definition.style.left = `${Math.max(left, EDGE) - origin.left}px`;
    definition.style.top = `${top - origin.top}px`;
  }

  function show(link) {
    clearTimeout(waiting);
    if (shown === link) return;
    hide();
    const definition = definitionOf(link);
    if (!definition) return;
    shown = link;
    if (pointer === "touch") definition.append(tap);
    else tap.remove();
    definition.hidden = false;
    place(link, definition);
  }

  function hide() {
    clearTimeout(waiting);
    if (shown) definitionOf(shown).hidden = true;
    shown = null;
  }

  function later(what) {
    clearTimeout(waiting);
    waiting = setTimeout(what, PATIENCE);
  }

  const termAt = (target) => (target instanceof Element ? target.closest("a.bn-term") : null);

  document.addEventListener("pointerover", (event) => {
    if (event.pointerType === "touch") return;
    const link = termAt(event.target);
    if (link) later(() => show(link));
    else if (box.contains(event.target)) clearTimeout(waiting);
    else if (shown !== document.activeElement) later(hide);
  });

  document.addEventListener("pointerdown", (event) => {
    pointer = event.pointerType;
    if (shown && !termAt(event.target) && !box.contains(event.target)) hide();
  });

  document.addEventListener("focusin", (event) => {
    const link = termAt(event.target);
    if (!link) hide();
    else if (pointer !== "touch") show(link);
  });

  document.addEventListener("focusout", (event) => {
    if (termAt(event.target) === shown) hide();
  });

  document.addEventListener("click", (event) => {
    const link = termAt(event.target);
    if (!link || pointer !== "touch" || shown === link) return;
    event.preventDefault();
    show(link);
  });

  document.addEventListener("keydown", (event) => {
    pointer = "keyboard";
    if (event.key !== "Escape" || !shown) return;
    hide();
    event.stopPropagation(); // it is used up
  }, { capture: true });
})();
