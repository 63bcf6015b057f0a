// Makes a form of every question of a quiz. In the page as it was built each answer is a <details> that opens to its
// explanation: that stays as it is where this script doesn't run.
//
// The first answer to a question counts and is kept. One can go on trying, and read all other explanations.
"use strict";

(() => {
  const boxes = [...document.querySelectorAll(".bn-quiz")];
  const name = `quiz/${bnKept.page(location)}`;

  function make(tag, properties, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  // The indices of the answers that were chosen first, by question; what doesn't fit the page is left out.
  function firstAnswers() {
    const kept = bnKept.get(name)?.answers ?? {};
    const fits = ({ key, answers }) =>
      Array.isArray(kept[key]) && kept[key].length && kept[key].every((index) => Number.isInteger(index) && answers[index]);
    return Object.fromEntries(questions.filter(fits).map(({ key }) => [key, kept[key]]));
  }

  function keep(first) {
    const right = questions.filter(({ key, isRight }) => first[key] && isRight(first[key]));
    bnKept.set(name, { score: right.length, points: questions.length, answers: first });
  }

  // Turn `box` into a form. Nodes are moved, not copied.
  function build(box) {
    const several = "several" in box.dataset;
    const details = [...box.querySelectorAll(":scope > details")];
    const legend = make("legend", {}, ...box.querySelector(":scope > .bn-quiz-asks").childNodes);
    const fieldset = make("fieldset", {}, legend);

    const more = [...box.querySelectorAll(":scope > :not(details, .bn-quiz-asks)")];
    if (more.length) {
      fieldset.append(make("div", { id: `${box.id}-more` }, ...more));
      fieldset.setAttribute("aria-describedby", `${box.id}-more`);
    }

    const answers = details.map((answer, index) => {
      const summary = answer.querySelector(":scope > summary");
      const why = answer.querySelector(":scope > .bn-quiz-why");
      why.querySelector("strong").before(summary.querySelector(".bn-quiz-label").cloneNode(true));
      const input = make("input", { type: several ? "checkbox" : "radio", name: box.id, value: index, autocomplete: "off" });
      const label = make("label", { className: "bn-quiz-choice" }, input, make("span", {}, ...summary.childNodes));
      fieldset.append(label);
      return { input, label, why, right: "right" in answer.dataset };
    });

    const result = make("div", { className: "bn-quiz-result" });
    const verdict = make("p", {}); // of several answers together
    const others = make("details", { className: "bn-quiz-others", hidden: true }, make("summary", {}, "The other answers, explained"));
    others.append(...answers.map(({ why }) => why));
    const form = make("form", {}, fieldset, make("button", { className: "bn-button" }, "Check"), result, others);
    box.replaceChildren(form);

    const isRight = (chosen) => answers.every(({ right }, index) => right === chosen.includes(index));

    function show(chosen) {
      const tooMany = chosen.filter((index) => !answers[index].right).length;
      const missing = answers.filter(({ right }, index) => right && !chosen.includes(index)).length;
      const faults = [tooMany && `${tooMany} too many`, missing && `${missing} missing`].filter(Boolean);
      verdict.textContent = faults.length ? `Not quite: ${faults.join(", ")}.` : "Right, these are all.";
      verdict.className = faults.length ? "bn-quiz-wrong" : "bn-quiz-right";
      const shown = several ? [verdict] : [];
      for (const [index, { label, why, right }] of answers.entries()) {
        if (chosen.includes(index)) {
          label.classList.add(right ? "bn-quiz-right" : "bn-quiz-wrong");
          shown.push(why);
        } else {
          others.append(why);
        }
      }
      result.replaceChildren(...shown);
      others.hidden = chosen.length === answers.length;
    }

    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const chosen = answers.flatMap(({ input }, index) => (input.checked ? [index] : []));
      if (!chosen.length) {
        others.append(...answers.map(({ why }) => why));
        result.replaceChildren(make("p", {}, several ? "Choose at least one answer first." : "Choose an answer first."));
        return;
      }
      show(chosen);
      const first = firstAnswers(); // another tab may have written
      if (!first[key]) keep({ ...first, [key]: chosen });
    });

    const key = box.dataset.question;
    return {
      key,
      answers,
      isRight,
      restore(chosen) {
        for (const index of chosen) answers[index].input.checked = true;
        show(chosen);
      },
      clear() {
        form.reset();
        for (const { label, why } of answers) {
          label.classList.remove("bn-quiz-right", "bn-quiz-wrong");
          others.append(why);
        }
        result.replaceChildren();
        others.hidden = true;
        others.open = false;
      },
    };
  }

  const questions = boxes.map(build);

  const score = make("p", {});
  const again = make("button", { className: "bn-button", type: "button" }, "Start over");
  boxes.at(-1).after(make("div", { className: "bn-quiz-score" }, score, again));

  function showScore() {
    const first = firstAnswers();
    const answered = questions.filter(({ key }) => first[key]);
    const right = answered.filter(({ key, isRight }) => isRight(first[key]));
    again.hidden = !answered.length;
    const text = answered.length
      ? `${answered.length} of ${questions.length} answered, ${right.length} right at the first try. `
      : "Your first answer to each question counts. ";
    const place = bnKept.lasts
      ? ["The score stays in this browser: ", make("a", { href: "progress.html" }, "your progress"), "."]
      : ["This browser doesn't let the page keep the score: it is forgotten when you leave."];
    score.replaceChildren(text, ...place);
  }

  again.addEventListener("click", () => {
    bnKept.remove(name);
    for (const question of questions) question.clear();
    document.querySelector(".bn-quiz input").focus();
  });

  for (const [key, chosen] of Object.entries(firstAnswers())) questions.find((question) => question.key === key).restore(chosen);
  showScore();
  document.addEventListener("bn-kept", showScore);
  // From now on screen readers say what changes here; what was kept from an earlier visit is no news.
  for (const place of document.querySelectorAll(".bn-quiz-result, .bn-quiz-score p")) place.setAttribute("role", "status");
})();
