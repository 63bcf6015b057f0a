"""The built website as pages for a book: what `make_pdf.py` and `make_epub.py` share.

The pages come from _build/html in the order of its sidebar, each as its article alone, cleaned of what needs a script
or a click: buttons and marks go, answers of a quiz lie open, and a link to another page becomes a link inside the book.
Code that the site folds away stays away: the notebooks have it.
"""

import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from bs4 import BeautifulSoup, Tag

SITE = Path(__file__).parents[1] / "_build" / "html"
GONE = (
    "script, style, button, a.headerlink, .bn-read, .bn-definitions, details.above-input, details.below-input, "
    ".onlyprint, .toctree-wrapper"
)


@dataclass
class Page:
    """A page of the book."""

    name: str  # its path in the site without ".html"
    part: str  # of the book
    document: BeautifulSoup
    article: Tag

    @property
    def anchor(self):
        """The id of the page as a whole."""
        return self.name.rpartition("/")[2]

    @property
    def title(self):
        """The heading of the page, with its number."""
        return plain(self.article.h1)


def plain(tag):
    """Return the text of a tag in one line, without the marks of formulas."""
    return re.sub(r"\\[()]", "", " ".join(tag.get_text().split()))


def stop(message):
    """End with a message on what is missing and what to do."""
    sys.exit(f"{Path(sys.argv[0]).name}: {message}")


def read(site=SITE):
    """Return the pages of a site in their order, cleaned and linked with each other."""
    root = site / "book" / "index.html"
    if not root.is_file():
        stop(f"there is no website in {site}: run `make book` first")
    contents = BeautifulSoup(root.read_text(encoding="utf-8"), "html.parser")
    pages, part = [parse(site, "book/index", "")], ""
    for tag in contents.select(".bd-links .caption-text, .bd-links a.reference.internal"):
        if tag.name == "a":
            address = urlsplit(urljoin("book/index.html", tag["href"]))
            name = address.path.removesuffix(".html")
            if not address.fragment and name not in {page.name for page in pages}:
                pages.append(parse(site, name, part))
        else:
            part = tag.get_text().strip()
    for page in pages:
        clean(page)
        make_unique(page)
    ids = {tag["id"] for page in pages for tag in page.article.select("[id]")}
    for page in pages:
        link(page, {page.name: page for page in pages}, ids)
    return pages


def parse(site, name, part):
    """Return one page as it is."""
    document = BeautifulSoup((site / f"{name}.html").read_text(encoding="utf-8"), "html.parser")
    return Page(name, part, document, document.select_one("article.bd-article"))


def clean(page):
    """Take out what paper can't do, and lay open what is folded."""
    for tag in page.article.select(GONE):
        tag.decompose()
    for tag in page.article.select("noscript"):
        tag.unwrap()
    for tag in page.article.select("[hidden]"):
        tag.decompose()
    for tag in page.article.select("details"):
        tag.name = "div"
        tag.attrs.pop("open", None)
    for tag in page.article.select("summary"):
        tag.name = "p"
    for tag in page.article.select("img"):
        tag.attrs.pop("loading", None)
    for attribute in ("tabindex", "aria-describedby", "aria-labelledby", "for"):
        for tag in page.article.select(f"[{attribute}]"):
            del tag[attribute]


def make_unique(page):
    """Make the ids of a page the only ones of their kind in the book."""
    for tag in page.article.select("[id]"):
        tag["id"] = f"{page.anchor}--{tag['id']}"
    page.article.name = "section"
    page.article["id"] = page.anchor


def link(page, pages, ids):
    """Point links at the book's ids, and give the files of images from the site's folder."""
    for tag in page.article.select("a[href]"):
        address = urlsplit(urljoin(f"{page.name}.html", tag["href"]))
        there = pages.get(unquote(address.path).removesuffix(".html"))
        if address.scheme:
            continue
        if there:
            target = f"{there.anchor}--{unquote(address.fragment)}"
            tag["href"] = f"#{target if target in ids else there.anchor}"
        else:
            tag.name = "span"  # a file that is on the site alone
            del tag["href"]
    for tag in page.article.select("img[src]"):
        if not urlsplit(tag["src"]).scheme:
            tag["src"] = unquote(urljoin(f"{page.name}.html", tag["src"]))


def author_of(page):
    """Return who made the book, as the site's footer says."""
    return page.document.select_one(".component-author").get_text().strip().removeprefix("By ")


def chromium(playwright):
    """Start Chromium without a window."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not program:
        stop("there is no Chromium on PATH: install your system's package `chromium`")
    return playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
