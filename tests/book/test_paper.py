"""The book on paper and on e-readers: a PDF and an EPUB of three pages, made from a site that is built for it."""

import re
import subprocess
import sys
import zipfile
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import browsing
import pytest
import small_book
from browsing import ROOT, SITE

PLOT = """<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20">
<rect width="40" height="20" fill="#0072b2"/></svg>"""
TEX = re.compile(r"\\\(|\\\)|\\(?:frac|sqrt|mathcal|begin|mub|varb|eps|xhat)\b")
BLUE = re.compile(r"\b0 \.447\d* \.698\d* rg")
PAGES = {
    "book/index": """
# A small course

It begins with {ref}`a chapter <ch-first>`.

:::{toctree}
:caption: Chapters

first
:::

:::{toctree}
:caption: Reference

words
:::
""",
    "book/first": r"""
(ch-first)=
# First things & others

About the {term}`batch` and $\mu_{\text{small}} < \frac{1}{2}$, see {ref}`sec-second`.

$$
x' = \frac{x - \mu}{\sigma}
$$

```{figure} plot.svg
:alt: A blue rectangle

Its caption.
```

:::{dropdown} A hint
The folded hint.
:::

:::{quiz}
How many?

- [x] Seven of them

  Since there are seven.

- [ ] Eight of them

  There is no eighth.
:::
""",
    "book/words": """
# Words

:::{glossary}
batch
  Some examples.
:::

(sec-second)=
## A section of words

Back to {ref}`ch-first`, or to [another site](https://example.org/).
""",
}
SETTINGS = """
root_doc = "book/index"
html_title = "A small course"
author = "Its authors"
extensions += ["tooltips"]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site."""
    folder = tmp_path_factory.mktemp("paper")
    (folder / "book").mkdir()
    (folder / "book" / "plot.svg").write_text(PLOT, encoding="utf-8")
    site, warnings = small_book.build(folder, PAGES, settings=SETTINGS)
    assert not warnings
    return site


def made(script, site, output):
    """Run a script of scripts/ on `site` in a process of its own."""
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'scripts')!r}); import pathlib, {script} as script; "
    code += f"script.make(pathlib.Path({str(output)!r}), pathlib.Path({str(site)!r}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return run.returncode, run.stderr


@pytest.mark.parametrize("script", ["make_pdf", "make_epub"])
def test_without_a_site_they_say_what_to_do(tmp_path, script):
    code, said = made(script, tmp_path, tmp_path / "out")
    assert code == 1
    assert f"there is no website in {tmp_path}: run `make book` first" in said


# --- the PDF ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pdf(site, browser, tmp_path_factory):
    """The PDF, opened; made by a Chromium of its own, but `browser` says what to do where there is none."""
    pypdf = pytest.importorskip("pypdf", reason="reading a PDF needs pypdf: pip install '.[dev]'")
    output = tmp_path_factory.mktemp("pdf") / "book.pdf"
    assert made("make_pdf", site, output) == (0, "")
    return pypdf.PdfReader(output)


def outline(reader, entries=None, depth=0):
    """Yield (depth, title, page from 1) of an outline."""
    for entry in reader.outline if entries is None else entries:
        if isinstance(entry, list):
            yield from outline(reader, entry, depth + 1)
        else:
            yield depth, entry.title, reader.get_destination_page_number(entry) + 1


def page_of(pdf, text):
    """Return the number of the first page after the table of contents that shows `text`."""
    return next(number for number, page in enumerate(pdf.pages, 1) if number > 2 and text in page.extract_text())


@pytest.mark.browser
def test_the_outline_has_parts_chapters_and_sections_where_they_are(pdf):
    first, words = page_of(pdf, "Its caption."), page_of(pdf, "Some examples.")
    assert list(outline(pdf)) == [
        (0, "A small course", 3),
        (0, "Chapters", first),
        (1, "First things & others", first),
        (0, "Reference", words),
        (1, "Words", words),
        (2, "A section of words", words),
    ]
    assert (first, words) == (4, 5)
    assert pdf.metadata.title == "A small course"
    assert pdf.metadata.author == "Its authors"


@pytest.mark.browser
def test_the_table_of_contents_gives_the_pages_and_pages_their_number(pdf):
    text = " ".join(pdf.pages[1].extract_text().split())
    assert re.search(r"First things & others 4\b.*Words 5\b", text)
    assert [page.extract_text().split()[-1] for page in pdf.pages] == ["1", "2", "3", "4", "5"]


@pytest.mark.browser
def test_formulas_are_set_and_figures_drawn(pdf):
    page = pdf.pages[3]
    text = page.extract_text()
    assert "\\" not in text
    assert "frac" not in text
    fonts = [font.get_object().get("/FontDescriptor", {}) for font in page["/Resources"]["/Font"].values()]
    assert any("MathJax" in font.get("/FontName", "") or "MJX" in font.get("/FontName", "") for font in fonts), fonts
    assert BLUE.search(page.get_contents().get_data().decode("latin-1"))


@pytest.mark.browser
def test_what_the_site_folds_lies_open(pdf):
    text = " ".join(pdf.pages[3].extract_text().split())
    for shown in ("The folded hint.", "A. Seven of them", "Right. Since there are seven.", "There is no eighth."):
        assert shown in text
    assert "Show code cell" not in text
    assert "undefined" not in text


@pytest.mark.browser
def test_links_between_chapters_stay_inside(pdf):
    inside, outside = [], []
    for number, page in enumerate(pdf.pages, 1):
        for annotation in (entry.get_object() for entry in page.get("/Annots", ())):
            action = annotation.get("/A", {})
            if "/URI" in action:
                outside.append(action["/URI"])
            else:
                name = annotation.get("/Dest") or action.get("/D")
                inside.append((number, pdf.get_destination_page_number(pdf.named_destinations[name]) + 1))
    assert outside == ["https://example.org/"]
    assert {(3, 4), (4, 5), (5, 4), (2, 4), (2, 5)} <= set(inside)


def test_the_whole_book_has_every_chapter_and_no_formula_in_tex(pages):
    pypdf = pytest.importorskip("pypdf", reason="reading a PDF needs pypdf: pip install '.[dev]'")
    file = ROOT / "_build" / "pdf" / "batch_normalization.pdf"
    if not file.exists():
        browsing.absent("there is no PDF of the book: run `make pdf`")
    reader = pypdf.PdfReader(file)
    assert len(reader.pages) > 300
    titles = {title for _, title, _ in outline(reader)}
    for path in (path for path in pages if path.parent.name == "book"):
        title = " ".join(pages[path].select_one("article h1").get_text().split())
        assert title.removesuffix("#") in titles, path  # the sign is a link to the heading itself
    for number, page in enumerate(reader.pages, 1):
        text = page.extract_text()
        assert text.split()[-1] == str(number)
        assert not TEX.search(text), f"page {number}: {TEX.search(text)[0]}"
        assert "undefined" not in text, number


# --- the EPUB --------------------------------------------------------------------------------------------------------

XHTML = "{http://www.w3.org/1999/xhtml}"
OPF = "{http://www.idpf.org/2007/opf}"


@pytest.fixture(scope="module")
def epub(site, tmp_path_factory):
    """The EPUB of three pages as {path: bytes}."""
    return packed_epub(site, tmp_path_factory.mktemp("epub"))


def packed_epub(site, folder):
    """Make an EPUB of a site in `folder` and return it as {path: bytes}."""
    output = folder / "book.epub"
    assert made("make_epub", site, output) == (0, "")
    with zipfile.ZipFile(output) as packed:
        assert packed.testzip() is None
        first = packed.infolist()[0]
        assert (first.filename, first.compress_type) == ("mimetype", zipfile.ZIP_STORED)
        return {name: packed.read(name) for name in packed.namelist()}


def documents(epub):
    """Return the parsed XHTML files, {path: root}."""
    return {name: ElementTree.fromstring(data) for name, data in epub.items() if name.endswith(".xhtml")}


def test_the_package_lists_every_file_once_and_the_spine_every_page(epub):
    assert epub["mimetype"] == b"application/epub+zip"
    container = ElementTree.fromstring(epub["META-INF/container.xml"])
    path = next(container.iter("{urn:oasis:names:tc:opendocument:xmlns:container}rootfile")).attrib["full-path"]
    package = ElementTree.fromstring(epub[path])
    items = {item.attrib["id"]: item.attrib for item in package.iter(f"{OPF}item")}
    folder = PurePosixPath(path).parent
    listed = sorted(str(folder / item["href"]) for item in items.values())
    assert listed == sorted(set(epub) - {"mimetype", "META-INF/container.xml", path})
    spine = [items[entry.attrib["idref"]]["href"] for entry in package.iter(f"{OPF}itemref")]
    assert spine == ["index.xhtml", "first.xhtml", "words.xhtml"]
    traits = {item["href"]: item.get("properties") for item in items.values()}
    assert traits["nav.xhtml"] == "nav"
    assert traits["first.xhtml"] == "mathml"
    kinds = {item["media-type"] for item in items.values()}
    assert kinds == {"application/xhtml+xml", "text/css", "image/svg+xml"}


def test_every_link_and_image_of_the_epub_leads_somewhere(epub):
    check_links(epub)


def test_the_whole_book_makes_an_epub(pages, tmp_path):
    whole = packed_epub(SITE, tmp_path)
    check_links(whole)
    text = {name: "".join(root.itertext()) for name, root in documents(whole).items()}
    assert set(text) == {f"book/{path.stem}.xhtml" for path in pages if path.parent.name == "book"} | {"book/nav.xhtml"}
    assert {name: TEX.search(page)[0] for name, page in text.items() if TEX.search(page)} == {}


def check_links(epub):
    """Fail where a link or an image of an EPUB leads nowhere."""
    pages = documents(epub)
    ids = {name: {tag.attrib["id"] for tag in root.iter() if "id" in tag.attrib} for name, root in pages.items()}
    for name, root in pages.items():
        for tag in root.iter():
            address = urlsplit(tag.attrib.get("href") or tag.attrib.get("src") or "")
            if address.scheme or not (address.path or address.fragment):
                continue
            target = f"book/{unquote(address.path)}" if address.path else name
            assert target in epub, (name, tag.attrib)
            if address.fragment:
                assert address.fragment in ids[target], (name, tag.attrib)


def test_its_navigation_has_parts_chapters_and_sections(epub):
    nav = documents(epub)["book/nav.xhtml"]
    text = [" ".join(tag.itertext()) for tag in nav.iter() if tag.tag in {f"{XHTML}a", f"{XHTML}span"}]
    assert text == ["A small course", "Chapters", "First things & others", "Reference", "Words", "A section of words"]


def test_its_formulas_are_mathml_and_its_answers_open(epub):
    first = documents(epub)["book/first.xhtml"]
    assert len(list(first.iter("{http://www.w3.org/1998/Math/MathML}math"))) == 2
    text = " ".join("".join(first.itertext()).split())
    for shown in ("The folded hint.", "A. Seven of them", "Right. Since there are seven.", "There is no eighth."):
        assert shown in text
    assert "\\(" not in text
    assert not list(first.iter(f"{XHTML}script"))
    assert not list(first.iter(f"{XHTML}details"))
