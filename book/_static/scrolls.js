// A formula that is wider than its column scrolls, and then a keyboard must reach it. The theme does the same for code.
"use strict";

(() => {
  const formulas = document.querySelectorAll('mjx-container[display="true"]');
  function update() {
    for (const formula of formulas) {
      if (formula.scrollWidth > formula.clientWidth) formula.tabIndex = 0;
      else formula.removeAttribute("tabindex");
    }
  }
  new ResizeObserver(update).observe(document.body);
  document.fonts.ready.then(update);
})();
