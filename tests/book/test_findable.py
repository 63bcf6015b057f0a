"""What search engines, and links to the site, show of it: descriptions, cards, structured data, sitemap, 404.html."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import browsing
import pytest
import small_book
import yaml
from browsing import ROOT, SITE

PNG = b"\x89PNG\r\n\x1a\n"
ADDRESS = "https://example.org/some/deep/path/"
SETTINGS = 'extensions += ["findable"]\nhtml_title = "A small book"\nauthor = "Its authors"\nlanguage = "en"\n'
PAGES = {
    "index": """---
myst:
  html_meta:
    description: A course of two pages & "quotes", for the tests of what others see of a site.
---
# The front page

```{toctree}
deep/chapter
deep/plain
```
""",
    "deep/chapter": """---
myst:
  html_meta:
    description: What a chapter is about, in a sentence that ends </script> as nobody would end it.
---
# A chapter

:::{admonition} The question
:class: bn-question
- **Time:** 90 minutes
:::
""",
    "deep/plain": "# A page without a description\n",
}


# --- the course's own pages ------------------------------------------------------------------------------------------


def names():
    """Yield the name of every page in the table of contents."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    yield toc["root"]
    for part in toc["parts"]:
        yield from (chapter["file"] for chapter in part["chapters"])


def described():
    """Return {page: description} from the front matter of all pages."""
    found = {}
    for name in names():
        text = (ROOT / f"{name}.md").read_text(encoding="utf-8")
        front = yaml.safe_load(text.split("---\n")[1]) if text.startswith("---\n") else {}
        found[name] = front.get("myst", {}).get("html_meta", {}).get("description", "")
    return found


def test_every_page_describes_itself_in_50_to_160_characters():
    found = described()
    assert len(found) > 30
    assert {name: len(text) for name, text in found.items() if not 50 <= len(text) <= 160} == {}


def test_no_two_pages_have_the_same_description():
    found = described()
    assert len(set(found.values())) == len(found)


def test_built_pages_carry_what_their_sources_say(pages):
    for name, text in described().items():
        page = pages[SITE / f"{name}.html"]
        assert page.find("meta", attrs={"name": "description"})["content"] == text, name
        assert page.find("meta", property="og:description")["content"] == text, name
        assert page.find("link", rel="apple-touch-icon"), name
    titles = [pages[SITE / f"{name}.html"].title.get_text(strip=True) for name in described()]
    assert len(set(titles)) == len(titles)


def test_chapters_are_learning_resources_of_the_course(pages):
    (course,) = structured(pages[SITE / "book" / "index.html"])
    assert course["@type"] == "Course"
    assert course["hasCourseInstance"]["courseWorkload"] != "PT0H"
    kinds = [structured(page)[0]["learningResourceType"] for page in pages.values() if page.select(".bn-read")]
    assert kinds.count("Problem set") == 8
    assert kinds.count("Chapter") >= 16


def structured(page):
    """Return the structured data of a parsed page."""
    return [json.loads(tag.get_text()) for tag in page.find_all("script", type="application/ld+json")]


# --- a small book ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_address(tmp_path_factory):
    """The small book, built for ADDRESS without its last slash."""
    settings = SETTINGS + f"html_baseurl = {ADDRESS.rstrip('/')!r}\n"
    site, warnings = small_book.build(tmp_path_factory.mktemp("address"), PAGES, settings=settings)
    assert not warnings
    return site


@pytest.fixture(scope="module")
def without_address(tmp_path_factory):
    """The small book as it is built by default."""
    site, warnings = small_book.build(tmp_path_factory.mktemp("no_address"), PAGES, settings=SETTINGS)
    assert not warnings
    return site


def parse(file):
    """Return the HTML in `file`."""
    bs4 = pytest.importorskip("bs4", reason="reading pages needs beautifulsoup4: pip install '.[dev]'")
    return bs4.BeautifulSoup(file.read_text(encoding="utf-8"), "html.parser")


def tags(page):
    """Return {name: content} of the OpenGraph and Twitter tags of a page."""
    found = page.select("meta[property^='og:'], meta[name^='twitter:']")
    return {tag.get("property") or tag["name"]: tag["content"] for tag in found}


def test_a_card_names_the_page_and_shows_a_picture(with_address):
    found = tags(parse(with_address / "deep" / "chapter.html"))
    picture = found["og:image"].removeprefix(ADDRESS)
    assert found == {
        "og:site_name": "A small book",
        "og:type": "article",
        "og:title": "A chapter",
        "og:description": "What a chapter is about, in a sentence that ends </script> as nobody would end it.",
        "og:url": ADDRESS + "deep/chapter.html",
        "og:image": ADDRESS + picture,
        "og:image:width": "1200",
        "og:image:height": "630",
        "og:image:alt": "A chapter: What a chapter is about, in a sentence that ends </script> as nobody would end it.",
        "twitter:card": "summary_large_image",
    }
    assert size(with_address / picture) == (1200, 630)
    assert tags(parse(with_address / "index.html"))["og:type"] == "website"
    assert tags(parse(with_address / "deep" / "plain.html")) == {}


def test_without_an_address_nothing_pretends_to_know_it(without_address):
    page = parse(without_address / "deep" / "chapter.html")
    assert {"og:title", "og:description", "twitter:card"} <= set(tags(page))
    assert not {"og:url", "og:image"} & set(tags(page))
    assert not page.find("link", rel="canonical")
    assert not (without_address / "sitemap.xml").exists()
    assert "Sitemap" not in (without_address / "robots.txt").read_text(encoding="utf-8")


def test_canonical_links_and_sitemap_give_the_whole_address(with_address):
    page = parse(with_address / "deep" / "chapter.html")
    assert page.find("link", rel="canonical")["href"] == ADDRESS + "deep/chapter.html"
    root = ElementTree.parse(with_address / "sitemap.xml").getroot()
    space = "{http://www.sitemaps.org/schemas/sitemap/0.9}"
    assert root.tag == space + "urlset"
    places = [place.text for place in root.iter(space + "loc")]
    assert places == [ADDRESS + name for name in ("deep/chapter.html", "deep/plain.html", "index.html")]
    assert f"Sitemap: {ADDRESS}sitemap.xml\n" in (with_address / "robots.txt").read_text(encoding="utf-8")


def test_a_host_that_builds_the_site_may_name_its_address(tmp_path, monkeypatch):
    monkeypatch.setenv("SITE_ADDRESS", ADDRESS)
    site, _ = small_book.build(tmp_path, PAGES, settings=SETTINGS)
    assert parse(site / "index.html").find("link", rel="canonical")["href"] == ADDRESS + "index.html"


@pytest.mark.parametrize("address", ["example.org/course", "ftp://example.org", "/course/"])
def test_an_address_that_is_none_stops_the_build(tmp_path, address):
    (tmp_path / "conf.py").write_text(small_book.CONF + SETTINGS + f"html_baseurl = {address!r}\n", encoding="utf-8")
    command = [sys.executable, "-m", "sphinx", "-q", tmp_path, tmp_path / "out"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode != 0
    assert f"the site's address is {address!r}: give all of it" in run.stderr


def test_the_front_page_is_a_course_and_a_chapter_a_part_of_it(with_address):
    (course,) = structured(parse(with_address / "index.html"))
    assert course["@context"] == "https://schema.org"
    assert course["@type"] == "Course"
    assert course["url"] == ADDRESS + "index.html"
    assert course["provider"]["name"] == "Its authors"
    assert course["hasCourseInstance"] == {"@type": "CourseInstance", "courseMode": "Online", "courseWorkload": "PT2H"}
    (chapter,) = structured(parse(with_address / "deep" / "chapter.html"))
    assert chapter["@type"] == "LearningResource"
    assert chapter["timeRequired"] == "PT90M"
    assert chapter["isPartOf"]["url"] == course["url"]
    assert chapter["description"].endswith("</script> as nobody would end it.")  # which didn't end the script
    assert structured(parse(with_address / "deep" / "plain.html")) == []


def test_the_front_page_is_named_once(with_address):
    assert parse(with_address / "index.html").title.get_text() == "The front page"
    assert parse(with_address / "deep" / "chapter.html").title.get_text() == "A chapter — A small book"


def test_the_search_page_stays_out_of_search(with_address):
    assert parse(with_address / "search.html").find("meta", attrs={"name": "robots"})["content"] == "noindex"
    assert not parse(with_address / "index.html").find("meta", attrs={"name": "robots"})


def size(file):
    """Return width and height of a PNG."""
    data = file.read_bytes()
    assert data.startswith(PNG)
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def test_the_icon_for_phones_is_square(without_address):
    assert size(without_address / "_static" / "apple-touch-icon.png") == (180, 180)


def test_a_long_title_stays_on_its_card(tmp_path):
    sys.path.append(str(ROOT / "book" / "_ext"))
    from card import draw_card
    from matplotlib.image import imread

    longest = max(described().values(), key=len)
    draw_card(tmp_path / "card.png", "Problem set 6: Noise, dropout, weight decay, overfitting", "A course", longest)
    card = imread(tmp_path / "card.png")
    edge = card[0, 0]
    assert card.shape[:2] == (630, 1200)
    for border in (card[:30], card[-30:], card[:, :30], card[:, -30:]):
        assert (border == edge).all()
    with pytest.raises(ValueError, match="doesn't fit on a card"):
        draw_card(tmp_path / "card.png", "An endless title " * 20, "A course", longest)


def test_every_page_of_the_course_fits_on_its_card(tmp_path):
    """Cards are drawn only where the site's address is known, so no other build would notice."""
    sys.path.append(str(ROOT / "book" / "_ext"))
    from card import draw_card

    for name, about in described().items():
        text = (ROOT / f"{name}.md").read_text(encoding="utf-8")
        title = re.search(r"^# (.+)$", text, re.MULTILINE)[1]
        draw_card(tmp_path / "card.png", title, "Batch normalization, tested", about)


# --- pages that aren't there -----------------------------------------------------------------------------------------


class WithNotFound(browsing.QuietHandler):
    """Serve 404.html for what is missing, as GitHub Pages and GitLab Pages do."""

    base = "/some/deep/path/"

    def send_error(self, code, message=None, explain=None):
        """Answer with the site's own page."""
        body = (Path(self.directory) / self.base.strip("/") / "404.html").read_bytes()
        self.send_response(code)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@pytest.mark.browser
@pytest.mark.parametrize(
    ("built", "missing", "scripts"),
    [
        ("with_address", "nothing.html", True),
        ("with_address", "deep/nothing.html", False),
        ("with_address", "a/b/c/", False),
        ("without_address", "nothing.html", False),  # deeper, the page can't know where the site begins
        ("without_address", "deep/nothing.html", True),
        ("without_address", "a/b/c/", True),
    ],
)
def test_a_missing_page_leads_back_from_any_depth(request, browser, tmp_path, built, missing, scripts):
    shutil.copytree(request.getfixturevalue(built), tmp_path / "some" / "deep" / "path")
    server = browsing.served(tmp_path, WithNotFound)
    with server as address, small_book.visit(browser, java_script_enabled=scripts) as tab:
        answer = tab.goto(f"{address}/some/deep/path/{missing}")
        assert answer.status == 404
        tab.wait_for_load_state("networkidle")
        assert tab.get_by_role("heading", level=1).inner_text() == "Page not found"
        tab.get_by_role("searchbox", name="Search the course").fill("chapter")
        tab.get_by_role("button", name="Search").click()
        tab.wait_for_url(f"{address}/some/deep/path/search.html?q=chapter")
        tab.goto(f"{address}/some/deep/path/{missing}")
        tab.wait_for_load_state("networkidle")
        tab.get_by_role("link").click()
        tab.wait_for_url(f"{address}/some/deep/path/index.html")
