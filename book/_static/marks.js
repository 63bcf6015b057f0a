// Marks pages as read: a box to tick at a chapter's end, a sign in the sidebar. That somebody scrolled to the end doesn't
// mean that they have read it, so only the reader says so.
"use strict";

(() => {
  const name = (page) => `read/${page}`;
  const place = document.querySelector(".bn-read"); // chapters and problem sets have one, hidden without this script
  const box = place?.querySelector("input");

  function show() {
    for (const link of document.querySelectorAll(".bd-links a")) {
      link.classList.toggle("bn-is-read", bnKept.get(name(bnKept.page(link.href))) !== undefined);
    }
    if (box) box.checked = bnKept.get(name(bnKept.page(location))) !== undefined;
  }

  if (box) {
    place.hidden = false;
    box.addEventListener("change", () => {
      const page = name(bnKept.page(location));
      const lasts = box.checked ? bnKept.set(page, {}) : bnKept.remove(page);
      place.querySelector("[role=status]").textContent =
        lasts === false ? "This browser doesn't let the page keep it: it is forgotten when you leave." : "";
    });
  }
  show();
  document.addEventListener("bn-kept", show);
})();
