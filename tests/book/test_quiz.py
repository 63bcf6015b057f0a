"""The directive `quiz` and the form that quiz.js makes of it, on a small book of their own."""

import re

import browsing
import pytest
import small_book

INDEX = """# Book

```{toctree}
animals
plain
```
"""
ANIMALS = """(label)=
# Animals

## Quiz

:::{quiz}
Which of them says *woof*, if $x > 0$?

See {ref}`label`.

- [ ] A cat with $x = 1$

  It says meow, see {ref}`label`.

- [x] A `dog`

  So it does.

  ```python
  dog.bark()
  ```

- [ ] A fish

  It says nothing.
:::

:::{quiz}
:several:

Which of them have
four legs?

- [x] A cat

  It has.

- [ ] A bird, which also
  has wings

  It has two.

- [x] A dog

  It has, too.
:::
"""
PAGES = {"index": INDEX, "animals": ANIMALS, "plain": "# Plain\n\nNo quiz here.\n"}

GOOD = ":::{quiz}\nA question?\n\n- [x] Yes\n\n  Because.\n\n- [ ] No\n\n  It isn't.\n:::\n"
# What is written, the line that must be named, and what must be said of it.
BAD = {
    "no_right_answer": (GOOD.replace("[x]", "[ ]"), 3, "no right answer"),
    "two_right_answers": (GOOD.replace("[ ]", "[x]"), 10, "second right answer: write ':several:'"),
    "no_explanation": (GOOD.replace("\n\n  It isn't.", ""), 10, "'No' leave a blank line, then say why"),
    "no_blank_line": (GOOD.replace("No\n\n", "No\n"), 10, "has no explanation"),
    "no_answers": (":::{quiz}\nA question?\n:::\n", 3, "0 answer(s)"),
    "one_answer": (GOOD.replace("\n- [ ] No\n\n  It isn't.\n", ""), 3, "1 answer(s)"),
    "no_question": (GOOD.replace("A question?\n\n", ""), 3, "no question"),
    "empty_answer": (GOOD.replace("- [ ] No", "- [ ]"), 10, "is empty"),
    "another_mark": (GOOD.replace("[ ]", "[?]"), 10, "marked '[?]'"),
    "not_indented": (GOOD.replace("  It isn't.", "It isn't."), 12, "indent it by two spaces"),
    "options_first": (GOOD.replace("{quiz}\n", "{quiz}\n:several:\n\n").replace("[ ]", "[?]"), 12, "marked '[?]'"),
}


# --- the directive ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """What Sphinx says about pages with mistakes: {page: [(line, message)]}."""
    pages = {name: f"# Title\n\n{text}" for name, (text, _, _) in BAD.items()}
    pages = {"index": "# Book\n\n```{toctree}\n" + "\n".join(pages) + "\n```\n", **pages}
    _, warnings = small_book.build(tmp_path_factory.mktemp("bad"), pages)
    found = {name: [] for name in BAD}
    for page, line, message in re.findall(r"^.*/(\w+)\.md:(\d+): ERROR: (.*)$", warnings, re.MULTILINE):
        found[page].append((int(line), message))
    return found


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_in_a_quiz_is_an_error_with_its_line(reports, name):
    _, line, words = BAD[name]
    assert [(number, words in message) for number, message in reports[name]] == [(line, True)], reports[name]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the book, built without a warning."""
    folder, warnings = small_book.build(tmp_path_factory.mktemp("book"), PAGES)
    assert not warnings
    return folder


@pytest.fixture(scope="module")
def page(site):
    """The page with the quiz, parsed."""
    bs4 = pytest.importorskip("bs4")
    return bs4.BeautifulSoup((site / "animals.html").read_text(encoding="utf-8"), "html.parser")


def words(tag):
    """Return the text of `tag` with single spaces."""
    return " ".join(tag.get_text().split())


def test_a_quiz_is_readable_without_scripts(page):
    first, second = page.select(".bn-quiz")
    assert words(first.select_one(".bn-quiz-asks")) == "1. Which of them says woof, if x>0?"
    answers = first.select("details")
    assert [words(answer.summary) for answer in answers] == ["A. A cat with x=1", "B. A dog", "C. A fish"]
    assert [words(answer.select_one(".bn-quiz-why")) for answer in answers] == [
        "Not quite. It says meow, see Animals.",
        "Right. So it does. dog.bark()",
        "Not quite. It says nothing.",
    ]
    assert ["data-right" in answer.attrs for answer in answers] == [False, True, False]
    assert words(second).startswith("2. Which of them have four legs? Choose all that apply. A. A cat Right. It has.")


def test_formulas_code_and_references_work_everywhere(page):
    first = page.select_one(".bn-quiz")
    assert first.select(".bn-quiz-asks em")
    assert first.select("summary .math") and first.select("summary code")
    assert [link["href"] for link in first.select("a.reference")] == ["#label", "#label"]
    assert first.select(".bn-quiz-why .highlight")


def test_only_pages_with_a_quiz_load_its_script(site):
    assert "quiz.js" in (site / "animals.html").read_text(encoding="utf-8")
    assert "quiz.js" not in (site / "plain.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("builder", ["latex", "text"])
def test_other_formats_have_the_whole_quiz(tmp_path, builder):
    folder, warnings = small_book.build(tmp_path, PAGES, builder)
    assert not warnings
    text = " ".join(" ".join(path.read_text(encoding="utf-8").split()) for path in folder.glob("*.t*x*"))
    for phrase in ("Which of them says", "A fish", "It says nothing.", "Choose all that apply.", "It has, too."):
        assert phrase in text


# --- the form --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address(site):
    """The book on localhost."""
    with browsing.served(site) as address:
        yield address


@pytest.fixture
def tab(browser):
    """A tab without a past."""
    with small_book.visit(browser) as tab:
        yield tab


def question(tab, number):
    """Return the box of a question."""
    return tab.locator(".bn-quiz").nth(number - 1)


def answer(tab, number, *choices):
    """Choose and check."""
    box = question(tab, number)
    for choice in choices:
        box.get_by_label(choice).check()
    box.get_by_role("button", name="Check").click()


def tab_to(tab, target):
    """Press the tab key until `target` has the focus."""
    for _ in range(20):
        tab.keyboard.press("Tab")
        if target.evaluate("element => element === document.activeElement"):
            return
    pytest.fail(f"the tab key doesn't lead to {target}")


def result(tab, number):
    """Return what the live region of a question says."""
    return " ".join(question(tab, number).get_by_role("status").inner_text().split())


def score(tab):
    """Return the line below the quiz."""
    return tab.locator(".bn-quiz-score p").inner_text()


@pytest.mark.browser
def test_a_quiz_is_done_by_keyboard_alone(tab, address):
    tab.goto(f"{address}/animals.html#question-1")
    form = question(tab, 1)
    tab_to(tab, form.get_by_role("radio").first)
    tab.keyboard.press("ArrowDown")
    assert form.get_by_label("A dog").is_checked()
    tab_to(tab, form.get_by_role("button", name="Check"))
    tab.keyboard.press("Enter")
    assert result(tab, 1).startswith("B. Right. So it does.")
    tab_to(tab, form.locator("summary"))
    tab.keyboard.press("Enter")
    assert form.get_by_text("It says nothing.").is_visible()
    assert form.get_by_text("It says meow").is_visible()
    tab_to(tab, question(tab, 2).get_by_role("checkbox").last)
    tab.keyboard.press("Space")
    tab.keyboard.press("Enter")  # sends the form from any of its inputs
    assert result(tab, 2) == "Not quite: 1 missing. C. Right. It has, too."
    assert score(tab).startswith("2 of 2 answered, 1 right at the first try.")


@pytest.mark.browser
def test_a_form_says_what_it_is(tab, address):
    tab.goto(f"{address}/animals.html")
    group = tab.get_by_role("group", name="2. Which of them have four legs?")
    assert group.evaluate("e => document.getElementById(e.getAttribute('aria-describedby')).textContent.trim()") == (
        "Choose all that apply."
    )
    assert group.get_by_role("checkbox", name="A. A cat").count() == 1
    assert question(tab, 1).get_by_role("radio").count() == 3
    assert question(tab, 1).get_by_text("It says nothing.").is_hidden()


@pytest.mark.browser
def test_formulas_are_typeset_where_they_were_moved_to(tab, address):
    tab.goto(f"{address}/animals.html")
    assert question(tab, 1).locator("legend mjx-container").count() == 1
    assert question(tab, 1).locator("label mjx-container").count() == 1


@pytest.mark.browser
def test_a_wrong_answer_is_explained_and_another_may_be_tried(tab, address):
    tab.goto(f"{address}/animals.html")
    answer(tab, 1, "A fish")
    assert result(tab, 1) == "C. Not quite. It says nothing."
    assert score(tab).startswith("1 of 2 answered, 0 right at the first try.")
    answer(tab, 1, "A dog")
    assert result(tab, 1).startswith("B. Right.")
    assert score(tab).startswith("1 of 2 answered, 0 right at the first try.")
    labels = question(tab, 1).locator("label")
    signs = labels.evaluate_all("all => all.map(label => getComputedStyle(label, '::after').content)")
    assert [sign[:2] for sign in signs] == ["no", '"✓', '"✗']  # none, right, tried


@pytest.mark.browser
@pytest.mark.parametrize(
    ("choices", "verdict"),
    [
        (["A. A cat", "C. A dog"], "Right, these are all. A. Right. It has. C. Right. It has, too."),
        (["A. A cat"], "Not quite: 1 missing. A. Right. It has."),
        (["B. A bird"], "Not quite: 1 too many, 2 missing. B. Not quite. It has two."),
        ([], "Choose at least one answer first."),
    ],
)
def test_several_answers(tab, address, choices, verdict):
    tab.goto(f"{address}/animals.html")
    answer(tab, 2, *choices)
    assert result(tab, 2) == verdict


@pytest.mark.browser
def test_the_score_is_there_after_a_reload_and_can_be_forgotten(tab, address):
    tab.goto(f"{address}/animals.html")
    answer(tab, 1)
    assert result(tab, 1) == "Choose an answer first."
    answer(tab, 1, "A dog")
    answer(tab, 2, "A. A cat")
    kept = tab.evaluate("JSON.parse(localStorage.getItem('bn-course/v1/quiz/animals'))")
    assert (kept["score"], kept["points"], list(kept["answers"].values())) == (1, 2, [[1], [0]])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT.*Z", kept["when"])
    tab.reload()
    assert score(tab).startswith("2 of 2 answered, 1 right at the first try.")
    assert question(tab, 1).get_by_label("A dog").is_checked()
    assert result(tab, 1).startswith("B. Right.")
    tab.get_by_role("button", name="Start over").click()
    assert score(tab).startswith("Your first answer")
    assert result(tab, 1) == result(tab, 2) == ""
    assert not question(tab, 1).get_by_label("A dog").is_checked()
    assert tab.evaluate("localStorage.getItem('bn-course/v1/quiz/animals')") is None


@pytest.mark.browser
@pytest.mark.parametrize(
    "kept",
    [
        "no JSON",
        "null",
        "[]",
        '{"answers": "text"}',
        '{"answers": {"another question": [0]}}',
        '{"answers": {"KEY": [7]}}',
        '{"answers": {"KEY": ["length"]}}',
        '{"answers": {"KEY": []}}',
    ],
)
def test_what_is_kept_and_does_not_fit_is_ignored(tab, address, page, kept):
    kept = kept.replace("KEY", page.select_one(".bn-quiz")["data-question"])
    tab.goto(f"{address}/plain.html")
    tab.evaluate("text => localStorage.setItem('bn-course/v1/quiz/animals', text)", kept)
    tab.goto(f"{address}/animals.html")
    assert score(tab).startswith("Your first answer")
    answer(tab, 1, "A dog")
    assert score(tab).startswith("1 of 2 answered, 1 right")


@pytest.mark.browser
@pytest.mark.parametrize("script", [small_book.FORBIDDEN, small_book.FULL], ids=["forbidden", "full"])
def test_without_storage_it_works_and_says_so(browser, address, script):
    with small_book.visit(browser) as tab:
        tab.add_init_script(script)
        tab.goto(f"{address}/animals.html")
        answer(tab, 1, "A dog")
        assert result(tab, 1).startswith("B. Right.")
        assert score(tab).startswith("1 of 2 answered, 1 right")
        assert "doesn't let the page keep the score" in score(tab)
        answer(tab, 2, "A. A cat", "C. A dog")
        assert score(tab).startswith("2 of 2 answered, 2 right")


@pytest.mark.browser
def test_from_a_folder_it_keeps_the_score_too(tab, site):
    tab.goto((site / "animals.html").as_uri())
    answer(tab, 1, "A dog")
    tab.reload()
    assert score(tab).startswith("1 of 2 answered, 1 right")


@pytest.mark.browser
def test_without_scripts_every_answer_opens_to_its_explanation(browser, address):
    with small_book.visit(browser, java_script_enabled=False) as tab:
        tab.goto(f"{address}/animals.html")
        assert tab.get_by_text("It says nothing.").is_hidden()
        tab.get_by_text("A fish").click()
        assert tab.get_by_text("It says nothing.").is_visible()
        assert tab.get_by_role("button", name="Check").count() == 0


@pytest.mark.browser
@pytest.mark.parametrize("script", ["quiz.js", "kept.js"])
def test_a_blocked_script_leaves_the_quiz_readable(browser, address, script):
    context = browser.new_context()
    tab = context.new_page()
    tab.route(re.compile(script), lambda route: route.abort())
    tab.goto(f"{address}/animals.html")
    tab.get_by_text("A fish").click()
    assert tab.get_by_text("It says nothing.").is_visible()
    context.close()


@pytest.mark.browser
def test_on_paper_all_explanations_are_there(tab, address):
    tab.goto(f"{address}/animals.html")
    tab.emulate_media(media="print")
    assert tab.get_by_text("It says nothing.").is_visible()
    assert tab.get_by_role("button", name="Check").count() == 0
