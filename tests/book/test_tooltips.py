"""Definitions of glossary terms beside the links to them: what is built, and what pointer, keyboard and finger do."""

import json
import os
import re

import pytest
import small_book
from browsing import SITE

SETTINGS = 'extensions += ["tooltips"]\n'
PAGES = {
    "index": """
# The front page

A {term}`batch` and another {term}`batch`, of which there are {term}`many <bias (of a layer)>`.

The same {term}`batch <Batch>` at the end of <https://example.org/>.

```{toctree}
words/glossary
plain
```
""",
    "plain": "# A page without terms\n\nIt links to {doc}`words/glossary`.",
    "words/glossary": """
# Glossary

:::{glossary}
batch
Batch
  The zebras of one {term}`step`, $N$ of them. See {doc}`/plain`.

bias (of a layer)
  A constant.

step
  A small one.
:::
""",
}


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """The folder in which the small book was built."""
    folder = tmp_path_factory.mktemp("terms")
    _, warnings = small_book.build(folder, PAGES, settings=SETTINGS)
    assert not warnings
    return folder / "_build" / "html"


def parse(file):
    """Return the HTML in `file`."""
    bs4 = pytest.importorskip("bs4", reason="reading pages needs beautifulsoup4: pip install '.[dev]'")
    return bs4.BeautifulSoup(file.read_text(encoding="utf-8"), "html.parser")


# --- what is built ---------------------------------------------------------------------------------------------------


def test_every_link_to_a_term_names_its_definition(book):
    page = parse(book / "index.html")
    links = page.select("a.bn-term")
    assert [link.get_text() for link in links] == ["batch", "batch", "many", "batch"]
    assert {link["href"].split("#")[0] for link in links} == {"words/glossary.html"}
    texts = [" ".join(page.find(id=link["aria-describedby"]).get_text().split()) for link in links]
    assert re.fullmatch(r"batch The zebras of one step, \W*N\W* of them\. See A page without terms\.", texts[0])
    assert texts[0] == texts[1]
    assert texts[2] == "bias (of a layer) A constant."
    assert texts[3].startswith("Batch The zebras")


def test_a_definition_is_hidden_comes_once_and_holds_nothing_to_click(book):
    page = parse(book / "index.html")
    definitions = page.select("[role=tooltip]")
    assert len(definitions) == 3
    assert all(definition.has_attr("hidden") for definition in definitions)
    assert not page.select("[role=tooltip] a, [role=tooltip] [id]")
    assert page.select("[role=tooltip] span.math")


def test_pages_without_terms_and_the_glossary_itself_stay_as_they_are(book):
    for name in ("plain", "words/glossary"):
        page = parse(book / f"{name}.html")
        assert not page.select(".bn-term, [role=tooltip], script[src*=tooltips]"), name
    assert parse(book / "words/glossary.html").select("a.reference.internal .std-term")


def test_search_does_not_find_a_page_by_the_definitions_it_shows(book):
    text = (book / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(text.removeprefix("Search.setIndex(").removesuffix(")"))
    found = index["terms"]["zebra"]
    assert index["docnames"][found if isinstance(found, int) else found[0]] == "words/glossary"
    assert isinstance(found, int)


def test_a_changed_definition_reaches_pages_that_did_not_change(tmp_path):
    # the front page is written anyway, since it lists the glossary
    pages = PAGES | {"plain": "# A page\n\nWith a {term}`batch`."}
    site, _ = small_book.build(tmp_path, pages, settings=SETTINGS)
    written = (site / "plain.html").stat().st_mtime_ns
    os.utime(tmp_path / "words" / "glossary.md")  # read again, to the same effect
    small_book.build(tmp_path, {}, settings=SETTINGS)
    assert (site / "plain.html").stat().st_mtime_ns == written
    changed = {"words/glossary": PAGES["words/glossary"].replace("zebras", "giraffes")}
    small_book.build(tmp_path, changed, settings=SETTINGS)
    assert "giraffes" in (site / "plain.html").read_text(encoding="utf-8")


def test_the_course_describes_its_terms(chapters):
    described = 0
    for path, page in chapters.items():
        for link in page.select("a.bn-term"):
            described += 1
            definition = page.find(id=link["aria-describedby"])
            assert definition and len(definition.get_text(strip=True)) > 40, (path, link)
        if path != SITE / "book" / "glossary.html":
            assert not page.select("a.reference.internal:not(.bn-term) > .std-term"), path
    assert described > 100


# --- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture
def tab(request, browser, book):
    """The front page of the small book; parametrize indirectly to set the browser."""
    with small_book.visit(browser, **getattr(request, "param", {})) as tab:
        tab.goto((book / "index.html").as_uri())
        yield tab


def visible(tab):
    """Return the definitions on show."""
    return tab.locator("[role=tooltip]:visible")


@pytest.mark.browser
def test_it_shows_on_hover_and_stays_while_the_pointer_is_on_it(tab):
    link = tab.locator("a.bn-term").first
    link.hover()
    visible(tab).wait_for()
    assert "The zebras" in visible(tab).inner_text()
    box, line = visible(tab).bounding_box(), link.bounding_box()
    assert line["y"] + line["height"] <= box["y"] <= line["y"] + line["height"] + 10
    visible(tab).hover()
    tab.wait_for_timeout(400)
    assert visible(tab).count() == 1
    tab.mouse.move(5, 5)
    visible(tab).wait_for(state="hidden")


@pytest.mark.browser
def test_a_pointer_that_passes_shows_nothing(tab):
    box = tab.locator("a.bn-term").first.bounding_box()
    tab.mouse.move(box["x"] + 3, box["y"] + 5)
    tab.mouse.move(5, 5)
    tab.wait_for_timeout(400)
    assert visible(tab).count() == 0


@pytest.mark.browser
def test_it_shows_with_the_focus_and_escape_puts_it_away(tab):
    from playwright.sync_api import expect

    links = tab.locator("a.bn-term")
    links.nth(1).focus()
    assert "The zebras" in visible(tab).inner_text()
    tab.keyboard.press("Tab")
    assert "A constant." in visible(tab).inner_text()
    tab.keyboard.press("Escape")
    assert visible(tab).count() == 0
    expect(links.nth(2)).to_be_focused()
    tab.keyboard.press("Tab")
    assert visible(tab).count() == 1
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/words/glossary.html#*")


@pytest.mark.browser
def test_escape_puts_it_away_under_the_pointer_too(tab):
    tab.locator("a.bn-term").first.hover()
    visible(tab).wait_for()
    tab.keyboard.press("Escape")
    tab.wait_for_timeout(400)
    assert visible(tab).count() == 0


@pytest.mark.browser
@pytest.mark.parametrize("tab", [{"has_touch": True}], indirect=True)
def test_the_first_tap_shows_it_and_the_second_follows_the_link(tab):
    link = tab.locator("a.bn-term").first
    link.tap()
    assert "Tap again for the glossary." in visible(tab).inner_text()
    tab.touchscreen.tap(5, 5)
    assert visible(tab).count() == 0
    link.tap()
    link.tap()
    tab.wait_for_url("**/words/glossary.html#*")


@pytest.mark.browser
@pytest.mark.parametrize("tab", [{}, {"java_script_enabled": False}], indirect=True, ids=["scripts", "no_scripts"])
def test_screen_readers_have_it_from_the_link(tab):
    from playwright.sync_api import expect

    expect(tab.locator("a.bn-term").nth(2)).to_have_accessible_description("bias (of a layer) A constant.")
    assert visible(tab).count() == 0


@pytest.mark.browser
@pytest.mark.parametrize("tab", [{"java_script_enabled": False}], indirect=True)
def test_without_scripts_a_term_is_a_link(tab):
    tab.locator("a.bn-term").first.click()
    tab.wait_for_url("**/words/glossary.html#*")


@pytest.mark.browser
@pytest.mark.parametrize("tab", [{"color_scheme": scheme} for scheme in ("light", "dark")], indirect=True)
def test_axe_finds_nothing_while_it_shows(tab):
    playwright = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install '.[dev]'")
    tab.locator("a.bn-term").first.focus()
    visible(tab).wait_for()
    faults = playwright.Axe().run(tab).response["violations"]  # the theme's own aside
    assert [fault["id"] for fault in faults if any("tooltip" in str(node) for node in fault["nodes"])] == []


@pytest.mark.browser
def test_it_stays_inside_the_window(tab):
    tab.set_viewport_size({"width": 360, "height": 640})
    link = tab.locator("a.bn-term").last
    for y in (80, 620):
        tab.evaluate(
            f"l => Object.assign(l.style, {{position: 'fixed', left: '300px', top: '{y}px'}})", link.element_handle()
        )
        link.focus()
        box = visible(tab).bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= 640
        assert tab.evaluate("document.documentElement.scrollWidth") <= 360
        tab.keyboard.press("Escape")
        link.blur()
