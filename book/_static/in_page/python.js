// The page's side of Python: one worker (worker.js says what passes between them), started when a reader asks for it.
//
//     const python = bnPython(folder, set);
//     python.obstacle          why it can't run here at all, as a sentence; or undefined
//     await python.start();    true, or false: `state` is "failed" then and `reason` says why
//     const { ok, seconds, count, stopped } = await python.run(cell, code, show);
//     python.stop();           ends what runs; what had run before runs again in a new worker
//
// `session` changes when all that ran before is gone. `state` is "off", "loading", "again" (earlier cells run again), "ready", "running" or "failed". Whoever listens to the
// event "bn-python" on the document hears of every change.
"use strict";

window.bnPython = (folder, set) => {
  const queue = []; // what waits: {code, show, number, replay, resolve}
  const behind = new Map(); // the code that this session has run, by the name of its cell, in the order it ran
  let worker, current, starting, onStarted;
  let lastId = 0;

  const python = { state: "off", session: 1, reason: "", progress: undefined, start, run, stop };

  python.obstacle = obstacle();
  function obstacle() {
    if (location.protocol === "file:") {
      return "This page was opened from a folder on disk, and browsers run Python only in pages that come from a web server.";
    }
    if (typeof WebAssembly !== "object" || typeof Worker !== "function") {
      return "This browser can't run Python: it has no WebAssembly, or it is switched off.";
    }
    return undefined;
  }

  function become(state, progress) {
    python.state = state;
    python.progress = progress;
    document.dispatchEvent(new Event("bn-python"));
  }

  function start() {
    if (python.obstacle) return Promise.resolve(false);
    if (worker) return starting;
    starting = new Promise((resolve) => (onStarted = resolve));
    become("loading", { what: "Loading Python" });
    worker = new Worker(new URL("worker.js", folder));
    worker.onmessage = ({ data }) => hear[data.type](data);
    worker.onerror = (event) => {
      event.preventDefault();
      hear.failed({ reason: `Python could not be loaded${event.message ? ` (${event.message})` : ": is the network there?"}` });
    };
    worker.postMessage({ type: "start", base: new URL("python/", folder).href, set });
    return starting;
  }

  const hear = {
    progress: ({ what, loaded, total }) => become("loading", { what, loaded, total }),
    ready() {
      become("ready");
      onStarted(true);
      next();
    },
    failed({ reason }) {
      end({ ok: false, failed: true });
      behind.clear();
      python.session += 1;
      python.reason = reason;
      become("failed");
      onStarted(false);
    },
    output({ id, output }) {
      if (id === current?.id && !current.replay) current.show(output);
    },
    done({ id, ok, seconds, count }) {
      if (id !== current?.id) return;
      if (count === undefined) return stop(); // Python itself broke down
      const { cell, code, number, resolve } = current;
      current = undefined;
      behind.delete(cell);
      behind.set(cell, { code, number: number ?? count });
      resolve({ ok, seconds, count });
      if (!queue.length) become("ready");
      next();
    },
  };

  function next() {
    if (current || !queue.length || !["ready", "running", "again"].includes(python.state)) return;
    current = { ...queue.shift(), id: ++lastId };
    become(current.replay ? "again" : "running");
    worker.postMessage({ type: "run", id: current.id, code: current.code, cell: { number: current.number } });
  }

  // Run `code`, the text of `cell`, behind what waits already; `show` gets every output.
  function run(cell, code, show) {
    return new Promise((resolve) => {
      queue.push({ cell, code, show, resolve });
      if (!worker) start();
      next();
    });
  }

  // End the worker; what runs and what waits comes out as `result`.
  function end(result) {
    worker.terminate();
    const left = [current, ...queue.splice(0)].filter(Boolean);
    worker = current = undefined;
    for (const { resolve } of left) resolve(result);
  }

  function stop() {
    if (!worker) return;
    const again = current?.replay ? [] : [...behind]; // who stops the repetition wants none
    end({ ok: false, stopped: true });
    behind.clear();
    if (!again.length) python.session += 1;
    onStarted(false);
    for (const [cell, { code, number }] of again) queue.push({ cell, code, number, replay: true, resolve() {} });
    start();
  }

  return python;
};
