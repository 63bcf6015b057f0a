// What a reader's browser keeps of this course: pages marked as read, answers to quizzes, scores of exercises. It is
// written to localStorage and to nothing else. A key is "bn-course/v1/" and a name ("read/PAGE", "quiz/PAGE",
// "exercise/SET/QUESTION", "answer/SET/CELL"); a value is JSON with the time `when` it was written.
//
// A browser may forbid storage, or it may be full. Then a value lives as long as the page, and `lasts` says so.
"use strict";

window.bnKept = (() => {
  const PREFIX = "bn-course/v1/";
  const refused = new Map(); // what the browser didn't take

  function tell() {
    document.dispatchEvent(new Event("bn-kept"));
  }

  // Other tabs write too.
  window.addEventListener("storage", (event) => {
    if (event.key === null || event.key.startsWith(PREFIX)) tell();
  });

  return {
    PREFIX,

    // The name of the page at `url`: "scaling" for ".../book/scaling.html", and for ".../book/scaling" too.
    page(url) {
      return new URL(url, location).pathname.split("/").pop().replace(/\.html$/, "");
    },

    // The value of `name`, or undefined. A value that isn't a JSON object counts as none.
    get(name) {
      if (refused.has(name)) return refused.get(name);
      try {
        const value = JSON.parse(localStorage.getItem(PREFIX + name));
        return value !== null && typeof value === "object" ? value : undefined;
      } catch {
        return undefined;
      }
    },

    // Write an object under `name` and return whether it will be there the next time.
    set(name, value) {
      const dated = { when: new Date().toISOString(), ...value };
      try {
        localStorage.setItem(PREFIX + name, JSON.stringify(dated));
        refused.delete(name);
      } catch {
        refused.set(name, dated);
      }
      tell();
      return !refused.has(name);
    },

    remove(name) {
      refused.delete(name);
      try {
        localStorage.removeItem(PREFIX + name);
      } catch {
        // Nothing can be there.
      }
      tell();
    },

    // The names that begin with one of `kinds`, such as "quiz/".
    names(...kinds) {
      let names = [...refused.keys()];
      try {
        names.push(...Object.keys(localStorage).filter((key) => key.startsWith(PREFIX)).map((key) => key.slice(PREFIX.length)));
      } catch {
        // Forbidden: what was refused is all there is.
      }
      names = [...new Set(names)].filter((name) => kinds.some((kind) => name.startsWith(kind)));
      return names.sort();
    },

    // Whether the browser lets the page read what it keeps.
    get allowed() {
      try {
        return localStorage.length >= 0;
      } catch {
        return false;
      }
    },

    // Whether everything written so far will be there the next time.
    get lasts() {
      return refused.size === 0;
    },
  };
})();
