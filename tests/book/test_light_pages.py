"""What pages load (book/_ext/light_pages.py) and the room of their pictures (book/_ext/figure_sizes.py)."""

import re

import bs4
import pytest
import small_book
from fontTools.ttLib import TTFont

SETTINGS = """
extensions += ["figure_sizes", "light_pages"]
html_static_path += ["more"]


def setup(app):
    app.connect("html-page-context", lambda app, page, *_: page == "index" and app.add_css_file("of/one_page.css"))
"""
DRAWING = """<svg xmlns="http://www.w3.org/2000/svg" width="72pt" height="36pt" viewBox="0 0 72 36">
<g transform="scale(0.015625)"><path d="M 1.123456 2.999999 L 30.5 7"/></g>
<g clip-path="url(#c)"><use href="#a" x="1.23456" style="fill: red"/><use href="#a" x="2" style="fill: red"/></g>
<g clip-path="url(#c)"><use href="#a" x="3" style="fill: red"/><use href="#a" x="4" style="fill: blue"/></g></svg>
"""
INDEX = f"""# Book

```{{toctree}}
code
```

![A line](line.svg)

A formula, $x$, and no code.

{"So many words that nobody sees what comes below. " * 40}

![Another line](other.svg)
"""
CODE = "# Code\n\n```python\nvalue = [1]\n```\n\n:::{note}\nA box.\n:::\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("light")
    for name in ("line", "other"):
        (folder / f"{name}.svg").write_text(DRAWING)
    (folder / "more" / "of").mkdir(parents=True)
    (folder / "more" / "of" / "one_page.css").write_text(".made-by-a-script { color: red; }")
    site, warnings = small_book.build(folder, {"index": INDEX, "code": CODE}, settings=SETTINGS)
    assert not warnings
    return site


def page(site, name):
    return bs4.BeautifulSoup((site / f"{name}.html").read_text(encoding="utf-8"), "html.parser")


def loads(site, name):
    """The style sheets and scripts of a page, without folders and versions."""
    found = page(site, name)
    addresses = [tag["href"] for tag in found.select("link[rel=stylesheet]")] + [
        tag["src"] for tag in found.select("script[src]")
    ]
    return [address.partition("?")[0].rpartition("/")[2] for address in addresses]


def test_one_style_sheet_stands_for_the_theme_and_the_extensions(site):
    assert [name for name in loads(site, "code") if name.endswith(".css")] == [
        "light.css",
        "progress.css",
        "course.css",
    ]


def test_a_style_sheet_of_one_page_stays_with_it(site):
    assert "one_page.css" in loads(site, "index")
    assert "one_page.css" not in loads(site, "code")


def test_rules_that_some_page_uses_stay_and_others_go(site):
    css = (site / "_static" / "light.css").read_text(encoding="utf-8")
    for used in [
        ".admonition.note",
        ".bd-sidebar-primary",
        ".highlight .mi",
        "mjx-container",
        "#pst-back-to-top",
        "pre{",
    ]:
        assert used in css.replace(" {", "{"), used
    for unused in [".sd-bg-danger", ".btn-outline-danger", ".fa-dragon", "mjx-mfrac"]:
        assert unused not in css, unused
    assert len(css) < 200_000


def test_every_file_that_the_style_sheet_names_is_there(site):
    css = (site / "_static" / "light.css").read_text(encoding="utf-8")
    files = [name for name in re.findall(r'url\("?([^")]+)', css) if not name.startswith(("data:", "#"))]
    assert files
    assert [name for name in files if not (site / "_static" / name).is_file()] == []


def test_fonts_hold_the_characters_that_are_shown_and_few_others(site):
    solid = TTFont(site / "_static" / "fonts" / "fa-solid-900.woff").getBestCmap()
    assert 0xF059 in solid  # the question mark of course.css
    assert 0xF0C9 in solid  # the bars of the theme's button
    assert 0xF6D5 not in solid  # a dragon
    assert ord("x") in TTFont(site / "_static" / "fonts" / "MathJax_Math-Italic.woff").getBestCmap()
    assert ord("Q") not in TTFont(site / "_static" / "fonts" / "MathJax_Math-Italic.woff").getBestCmap()


def test_scripts_go_where_they_are_of_use_and_wait(site):
    assert "clipboard.min.js" not in loads(site, "index")
    assert not {"fontawesome.js", "searchindex.js", "searchtools.js", "design-tabs.js"} & set(loads(site, "code"))
    waits = {
        tag["src"].rpartition("/")[2].partition("?")[0]: tag.has_attr("defer")
        for tag in page(site, "code").select("script[src]")
    }
    assert [name for name, does in waits.items() if not does] == ["documentation_options.js"]


def test_pictures_have_their_room_and_far_ones_wait(site):
    near, far = page(site, "index").select("article img")
    assert (near["width"], near["height"]) == ("96", "48")  # 72 by 36 points
    assert not near.has_attr("loading")
    assert far["loading"] == "lazy"


def test_drawings_are_rounded_where_nobody_sees_it(site):
    text = next((site / "_images").glob("line*.svg")).read_text()
    assert 'd="M 1.12 3 L 30.5 7"' in text
    assert "scale(0.015625)" in text
    assert '<g clip-path="url(#c)" style="fill: red"><use href="#a" x="1.23"/><use href="#a" x="2"/></g>' in text
    assert text.count("style=") == 3  # marks of two colors keep theirs


@pytest.mark.browser
def test_icons_are_drawn(browser, site):
    with small_book.visit(browser) as tab:
        tab.goto((site / "code.html").as_uri())
        tab.evaluate("() => document.fonts.ready")
        loaded = tab.evaluate("() => [...document.fonts].filter(f => f.status === 'loaded').map(f => f.family)")
        assert any("Font Awesome" in family for family in loaded)
        assert tab.locator("i.fa-solid:visible").first.bounding_box()["width"] > 5


@pytest.mark.browser
def test_a_menu_opens_and_closes_by_mouse_and_by_keyboard(browser, site):
    with small_book.visit(browser) as tab:
        tab.goto((site / "code.html").as_uri())
        button = tab.get_by_role("button", name="Download this page")
        menu = tab.locator(".dropdown-download-buttons .dropdown-menu")
        button.click()
        assert menu.is_visible()
        box, edge = menu.bounding_box(), button.bounding_box()
        assert box["y"] >= edge["y"] + edge["height"] - 2 and box["x"] + box["width"] <= 1280
        tab.locator("article h1").click()
        assert menu.is_hidden() and button.get_attribute("aria-expanded") == "false"
        button.focus()
        tab.keyboard.press("ArrowDown")
        assert menu.is_visible() and menu.locator(":focus").count() == 1
        tab.keyboard.press("Escape")
        assert menu.is_hidden() and button.evaluate("button => document.activeElement === button")
