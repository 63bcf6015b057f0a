// The search page. Weights of words come with the index (book/_ext/course_search.py); here a question is taken apart in the
// same way, and the weights of its words are added up.
"use strict";

(() => {
  const { pages, sections, terms, same, stopwords, suffix } = window.bnSearchIndex;
  const stemmer = new Stemmer(); // of Sphinx's language_data.js
  const ignored = new Set(stopwords);
  const all = Object.keys(terms);
  const SHOWN = 20;

  const stem = (word) => {
    const found = stemmer.stemWord(word);
    return Object.hasOwn(same, found) ? same[found] : found;
  };

  // The terms of a question, each as a list of the index's terms: a last word that the index doesn't know may be unfinished,
  // before its stem ends or after.
  function read(question) {
    const words = (question.toLowerCase().match(/[a-z]+|\d+/g) ?? []).filter((word) => word.length > 1 && !ignored.has(word));
    const found = words.flatMap((word) => stem(word).split(" ").map((term) => [term]));
    const last = words.at(-1);
    if (last && !Object.hasOwn(terms, found.at(-1)[0])) {
      found[found.length - 1] = all.filter((term) => term.startsWith(last) || (term.length > 4 && last.startsWith(term)));
    }
    return [...new Map(found.map((term) => [term.join(), term])).values()];
  }

  // Pages for a question, best first: {page, hits: [number of a section, ...]}.
  function search(question) {
    const wanted = read(question);
    const scores = new Map();
    const matched = new Map();
    for (const alternatives of wanted) {
      for (const term of alternatives) {
        const where = Object.hasOwn(terms, term) ? terms[term] : [];
        for (let i = 0; i < where.length; i += 2) {
          scores.set(where[i], (scores.get(where[i]) ?? 0) + where[i + 1]);
          matched.set(where[i], (matched.get(where[i]) ?? new Set()).add(alternatives));
        }
      }
    }
    const found = new Map();
    for (const [number, score] of scores) {
      const share = matched.get(number).size / wanted.length; // a section with all words before one with half of them
      const page = sections[number][0];
      if (!found.has(page)) found.set(page, []);
      found.get(page).push({ number, score: score * share });
    }
    return [...found]
      .map(([page, hits]) => {
        hits.sort((a, b) => b.score - a.score);
        // The best section counts, and a little those beside it: a page that is about something says it more than once.
        const score = hits.slice(0, 4).reduce((sum, hit, place) => sum + hit.score * [1, 0.25, 0.15, 0.1][place], 0);
        return { page, score, hits: hits.slice(0, 3).map(({ number }) => number) };
      })
      .sort((a, b) => b.score - a.score)
      .slice(0, SHOWN);
  }

  function make(tag, properties, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  const root = document.documentElement.dataset.content_root;
  const address = (page, anchor, question) =>
    `${root}${page}${suffix}?highlight=${encodeURIComponent(question)}${anchor && `#${anchor}`}`;

  function show(question) {
    const results = search(question);
    document.getElementById("search-results").replaceChildren(
      ...results.map(({ page, hits }) => {
        const links = hits.filter((number) => sections[number][1]).map((number) => {
          const [, anchor, title] = sections[number];
          return make("li", {}, make("a", { href: address(page, anchor, question) }, title));
        });
        const item = make("li", {}, make("a", { href: address(page, "", question), className: "bn-result" }, pages[page]));
        item.append(make("p", {}, sections[hits[0]][3]));
        if (links.length) item.append(make("ul", {}, ...links));
        return item;
      }),
    );
    const count = results.length === 1 ? "One page" : `${results.length === SHOWN ? "The best " : ""}${results.length} pages`;
    document.getElementById("bn-found").textContent = !question.trim()
      ? ""
      : results.length
        ? `${count} for “${question}”.`
        : `Nothing for “${question}”. Try other words, or look into the glossary.`;
  }

  const input = document.getElementById("bn-question");
  input.value = new URLSearchParams(location.search).get("q") ?? "";
  input.form.addEventListener("submit", (event) => {
    event.preventDefault();
    history.replaceState(null, "", `?q=${encodeURIComponent(input.value)}`);
    show(input.value);
  });
  show(input.value);
  if (!input.value) input.focus();
  window.bnSearch = search; // for tests
})();
