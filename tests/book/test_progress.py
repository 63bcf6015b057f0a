"""Marks of what has been read, reading paths, and the page "Your progress": on a small book, and the course's own."""

import json
import re

import browsing
import pytest
import small_book
import yaml

ROOT = browsing.ROOT

INDEX = """# Book

```{toctree}
progress
one
two
ps1_set
about
```
"""
PROGRESS = """# Your progress

:::{div} bn-progress
No scripts here.
:::

## One hour

:::{reading-path}
one
ps1_set
:::

## One term

:::{reading-path}
one
ps1_set
two
:::

## Keep it

:::{div} bn-progress-tools
No tools here.
:::
"""
CHAPTER = """# Chapter NAME

```{admonition} The question
:class: bn-question

Why?

- **Time:** MINUTES
- **You need:** nothing
```

:::{quiz}
Yes or no?

- [x] Yes

  It is.

- [ ] No

  It isn't not.
:::
"""


def chapter(name, minutes):
    """Return the text of a chapter."""
    return CHAPTER.replace("NAME", name).replace("MINUTES", minutes)


PAGES = {
    "index": INDEX,
    "progress": PROGRESS,
    "one": chapter("one", "35 minutes to look, or as long as you like"),
    "two": chapter("two", "50 minutes"),
    "ps1_set": chapter("set", "80 minutes"),
    "about": "# About\n\nNothing to read.\n",
}


# --- the paths -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the book, built without a warning."""
    folder = tmp_path_factory.mktemp("book")
    (folder / "exercises" / "ps1_set").mkdir(parents=True)
    output, warnings = small_book.build(folder, PAGES)
    assert not warnings
    return output


def parsed(path):
    """Return the page at `path`."""
    bs4 = pytest.importorskip("bs4")
    return bs4.BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def words(tag):
    """Return the text of `tag` with single spaces."""
    return " ".join(tag.get_text().split())


def test_a_path_is_a_list_of_links_with_times(site):
    page = parsed(site / "progress.html")
    hour, term = page.select("ol.bn-path")
    assert [words(item) for item in hour.select("li")] == ["Chapter one 35 min", "Chapter set 1 h 20 min"]
    assert [link["href"] for link in term.select("a")] == ["one.html", "ps1_set.html", "two.html"]
    assert [item["class"] for item in term.select("li")] == [["bn-chapter"], ["bn-set"], ["bn-chapter"]]
    assert [words(time) for time in page.select(".bn-path-time")] == ["1 h 55 min in all.", "2 h 45 min in all."]


def test_a_page_that_is_not_there_or_has_no_time_is_named_with_its_line(tmp_path):
    path = "# Paths\n\n:::{reading-path}\none\nnowhere\nabout\n:::\n"
    index = "# Book\n\n```{toctree}\nprogress\none\nabout\n```\n"
    _, warnings = small_book.build(tmp_path, {**PAGES, "index": index, "progress": path, "two": "", "ps1_set": ""})
    found = re.findall(r"/progress\.md:(\d+): WARNING: (.*)", warnings)
    assert [(line, message.partition(":")[0]) for line, message in found] == [
        ("5", "unknown document"),
        ("6", "the page about states no time"),
    ]


def test_only_chapters_and_problem_sets_have_a_box_to_tick(site):
    boxes = {name: parsed(site / f"{name}.html").select(".bn-read") for name in ("one", "ps1_set", "about", "progress")}
    assert {name: len(found) for name, found in boxes.items()} == {"one": 1, "ps1_set": 1, "about": 0, "progress": 0}
    assert words(boxes["one"][0]) == "I have read this chapter"
    assert words(boxes["ps1_set"][0]) == "I have done this problem set"
    assert boxes["one"][0].has_attr("hidden")  # without scripts it would keep nothing


# --- the course's own paths ------------------------------------------------------------------------------------------


def course_paths():
    """Return the three reading paths of the course."""
    text = (ROOT / "book" / "progress.md").read_text(encoding="utf-8")
    return [block.split() for block in re.findall(r"^:::\{reading-path\}\n(.*?)^:::$", text, re.MULTILINE | re.DOTALL)]


def stated_minutes(page):
    """Return the minutes that a chapter states; a problem set's are the sum of its notebook's table."""
    notebook = ROOT / "exercises" / page / "notebook.py"
    if notebook.exists():
        rows = re.findall(r"^# \| \d+\. .* \| (\d+) \| \d+ \|$", notebook.read_text(encoding="utf-8"), re.MULTILINE)
        return sum(map(int, rows))
    return int(re.search(r"\*\*Time:\*\* (\d+)", (ROOT / "book" / f"{page}.md").read_text(encoding="utf-8"))[1])


def test_the_longest_path_has_every_chapter_and_every_problem_set():
    parts = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))["parts"]
    wanted = [c["file"] for part in parts if part["caption"] in ("Chapters", "Problem sets") for c in part["chapters"]]
    hour, weekend, term = course_paths()
    wanted = [page.removeprefix("book/") for page in wanted if not page.endswith("_in_page")]  # the same sets again
    assert sorted(term) == sorted(wanted)
    assert set(hour) < set(weekend) < set(term)


def test_the_paths_take_as_long_as_they_say():
    hour, weekend, _ = course_paths()
    assert sum(map(stated_minutes, hour)) <= 60
    assert 6 * 60 <= sum(map(stated_minutes, weekend)) <= 12 * 60


# --- in a browser ----------------------------------------------------------------------------------------------------


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


def keep(tab, **values):
    """Write marks, as another page of the course does; a name's double underscores stand for slashes."""
    for name, value in values.items():
        key = "bn-course/v1/" + name.replace("__", "/")
        tab.evaluate("([key, text]) => localStorage.setItem(key, text)", [key, json.dumps(value)])


def kept(tab):
    """Return the names of the marks that the browser keeps."""
    names = tab.evaluate("Object.keys(localStorage).filter(key => key.startsWith('bn-course/v1/'))")
    return sorted(name.removeprefix("bn-course/v1/") for name in names)


def summary(tab):
    """Return the table at the top of the page."""
    tab.locator(".bn-summary").wait_for()
    what, text = tab.locator(".bn-summary dt"), tab.locator(".bn-summary dd")
    return dict(zip(what.all_inner_texts(), text.all_inner_texts(), strict=True))


def items(tab, path):
    """Return the texts of a path's items."""
    return [" ".join(text.split()) for text in tab.locator("ol.bn-path").nth(path).locator("li").all_inner_texts()]


def said(tab):
    """Return what the tools' live region says."""
    return tab.locator(".bn-progress-tools [role=status]").inner_text()


@pytest.mark.browser
def test_a_page_is_marked_as_read_and_the_sidebar_shows_it(tab, address):
    tab.goto(f"{address}/one.html")
    link = tab.locator(".bd-links a", has_text="Chapter one")
    assert "bn-is-read" not in link.get_attribute("class")
    tab.get_by_label("I have read this chapter").focus()
    tab.keyboard.press("Space")
    assert kept(tab) == ["read/one"]
    assert "bn-is-read" in link.get_attribute("class")
    tab.goto(f"{address}/two.html")
    assert "bn-is-read" in link.get_attribute("class")
    assert not tab.get_by_label("I have read this chapter").is_checked()
    tab.goto(f"{address}/one.html")
    tab.get_by_label("I have read this chapter").uncheck()
    assert kept(tab) == []
    assert "bn-is-read" not in link.get_attribute("class")


@pytest.mark.browser
def test_the_page_shows_all_that_is_kept_and_what_is_next(tab, address):
    tab.goto(f"{address}/progress.html")
    assert summary(tab) == {
        "Chapters read": "0 of 2",
        "Quizzes": "none yet",
        "Exercises": "none yet",
        "Problem sets done": "0 of 1",
    }
    tab.goto(f"{address}/one.html")
    tab.get_by_label("A. Yes").check()
    tab.get_by_role("button", name="Check").click()
    tab.get_by_label("I have read this chapter").check()
    keep(tab, exercise__ps1_set__min_max={"score": 11, "points": 11, "when": "2026-01-01T00:00:00Z"})
    keep(tab, exercise__ps1_set__gradient={"score": 4.5, "points": 11, "when": "2026-01-01T00:00:00Z"})
    tab.locator(".bn-quiz-score a").click()
    assert tab.url.endswith("/progress.html")
    assert summary(tab) == {
        "Chapters read": "1 of 2",
        "Quizzes": "1 right at the first try, of 1 question answered",
        "Exercises": "2 questions checked, 15.5 of 22 points",
        "Problem sets done": "0 of 1",
    }
    assert items(tab, 0) == [
        "Chapter one 35 min ✓ read, quiz: 1 of 1",
        "Chapter set 1 h 20 min 2 exercises: 15.5 of 22 points",
    ]
    hour, term = tab.locator(".bn-path-next").all()
    assert "1 of 2 done, 1 h 20 min left. Next: Chapter set" in hour.inner_text()
    assert "1 of 3 done, 2 h 10 min left. Next: Chapter set" in term.inner_text()
    assert tab.get_by_role("progressbar", name="One hour: 1 of 2 done").count() == 1
    hour.get_by_role("link").click()
    tab.get_by_label("I have done this problem set").check()
    tab.goto(f"{address}/progress.html")
    assert "2 of 2 done. You have come to the end of this path." in hour.inner_text()


@pytest.mark.browser
def test_another_tab_is_followed(browser, address):
    with small_book.visit(browser) as tab:
        tab.goto(f"{address}/progress.html")
        other = tab.context.new_page()
        other.goto(f"{address}/two.html")
        other.get_by_label("I have read this chapter").check()
        tab.get_by_text("1 of 2").first.wait_for()


@pytest.mark.browser
def test_marks_are_saved_erased_and_taken_over_again(tab, address, tmp_path):
    tab.goto(f"{address}/progress.html")
    keep(tab, read__one={"when": "2026-01-02T00:00:00Z"}, quiz__two={"score": 1, "points": 1, "answers": {"x": [0]}})
    keep(tab, exercise__ps1_set__min_max={"score": 11, "points": 11, "when": 1767312000000})
    tab.evaluate("localStorage.setItem('another program', 'its own')")
    tab.reload()
    before = summary(tab)

    with tab.expect_download() as download:
        tab.get_by_role("button", name="Save as a file").click()
    assert re.fullmatch(r"bn-course-\d{4}-\d\d-\d\d\.json", download.value.suggested_filename)
    file = tmp_path / "saved.json"
    download.value.save_as(file)
    saved = json.loads(file.read_text(encoding="utf-8"))
    assert saved["format"] == "bn-course/v1"
    assert sorted(saved["kept"]) == kept(tab) == ["exercise/ps1_set/min_max", "quiz/two", "read/one"]

    tab.once("dialog", lambda dialog: dialog.dismiss())
    tab.get_by_role("button", name="Erase").click()
    assert len(kept(tab)) == 3

    asked = []
    tab.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.accept()))
    tab.get_by_role("button", name="Erase").click()
    assert "Erase 3 marks" in asked[0]
    assert kept(tab) == []
    assert tab.evaluate("localStorage.getItem('another program')") == "its own"
    assert summary(tab)["Chapters read"] == "0 of 2"
    tab.get_by_role("button", name="Erase").click()
    assert said(tab) == "There is nothing to erase."

    tab.get_by_label("Take over a file").set_input_files(file)
    tab.get_by_text("3 marks taken over.").wait_for()
    assert summary(tab) == before
    tab.reload()
    assert summary(tab) == before


@pytest.mark.browser
def test_taking_over_keeps_what_is_newer_and_leaves_out_what_it_does_not_know(tab, address, tmp_path):
    tab.goto(f"{address}/progress.html")
    keep(tab, quiz__one={"score": 1, "points": 1, "when": "2026-03-01T00:00:00Z"})
    keep(tab, quiz__two={"score": 0, "points": 1, "when": "2026-01-01T00:00:00Z"})
    marks = {
        "quiz/one": {"score": 0, "points": 1, "when": "2026-02-01T00:00:00Z"},
        "quiz/two": {"score": 1, "points": 1, "when": "2026-02-01T00:00:00Z"},
        "read/../../x": {},
        "code/ps1_set": {"text": "print()"},
        "read/one": "yes",
    }
    file = tmp_path / "file.json"
    file.write_text(json.dumps({"format": "bn-course/v1", "kept": marks}), encoding="utf-8")
    tab.get_by_label("Take over a file").set_input_files(file)
    tab.get_by_text("1 mark taken over.").wait_for()
    assert said(tab).endswith("1 left as here, where they are as new or newer. 3 not understood and left out.")
    scores = [tab.evaluate("name => bnKept.get(name).score", name) for name in ("quiz/one", "quiz/two")]
    assert scores == [1, 1]
    assert kept(tab) == ["quiz/one", "quiz/two"]


@pytest.mark.browser
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it isn't JSON"),
        ("{}", 'its "format" isn\'t "bn-course/v1"'),
        ("null", 'its "format" isn\'t "bn-course/v1"'),
        ('{"format": "bn-course/v1"}', 'it has no marks under "kept"'),
    ],
)
def test_another_file_changes_nothing_and_is_told(tab, address, tmp_path, text, reason):
    tab.goto(f"{address}/progress.html")
    keep(tab, read__one={"when": "2026-01-02T00:00:00Z"})
    file = tmp_path / "other.json"
    file.write_text(text, encoding="utf-8")
    tab.get_by_label("Take over a file").set_input_files(file)
    tab.get_by_text("other.json was not saved by this page").wait_for()
    assert reason in said(tab)
    assert kept(tab) == ["read/one"]


@pytest.mark.browser
@pytest.mark.parametrize("script", [small_book.FORBIDDEN, small_book.FULL], ids=["forbidden", "full"])
def test_what_cannot_be_kept_is_said(browser, address, script):
    with small_book.visit(browser) as tab:
        tab.add_init_script(script)
        tab.goto(f"{address}/one.html")
        tab.get_by_label("I have read this chapter").check()
        assert "doesn't let the page keep it" in tab.locator(".bn-read [role=status]").inner_text()
        assert tab.get_by_label("I have read this chapter").is_checked()
        tab.goto(f"{address}/progress.html")
        warned = tab.get_by_text("doesn't let the page keep anything").count()
        assert warned == (script == small_book.FORBIDDEN)
        assert summary(tab)["Chapters read"] == "0 of 2"


@pytest.mark.browser
def test_from_a_folder_it_works_and_says_what_some_browsers_do(tab, site):
    tab.goto((site / "one.html").as_uri())
    tab.get_by_label("I have read this chapter").check()
    tab.goto((site / "progress.html").as_uri())
    assert summary(tab)["Chapters read"] == "1 of 2"  # in Chromium the pages of a folder share what is kept
    assert tab.get_by_text("You have opened the course from a folder.").is_visible()


@pytest.mark.browser
def test_without_scripts_the_paths_are_lists_with_links(browser, address):
    with small_book.visit(browser, java_script_enabled=False) as tab:
        tab.goto(f"{address}/progress.html")
        assert items(tab, 0) == ["Chapter one 35 min", "Chapter set 1 h 20 min"]
        assert tab.get_by_text("No scripts here.").is_visible()
        tab.locator("ol.bn-path a").first.click()
        assert tab.url.endswith("/one.html")
        assert tab.get_by_text("I have read this chapter").is_hidden()
