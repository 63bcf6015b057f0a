// The menus at the top of a page, such as that of downloads: a button shows and hides the list beside it. The theme's markup
// is Bootstrap's; of Bootstrap's 80 kB this is what the course needs.
"use strict";

(() => {
  const buttons = [...document.querySelectorAll('[data-bs-toggle="dropdown"]')];
  const menuOf = (button) => button.parentElement.querySelector(".dropdown-menu");
  const itemsOf = (button) => [...menuOf(button).querySelectorAll("a, button")];

  function set(button, open) {
    button.setAttribute("aria-expanded", open);
    menuOf(button).classList.toggle("show", open);
  }

  const isOpen = (button) => button.getAttribute("aria-expanded") === "true";

  for (const button of buttons) {
    button.addEventListener("click", () => set(button, !isOpen(button)));
    button.parentElement.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && isOpen(button)) {
        set(button, false);
        button.focus();
      }
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      set(button, true);
      const items = itemsOf(button);
      const at = items.indexOf(document.activeElement);
      items.at(at < 0 && step < 0 ? -1 : (at + step + items.length) % items.length).focus();
    });
    button.parentElement.addEventListener("focusout", (event) => {
      if (event.relatedTarget && !button.parentElement.contains(event.relatedTarget)) set(button, false);
    });
  }

  document.addEventListener("click", (event) => {
    for (const button of buttons) if (!button.parentElement.contains(event.target)) set(button, false);
  });
})();
