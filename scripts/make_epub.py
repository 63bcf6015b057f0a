"""Make an EPUB 3 of the whole book, from the built website.

    python scripts/make_epub.py _build/epub/batch_normalization.epub

Formulas are the MathML that the site carries for screen readers; figures are the site's own files. Nothing needs a
script or the network.
"""

import argparse
import mimetypes
import os
import uuid
import zipfile
from datetime import UTC, datetime
from html import escape
from itertools import groupby
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree

import paper

STYLE = """
body { line-height: 1.45; }
pre { background: #f3f4f5; font-size: 0.8em; padding: 0.5em; white-space: pre-wrap; }
code { font-family: monospace; }
img { max-width: 100%; }
figure { break-inside: avoid; margin: 1em 0; }
table { border-collapse: collapse; }
td, th { border: 1px solid #bbb; padding: 0.2em 0.4em; text-align: left; }
.admonition { border-left: 4px solid #888; margin: 1em 0; padding-left: 0.8em; }
.admonition-title, .bn-quiz-asks { font-weight: bold; }
.bn-quiz-choice { margin-bottom: 0; }
.bn-quiz-why { margin-left: 1.5em; }
.eqno { float: right; }
nav ol { list-style: none; padding-left: 1.2em; }
h1, h2, h3 { break-after: avoid; text-align: left; }
"""
TEXT = """<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE html>
<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops" lang="en" xml:lang="en">
<head><meta charset="utf-8"/><title>{title}</title><link rel="stylesheet" href="style.css"/></head>
<body>
{body}
</body>
</html>
"""
CONTAINER = """<?xml version="1.0" encoding="utf-8"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<rootfiles><rootfile full-path="book/package.opf" media-type="application/oebps-package+xml"/></rootfiles>
</container>
"""
PACKAGE = """<?xml version="1.0" encoding="utf-8"?>
<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id" xml:lang="en">
<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:identifier id="id">urn:uuid:{identifier}</dc:identifier>
<dc:title>{title}</dc:title>
<dc:creator>{author}</dc:creator>
<dc:language>en</dc:language>
<dc:rights>CC BY 4.0 (text and figures), BSD 3-Clause (code)</dc:rights>
<meta property="dcterms:modified">{modified}</meta>
</metadata>
<manifest>
{manifest}
</manifest>
<spine>
{spine}
</spine>
</package>
"""


def chapter(page):
    """Return a page as XHTML."""
    for formula in page.article.select("mjx-container"):
        formula.replace_with(formula.select_one("mjx-assistive-mml math"))
    if page.article.select_one(".math:not(:has(math))"):
        paper.stop(f"{page.name}.html has a formula without MathML: build the site with the extension `typeset`")
    for tag in page.article.select("math"):
        tag["xmlns"] = "http://www.w3.org/1998/Math/MathML"
    for tag in page.article.select("a[href^='#']"):
        tag["href"] = f"{tag['href'][1:].partition('--')[0]}.xhtml{tag['href']}"
    for tag in page.article.select("img[src]"):
        if not urlsplit(tag["src"]).scheme:
            tag["src"] = packed(tag["src"])
    text = TEXT.format(title=escape(page.title), body=page.article.decode(formatter="minimal"))
    try:
        ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        paper.stop(f"{page.name}.html makes no XML: {error}")
    return text


def packed(image):
    """Return the path in the EPUB of an image of the site."""
    return "images/" + image.replace("/", "-").lstrip("_")


def navigation(pages):
    """Return the table of contents: parts, chapters, sections."""
    body = []
    for part, chapters in groupby(pages, key=lambda page: page.part):
        entries = "\n".join(f"<li>{entry(page)}</li>" for page in chapters)
        body.append(f"<li><span>{escape(part)}</span>\n<ol>\n{entries}\n</ol></li>" if part else entries)
    listed = "\n".join(body)
    nav = f'<nav epub:type="toc"><h1>Contents</h1>\n<ol>\n{listed}\n</ol></nav>'
    return TEXT.format(title="Contents", body=nav)


def entry(page):
    """Return the links to a chapter and to its sections."""
    links = [
        f'<li><a href="{page.anchor}.xhtml#{tag.parent["id"]}">{escape(paper.plain(tag))}</a></li>'
        for tag in page.article.select("section[id] > h2")
    ]
    sections = f"\n<ol>{''.join(links)}</ol>" if links else ""
    return f'<a href="{page.anchor}.xhtml">{escape(page.title)}</a>{sections}'


def make(output, site=paper.SITE):
    """Write the book in `site` to the file `output`."""
    pages = paper.read(site)
    images = {
        tag["src"]: packed(tag["src"])
        for page in pages
        for tag in page.article.select("img[src]")
        if not urlsplit(tag["src"]).scheme
    }
    files = {"nav.xhtml": navigation(pages), "style.css": STYLE}
    files |= {f"{page.anchor}.xhtml": chapter(page) for page in pages}
    manifest, spine = [], []
    for number, name in enumerate([*files, *images.values()]):
        kind = "application/xhtml+xml" if name.endswith(".xhtml") else mimetypes.guess_type(name)[0]
        traits = ' properties="nav"' if name == "nav.xhtml" else ""
        traits = ' properties="mathml"' if "<math" in files.get(name, "") else traits
        manifest.append(f'<item id="file-{number}" href="{name}" media-type="{kind}"{traits}/>')
        if name.endswith(".xhtml") and name != "nav.xhtml":
            spine.append(f'<itemref idref="file-{number}"/>')
    title, author = pages[0].title, paper.author_of(pages[0])
    made = int(os.environ.get("SOURCE_DATE_EPOCH", (site / "book" / "index.html").stat().st_mtime))
    files["package.opf"] = PACKAGE.format(
        identifier=uuid.uuid5(uuid.NAMESPACE_URL, f"{author}/{title}"),
        title=escape(title),
        author=escape(author),
        modified=datetime.fromtimestamp(made, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        manifest="\n".join(manifest),
        spine="\n".join(spine),
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)  # first and plain, says the standard
        book.writestr("META-INF/container.xml", CONTAINER)
        for name, text in files.items():
            book.writestr(f"book/{name}", text)
        for source, name in images.items():
            book.write(site / source, f"book/{name}")
    return output


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("output", type=Path)
    print(f"The book: {make(parser.parse_args().output)}")
