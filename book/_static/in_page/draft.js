// A text that a reader writes, kept by the browser under a name (kept.js); nothing is kept where it is as released.
//
//     const draft = bnDraft(name, released, { taken, conflict });
//     draft.text;   draft.write(text);   draft.flush();   draft.settle(mine)
//
// The same page may be open in two tabs. What the other tab writes is taken over, and `taken(text)` is called, unless
// something was written here that the other tab hadn't seen: then neither is lost, and `conflict(theirs)` is called.
// Until `settle(true)` (mine) or `settle(false)` (theirs) nothing more is kept.
"use strict";

window.bnDraft = (name, released, { taken, conflict }) => {
  const PAUSE = 300; // ms after the last key before it is kept
  let text, seen, timer;
  let torn = false; // between two tabs

  const kept = () => bnKept.get(name)?.source;
  const when = () => bnKept.get(name)?.when;

  function read() {
    text = typeof kept() === "string" ? kept() : released;
    seen = when();
  }

  function keep() {
    clearTimeout(timer);
    timer = undefined;
    if (when() !== seen && (kept() ?? released) !== text) {
      torn = true;
      conflict(kept() ?? released);
    } else {
      if (text === released) bnKept.remove(name);
      else if (text !== kept()) bnKept.set(name, { source: text });
      seen = when();
    }
  }

  function flush() {
    if (timer !== undefined) keep();
  }

  function hear() {
    if (torn || when() === seen) return;
    if (timer !== undefined) {
      keep(); // it finds out whether the two differ
    } else {
      const before = text;
      read();
      if (text !== before) taken(text);
    }
  }

  read();
  document.addEventListener("bn-kept", hear);
  // A tab may be closed, or put to sleep, without another word.
  addEventListener("pagehide", flush);
  document.addEventListener("visibilitychange", flush);

  return {
    get text() {
      return text;
    },
    get isTorn() {
      return torn;
    },
    get isReleased() {
      return text === released;
    },
    write(written) {
      text = written;
      clearTimeout(timer);
      if (!torn) timer = setTimeout(keep, PAUSE);
    },
    flush,
    settle(mine) {
      torn = false;
      if (mine) {
        seen = when();
        keep();
      } else {
        read();
        taken(text);
      }
    },
  };
};
