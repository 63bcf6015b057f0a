// The cells of a page and what concerns them together: starting Python, running one after the other, taking the work out
// of the page and into it, resetting.
"use strict";

(() => {
  const folder = new URL(".", document.currentScript.src);
  const tools = document.querySelector(".bn-in-page"); // on the page of an exercise; chapters have single cells
  const set = tools?.dataset.set;
  const python = bnPython(folder, set);
  const released = tools && JSON.parse(tools.querySelector(".bn-notebook").textContent);
  const notebook = released && bnNotebook(released, set);
  const megabytes = document.querySelector("meta[name=bn-python-megabytes]")?.content;

  function make(tag, properties, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  const button = (text, onclick) => make("button", { className: "bn-button", type: "button", onclick }, text);
  const count = (number, one, many) => `${number} ${number === 1 ? one : many}`;

  // ---- cells ----

  const places = [...document.querySelectorAll(".bn-cell")];
  const page = {
    size: megabytes ? ` (${megabytes} MB)` : "",
    start,
    ready,
    go,
    reset,
    before: (cell) => cells.slice(0, cells.indexOf(cell)).filter(isRun),
    above: (cell) => runAll(page.before(cell)),
    changed() {
      safe = false;
      if (tools) show();
    },
  };
  const cells = places.map((place, index) => {
    const source = released?.cells.find(({ id }) => id === place.dataset.cell)?.source;
    const text = source === undefined ? place.querySelector("pre").textContent.replace(/\n$/, "") : [source].flat().join("");
    return bnCell(place, { released: text, python, page, number: index + 1 });
  });
  const isRun = ({ kind }) => kind !== "words";
  const firstAnswer = cells.findIndex(({ kind }) => kind === "answer");
  const setUp = cells.slice(0, Math.max(firstAnswer, 0)); // imports and data

  async function open() {
    await bnEditor.load();
    for (const cell of cells) cell.open();
    if (!keys.isConnected) cells[0].place.append(keys);
  }

  // Before a cell runs: what stands above the first answer has run, and a check sees the answer as it is written.
  async function ready(cell) {
    const needed = setUp.includes(cell) ? [] : setUp.filter(({ isStale }) => isStale);
    if (cell.kind === "check") needed.push(...cells.filter((other) => other.id === `${cell.question}-solution` && other.isStale));
    for (const other of needed) await other.run();
  }

  async function go(cell) {
    const running = cell.run();
    const next = cells[cells.indexOf(cell) + 1];
    if (tools && next) next.focus();
    await running;
  }

  async function runAll(chosen) {
    for (const cell of chosen) {
      const { stopped, failed } = await cell.run();
      if (stopped || failed) return;
    }
  }

  // ---- Python ----

  const panel = make("div", { className: "bn-python", tabIndex: -1 });
  const words = make("p", {});
  words.setAttribute("role", "status");
  const bar = make("progress", { max: 1 });
  bar.setAttribute("aria-label", "How much of Python is loaded");
  const startButton = button(`Start Python${page.size}`, () => start());
  const stopButton = button("Stop", () => python.stop());
  const againButton = button("Try again", () => start());
  const writeButton = button("Write without Python", open);
  // What replaces Python in the page where it can't run.
  const instead = make(
    "p",
    {},
    "You can work in Jupyter: the zip is on the page ",
    make("a", { href: `${set}.html` }, "of the problem set"),
    location.protocol === "file:"
      ? ". Or serve this folder to yourself: type make serve in the project, or python -m http.server in the folder of the site."
      : ".",
  );

  async function start(cell) {
    if (cell) cell.place.querySelector(".bn-cell-actions").after(panel);
    else panel.focus();
    const started = python.start();
    await open();
    cell?.focus();
    if (!(await started)) return false;
    if (cell?.kind === "try") cell.run();
    return true;
  }

  function showPython() {
    const { state, progress } = python;
    const mb = (bytes) => (bytes / 1e6).toFixed(1);
    const parts = {
      off: () => ["", startButton],
      loading: () => [progress.total ? `${progress.what}: ${mb(progress.loaded)} of ${mb(progress.total)} MB` : progress.what, bar],
      again: () => ["Your earlier cells run again.", stopButton],
      ready: () => ["Python is ready."],
      running: () => ["Python is running.", stopButton],
      failed: () => [`${python.reason} What you have written stays.`, againButton, ...(tools ? [instead] : [])],
    };
    const [text, ...more] = python.obstacle ? [python.obstacle, ...(tools ? [instead, writeButton] : [])] : parts[state]();
    if (words.textContent !== text) words.textContent = text;
    if (progress?.total) bar.value = progress.loaded / progress.total;
    else bar.removeAttribute("value");
    const wanted = [words, ...more];
    const now = [...panel.children];
    if (wanted.length !== now.length || wanted.some((child, index) => child !== now[index])) panel.replaceChildren(...wanted);
    panel.classList.toggle("bn-python-problem", Boolean(python.obstacle) || state === "failed");
    if (state === "ready") {
      if (tools) tools.prepend(panel);
      else panel.remove(); // the cell that runs says the rest
    }
    for (const cell of cells) cell.update();
  }

  // ---- the work as a whole ----

  const keys = make(
    "p",
    { id: "bn-keys" },
    "Shift+Enter runs a cell and goes on to the next one, Ctrl+Enter stays in it. Where you write, Tab indents: press Escape, then Tab, to go on from there.",
  );
  const said = make("p", { className: "bn-said" });
  said.setAttribute("role", "status");
  const score = make("p", { className: "bn-score" });
  const trouble = make("p", { className: "bn-warning", hidden: true });
  trouble.setAttribute("role", "alert");
  const resetAll = button("Reset all", () => reset(cells.filter(({ kind }) => kind !== "check")));
  let safe = true; // nothing was changed since the last download

  function say(text, undo) {
    said.replaceChildren(text, ...(undo ? [" ", button("Undo", () => (undo(), say("As it was before.")))] : []));
  }

  // Return what brings `chosen` back to what they hold now.
  function remembered(chosen) {
    const before = chosen.map((cell) => ({ cell, text: cell.draft.text, kept: bnKept.get(cell.score) }));
    return () => {
      for (const { cell, text, kept } of before) {
        cell.put(text);
        if (kept) bnKept.set(cell.score, kept);
      }
      page.changed();
    };
  }

  function reset(chosen) {
    const changed = chosen.filter(({ draft }) => !draft.isReleased);
    if (!changed.length) return;
    const what = changed.length === 1 ? "this cell" : `${changed.length} cells`;
    if (!confirm(`Put ${what} back as handed out? What you wrote there goes; "Undo" brings it back until you leave the page.`)) return;
    const undo = remembered(changed);
    for (const cell of changed) {
      cell.put(cell.released);
      bnKept.remove(cell.score);
      cell.clear();
    }
    page.changed();
    if (chosen.length > 1) say(`Reset: ${count(changed.length, "cell", "cells")}.`, undo);
    else chosen[0].tell("Reset.", undo);
    if (chosen.length === 1) chosen[0].focus();
  }

  function download() {
    const sources = new Map(cells.filter(({ kind }) => kind !== "check").map(({ id, draft }) => [id, draft.text]));
    const outputs = new Map(cells.filter(isRun).map((cell) => [cell.id, { count: cell.count, list: cell.outputs.list }]));
    const blob = new Blob([notebook.file(sources, outputs)], { type: "application/x-ipynb+json" });
    const url = URL.createObjectURL(blob);
    make("a", { href: url, download: `${set}.ipynb` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
    safe = true;
    say(`Downloaded: ${set}.ipynb. It can be handed in, and opened in Jupyter.`);
  }

  async function takeOver(file) {
    let found;
    try {
      found = notebook.read(await file.text());
    } catch (error) {
      return say(`${file.name} could not be taken over: ${error.message}. Nothing has changed.`);
    }
    const differs = ({ id, kind, draft }) => kind !== "check" && found.sources.has(id) && found.sources.get(id) !== draft.text;
    const changed = cells.filter(differs);
    const lost = changed.filter(({ draft }) => !draft.isReleased).length;
    if (lost && !confirm(`The file has another text for ${count(lost, "cell", "cells")} in which you have written here. Take the file's? "Undo" brings yours back until you leave the page.`)) return;
    const undo = remembered(changed);
    for (const cell of changed) cell.put(found.sources.get(cell.id));
    page.changed();
    const left = found.left
      ? ` ${count(found.left, "cell", "cells")} of your own had no place here: if an answer needs one of them, copy it into the answer.`
      : "";
    say(`Taken over from ${file.name}: ${count(changed.length, "cell", "cells")}.${left}`, changed.length && undo);
  }

  function show() {
    const checks = cells.filter(({ kind }) => kind === "check");
    const total = checks.reduce((sum, { id }) => sum + notebook.points(id), 0);
    const got = checks.reduce((sum, cell) => sum + (Number(bnKept.get(cell.score)?.score) || 0), 0);
    const byHand = cells.filter(({ kind }) => kind === "words").reduce((sum, { id }) => sum + notebook.points(id), 0);
    const rest = byHand ? ` A person gives the other ${byHand}, for answers in words.` : "";
    score.textContent = `Checked so far: ${Math.round(got * 100) / 100} of ${total} points.${rest}`;
    const written = cells.some(({ draft }) => !draft.isReleased);
    resetAll.disabled = !written;
    trouble.hidden = bnKept.allowed && bnKept.lasts;
    if (!trouble.hidden && !trouble.textContent) {
      trouble.textContent =
        "This browser doesn't keep what you write here: its storage is full, or switched off for this page. Download the notebook before you leave.";
    }
    if (trouble.hidden) trouble.textContent = "";
  }

  if (tools) {
    const chooser = make("input", { type: "file", accept: ".ipynb,application/json" });
    chooser.addEventListener("change", async () => {
      if (chooser.files.length) await takeOver(chooser.files[0]);
      chooser.value = ""; // so that the same file can be taken again
    });
    tools.replaceChildren(
      panel,
      keys,
      score,
      make(
        "div",
        { className: "bn-tools" },
        ...(python.obstacle ? [] : [button("Run all", () => start().then((started) => started && runAll(cells.filter(isRun))))]),
        button("Download the notebook", download),
        make("label", { className: "bn-button" }, chooser, "Take over a notebook"),
        resetAll,
      ),
      said,
      trouble,
    );
    document.addEventListener("bn-kept", show);
    addEventListener("beforeunload", (event) => {
      for (const { draft } of cells) draft.flush();
      if (!safe && (!bnKept.lasts || cells.some(({ draft }) => draft.isTorn))) event.preventDefault();
    });
    for (const cell of cells) if (cell.kind === "words") cell.open();
    show();
  }
  document.addEventListener("bn-python", showPython);
  showPython();
})();
