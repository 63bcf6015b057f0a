// The page "Your progress": says what this browser keeps, marks it in the reading paths, saves it as a file, takes such a
// file over, erases it all. Without this script the page still has its paths.
"use strict";

(() => {
  const FORMAT = "bn-course/v1";
  const KINDS = ["read/", "quiz/", "exercise/"];
  const NAME = /^(read\/[\w-]+|quiz\/[\w-]+|exercise\/[\w-]+\/[\w-]+)$/;

  function make(tag, properties, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  const count = (number, one, many) => `${number} ${number === 1 ? one : many}`;
  const sum = (values, key) => values.reduce((total, value) => total + (Number(value[key]) || 0), 0);

  // As book/_ext/reading_paths.py writes them: "2 h 10 min".
  const minutes = (text) => 60 * (text.match(/(\d+) h/)?.[1] ?? 0) + Number(text.match(/(\d+) min/)?.[1] ?? 0);
  function duration(total) {
    const [hours, rest] = [Math.floor(total / 60), total % 60];
    return [hours && `${hours} h`, (rest || !hours) && `${rest} min`].filter(Boolean).join(" ");
  }

  const paths = [...document.querySelectorAll("ol.bn-path")].map((list) => {
    const next = make("div", { className: "bn-path-next" });
    list.before(next);
    const items = [...list.children].map((item) => {
      const link = item.querySelector("a");
      const marks = make("span", { className: "bn-path-marks" });
      item.querySelector("p").append(" ", marks);
      return {
        link,
        marks,
        item,
        page: bnKept.page(link.href),
        isSet: item.classList.contains("bn-set"),
        minutes: minutes(item.querySelector(".bn-minutes").textContent),
      };
    });
    return { title: list.closest("section").querySelector("h2").firstChild.textContent, next, items };
  });

  const isDone = ({ page }) => bnKept.get(`read/${page}`) !== undefined;
  const values = (kind) => bnKept.names(kind).map((name) => bnKept.get(name)).filter(Boolean);
  const answered = (quiz) => Object.keys(quiz.answers ?? {}).length;
  const exerciseText = (done) => `${sum(done, "score")} of ${count(sum(done, "points"), "point", "points")}`;

  function marksOf({ page, isSet }) {
    const quiz = bnKept.get(`quiz/${page}`);
    const checked = values(`exercise/${page}/`);
    return [
      isDone({ page }) && (isSet ? "✓ done" : "✓ read"),
      quiz && `quiz: ${Number(quiz.score) || 0} of ${Number(quiz.points) || 0}`,
      checked.length && `${count(checked.length, "exercise", "exercises")}: ${exerciseText(checked)}`,
    ].filter(Boolean).join(", ");
  }

  function showPath({ title, next, items }) {
    for (const item of items) {
      item.marks.textContent = marksOf(item);
      item.item.classList.toggle("bn-is-done", isDone(item));
    }
    const left = items.filter((item) => !isDone(item));
    const text = `${items.length - left.length} of ${items.length} done`;
    next.replaceChildren(make("progress", { max: items.length, value: items.length - left.length, ariaLabel: `${title}: ${text}` }));
    if (left.length) {
      const link = make("a", { href: left[0].link.href }, left[0].link.textContent);
      next.append(make("p", {}, `${text}, ${duration(sum(left, "minutes"))} left. Next: `, link));
    } else {
      next.append(make("p", {}, `${text}. You have come to the end of this path.`));
    }
  }

  function row(what, text) {
    return [make("dt", {}, what), make("dd", {}, text)];
  }

  function showSummary() {
    const all = [...new Map(paths.flatMap(({ items }) => items).map((item) => [item.page, item])).values()];
    const part = (items) => `${items.filter(isDone).length} of ${items.length}`;
    const [quizzes, exercises] = [values("quiz/"), values("exercise/")];
    const summary = make("dl", { className: "bn-summary" });
    summary.append(
      ...row("Chapters read", part(all.filter(({ isSet }) => !isSet))),
      ...row("Quizzes", quizzes.length
        ? `${sum(quizzes, "score")} right at the first try, of ${count(quizzes.map(answered).reduce((a, b) => a + b), "question", "questions")} answered`
        : "none yet"),
      ...row("Exercises", exercises.length
        ? `${count(exercises.length, "question", "questions")} checked, ${exerciseText(exercises)}`
        : "none yet"),
      ...row("Problem sets done", part(all.filter(({ isSet }) => isSet))),
    );
    document.querySelector(".bn-progress").replaceChildren(summary, ...warnings().map((text) => make("p", { className: "bn-warning" }, text)));
  }

  function warnings() {
    const found = [];
    if (!bnKept.allowed) {
      found.push("This browser doesn't let the page keep anything, as in some private windows or where cookies are blocked. What you mark is forgotten when you leave a page.");
    }
    if (location.protocol === "file:") {
      found.push("You have opened the course from a folder. Some browsers, Firefox is one, then keep the marks of each page apart, and this page can't see those of the others. Served by a local web server it works in all of them: python -m http.server, in the folder of the site.");
    }
    return found;
  }

  function show() {
    showSummary();
    paths.forEach(showPath);
  }

  // ---- save, take over, erase ----

  const said = make("p", { role: "status" });

  function save() {
    const names = bnKept.names(...KINDS);
    const kept = Object.fromEntries(names.map((name) => [name, bnKept.get(name)]).filter(([, value]) => value));
    const saved = new Date().toISOString();
    const url = URL.createObjectURL(new Blob([JSON.stringify({ format: FORMAT, saved, kept }, null, 2)], { type: "application/json" }));
    make("a", { href: url, download: `bn-course-${saved.slice(0, 10)}.json` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
    said.textContent = `Saved: ${count(names.length, "mark", "marks")}.`;
  }

  // The marks in the text of a saved file. Throws an Error that says what is wrong with it.
  function marksIn(text) {
    let file;
    try {
      file = JSON.parse(text);
    } catch {
      throw new Error("it isn't JSON");
    }
    if (file?.format !== FORMAT) throw new Error(`its "format" isn't "${FORMAT}"`);
    if (file.kept === null || typeof file.kept !== "object") throw new Error('it has no marks under "kept"');
    return Object.entries(file.kept);
  }

  const time = (value) => new Date(value?.when ?? 0).getTime() || 0;

  async function takeOver(file) {
    let marks;
    try {
      marks = marksIn(await file.text());
    } catch (error) {
      said.textContent = `${file.name} was not saved by this page: ${error.message}. Nothing has changed.`;
      return;
    }
    const sound = marks.filter(([name, value]) => NAME.test(name) && value !== null && typeof value === "object");
    const newer = sound.filter(([name, value]) => bnKept.get(name) === undefined || time(value) > time(bnKept.get(name)));
    for (const [name, value] of newer) bnKept.set(name, value);
    said.textContent = [
      `${count(newer.length, "mark", "marks")} taken over.`,
      newer.length < sound.length && `${sound.length - newer.length} left as here, where they are as new or newer.`,
      sound.length < marks.length && `${marks.length - sound.length} not understood and left out.`,
      !bnKept.lasts && "This browser didn't store all of them: they are forgotten when you leave the page.",
    ].filter(Boolean).join(" ");
  }

  function erase() {
    const names = bnKept.names(...KINDS);
    if (!names.length) {
      said.textContent = "There is nothing to erase.";
    } else if (confirm(`Erase ${count(names.length, "mark", "marks")} of pages, quizzes and exercises from this browser? It can't be undone, unless you have saved them as a file.`)) {
      names.forEach(bnKept.remove);
      said.textContent = "Erased: this browser keeps no marks of the course any more.";
    }
  }

  const chooser = make("input", { type: "file", accept: ".json,application/json" });
  chooser.addEventListener("change", async () => {
    if (chooser.files.length) await takeOver(chooser.files[0]);
    chooser.value = ""; // so that the same file can be taken again
  });
  document.querySelector(".bn-progress-tools").replaceChildren(
    make("button", { className: "bn-button", type: "button", onclick: save }, "Save as a file"),
    make("label", { className: "bn-button" }, chooser, "Take over a file"),
    make("button", { className: "bn-button", type: "button", onclick: erase }, "Erase"),
    said,
  );

  show();
  document.addEventListener("bn-kept", show);
})();
