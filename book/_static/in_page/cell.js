// One cell of a page: its code in an editor, what it shows, and what can be done with it.
//
//     const cell = bnCell(place, { released, python, page })
//
// `place` is the <div> that book/_ext/in_page.py has written. `page` says what concerns more than one cell: start(cell),
// ready(cell), before(cell), above(cell), go(cell), reset(cells), changed(); `size` is that of Python, to be read.
"use strict";

window.bnCell = (place, { released, python, page, number }) => {
  const REPORT = "application/vnd.bnlab.report+json";
  const { kind, cell: id, set } = place.dataset;
  const question = id.replace(/-solution$/, "");
  const isCode = kind !== "words";

  function make(tag, properties, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  const button = (text, onclick) => make("button", { className: "bn-button", type: "button", onclick }, text);

  const names = {
    answer: `Your answer: ${question}`,
    words: `Your answer in words: ${question}`,
    check: `Check: ${question}`,
    code: `Code, cell ${number}`,
    try: `Try it: ${id}`,
  };
  const code = place.querySelector(":scope > .highlight-python, :scope > p:not(.bn-try-it-asks)");
  const note = make("span", { className: "bn-cell-note" });
  note.setAttribute("role", "status");
  const actions = make("div", { className: "bn-cell-actions" });
  const choice = make("div", { className: "bn-cell-choice" });
  const output = make("div", { className: "bn-cell-output cell_output" });
  output.setAttribute("role", "group");
  output.setAttribute("aria-label", `Output of: ${names[kind]}`);
  place.prepend(make("div", { className: "bn-cell-head" }, names[kind]));
  code.after(actions, choice, output);

  const runs = button("", () => (running ? python.stop() : run()));
  const above = button("Run all above", () => page.above(cell));
  const resets = button("Reset", () => page.reset([cell]));
  const starts = button("", () => page.start(cell));

  let editor, ran, running;

  const draft = bnDraft(`answer/${set}/${id}`, released, {
    taken(text) {
      show(text);
      if (editor) note.textContent = "Changed in another tab of yours: here is its text.";
    },
    conflict(theirs) {
      const settle = (mine) => {
        choice.replaceChildren();
        draft.settle(mine);
        editor?.focus();
      };
      choice.replaceChildren(
        make("p", {}, "This cell was changed in another tab of yours, too. Until you choose, both texts stay as they are."),
        make("pre", {}, theirs),
        button("Keep mine", () => settle(true)),
        button("Take the other one", () => settle(false)),
      );
      note.textContent = "Two texts of this cell: choose one.";
    },
  });

  const cell = {
    id,
    kind,
    question,
    place,
    draft,
    released,
    score: `exercise/${set}/${question}`,
    outputs: bnOutputs(output),
    // Whether what Python knows of it isn't what it says now.
    get isStale() {
      return ran?.session !== python.session || ran.text !== draft.text;
    },
    open,
    run,
    put,
    update,
    clear,
    tell,
    focus: () => (editor ?? runs).focus(),
  };

  // Show `text` where the cell's own stands, in the editor or, before it opens, to be read.
  function show(text) {
    if (editor) editor.text = text;
    else (code.querySelector("pre") ?? code).textContent = text;
  }

  function put(text) {
    show(text);
    draft.write(text);
    update();
  }

  // Say something beside the buttons, and offer to undo it.
  function tell(text, undo) {
    note.replaceChildren(text, ...(undo ? [" ", button("Undo", () => (undo(), tell("As it was before."), cell.focus()))] : []));
  }

  function clear() {
    cell.outputs.clear();
    delete cell.count;
    note.textContent = "";
  }

  function open() {
    if (editor) return;
    const written = make("div", { className: "bn-cell-editor" });
    code.replaceWith(written);
    const settings = {
      text: draft.text,
      label: names[kind],
      hint: "bn-keys",
      readOnly: kind === "check",
      change(text) {
        if (text !== draft.text) draft.write(text);
        update();
        page.changed();
      },
      run: (stays) => (stays ? cell.run() : page.go(cell)),
    };
    editor = isCode ? bnEditor.open(written, settings) : bnEditor.plain(written, settings);
    update();
  }

  // Which buttons there are, by what Python does and what the cell holds.
  function update() {
    const verb = kind === "check" ? "Check" : "Run";
    runs.textContent = running ? "Stop" : verb;
    starts.textContent = kind === "try" ? `Edit and run${page.size}` : `Start Python${page.size} and write here`;
    const isOff = !editor || python.state === "off" || python.state === "failed";
    const buttons = [];
    if (isCode && !python.obstacle) {
      if (!isOff) buttons.push(runs);
      else if (kind === "answer" || kind === "try") buttons.push(starts);
      if (!isOff && kind !== "try" && page.before(cell).length) buttons.push(above);
    }
    if (editor && kind !== "check" && !draft.isReleased) buttons.push(resets);
    const now = [...actions.children];
    const wanted = [...buttons, note];
    if (now.length !== wanted.length || now.some((child, index) => child !== wanted[index])) {
      const focused = document.activeElement;
      actions.replaceChildren(...wanted);
      if (wanted.includes(focused)) focused.focus();
    }
  }

  function run() {
    running ??= runOnce();
    return running;
  }

  async function runOnce() {
    await page.ready(cell);
    clear();
    note.textContent = "Running …";
    update();
    const text = draft.text;
    const began = performance.now();
    const done = await python.run(id, text, cell.outputs.add);
    running = undefined;
    if (done.count) {
      ran = { text, session: python.session };
      cell.count = done.count;
    }
    note.textContent = said(done, (performance.now() - began) / 1000);
    update();
    return done;
  }

  // What to say when a cell has run, and what to keep of it.
  function said({ ok, stopped, failed }, seconds) {
    const time = seconds < 0.05 ? "" : ` after ${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
    if (failed) return "It did not run: Python could not be started.";
    if (stopped) return `Stopped${time}. What ran before runs again, so that you can go on.`;
    const report = cell.outputs.list.map(({ data }) => data?.[REPORT]).find(Boolean);
    if (kind === "check" && report) {
      bnKept.set(cell.score, { score: report.score, points: report.points });
      page.changed();
      return `${report.score} of ${report.points} points: ${report.status}.`;
    }
    if (ok) return cell.outputs.list.length ? `Done${time}.` : `Done${time}: it shows nothing.`;
    const { ename } = cell.outputs.list.at(-1) ?? {};
    if (ename === "NotImplementedError") return "Not written yet: replace the line raise NotImplementedError().";
    return ename === "NameError" ? "An error. Has the cell that defines this name been run?" : `An error${time}.`;
  }

  if (!draft.isReleased) show(draft.text);
  if (kind === "try") note.textContent = python.obstacle ?? "";
  const earlier = kind === "check" && bnKept.get(cell.score);
  if (earlier) note.textContent = `Checked earlier: ${earlier.score} of ${earlier.points} points.`;
  return cell;
};
