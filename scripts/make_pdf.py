"""Make one PDF of the whole book, from the built website, in headless Chromium.

    python scripts/make_pdf.py _build/pdf/batch_normalization.pdf

All pages go into one HTML file that is printed once, so that links between chapters become links inside the PDF. The
print tells on which page each heading came to stand; a second one has a table of contents that says so. Chromium's
outline repeats parts of a heading that is broken into lines, so it is written anew, with the book's parts above it.
"""

import argparse
import tempfile
from html import escape
from itertools import groupby
from pathlib import Path

import paper
from pypdf import PdfReader, PdfWriter
from pypdf.generic import Fit

STYLE = """
@page { size: A4; margin: 20mm 18mm 22mm; }
html { font-size: 10.5pt; }
body { background: white; counter-reset: none; }
main { max-width: none; padding: 0; }
section.bn-page, .bn-contents { break-before: page; }
.bn-title { margin-top: 30%; text-align: center; }
.bn-title img { width: 40mm; }
.bn-contents p { font-weight: 600; margin: 1em 0 0.3em; }
.bn-contents ol { line-height: 1.35; list-style: none; margin: 0; padding: 0; }
.bn-contents li { display: flex; gap: 1em; justify-content: space-between; }
h1, h2, h3, h4 { break-after: avoid; }
figure, img, tr, .admonition-title, .sd-card, .bn-quiz-answer { break-inside: avoid; }
.cell_input, .highlight, .output { break-inside: avoid; }
.admonition { break-inside: auto; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
a { text-decoration: none; }
img, svg { max-width: 100%; }
"""
FOOTER = (
    '<div style="font: 8pt sans-serif; color: #555; width: 100%; text-align: center">'
    '<span class="pageNumber"></span></div>'
)


def head(pages, site):
    """Return the styles of all pages, and the scripts that set formulas."""
    found = {}
    for page in pages:
        for tag in page.document.head.select("link[rel=stylesheet], style, script"):
            is_math = "mathjax" in tag.get("src", "").lower() or "MathJax" in tag.get_text()
            if tag.name == "script" and not is_math:
                continue
            for name in ("src", "href"):
                if name in tag.attrs and not paper.urlsplit(tag[name]).scheme:
                    file = paper.urljoin(f"{page.name}.html", tag[name]).partition("?")[0]
                    tag[name] = (site / file).as_uri()
            found[str(tag)] = None
    return "\n".join(found)


def contents(pages, numbers):
    """Return the table of contents; `numbers` are those of the pages on which the chapters begin."""
    parts = []
    for part, chapters in groupby(zip(pages[1:], numbers[1:], strict=True), key=lambda entry: entry[0].part):
        lines = "\n".join(
            f'<li><a href="#{page.anchor}">{escape(page.title)}</a> <span>{number}</span></li>'
            for page, number in chapters
        )
        parts.append(f"<p>{escape(part)}</p>\n<ol>\n{lines}\n</ol>")
    return '<div class="bn-contents">\n<p style="font-size: 18pt">Contents</p>\n' + "\n".join(parts) + "\n</div>"


def whole(pages, site, numbers):
    """Return the book as one HTML document."""
    front = pages[0]
    course = escape(front.title)
    articles = []
    for page in pages:
        page.article["class"] = ["bn-page", "bd-article"]
        for image in page.article.select("img[src]"):
            if not paper.urlsplit(image["src"]).scheme:
                image["src"] = (site / image["src"]).as_uri()
        articles.append(str(page.article))
    author = paper.author_of(front)
    logo = (site / "_static" / "logo.svg").as_uri()
    return f"""<!doctype html>
<html lang="en" data-theme="light" data-mode="light">
<head><meta charset="utf-8"><title>{course}</title>
{head(pages, site)}
<style>{STYLE}</style></head>
<body><main class="bd-main bd-content bd-article-container">
<div class="bn-title"><img src="{logo}" alt=""><p style="font-size: 30pt; font-weight: 600">{course}</p>
<p>{escape(author)}</p></div>
{contents(pages, numbers)}
{"".join(articles)}
</main></body></html>"""


def print_to(browser, html, folder, output):
    """Print `html` to the file `output`."""
    source = folder / "book.html"
    source.write_text(html, encoding="utf-8")
    tab = browser.new_page(color_scheme="light")
    tab.set_default_timeout(300_000)
    tab.goto(source.as_uri(), wait_until="load")
    tab.evaluate("() => window.MathJax?.startup?.promise")
    tab.evaluate("() => Promise.all([document.fonts.ready, ...[...document.images].map(image => image.decode())])")
    tab.pdf(
        path=output,
        outline=True,
        tagged=True,
        prefer_css_page_size=True,
        print_background=True,
        display_header_footer=True,
        header_template="<span></span>",
        footer_template=FOOTER,
    )
    tab.close()


def flat(outline):
    """Yield the entries of an outline in their order."""
    for entry in outline:
        if isinstance(entry, list):
            yield from flat(entry)
        else:
            yield entry


def places(output, pages):
    """Return, for each page of the book, its headings as (level, text, page of the PDF from 0, distance from below)."""
    reader = PdfReader(output)
    entries = list(flat(reader.outline))
    headings = [page.article.select("h1, h2, h3, h4, h5, h6") for page in pages]
    if len(entries) != sum(map(len, headings)):
        paper.stop(
            f"the book has {sum(map(len, headings))} headings, but Chromium's outline has {len(entries)} entries"
        )
    found = iter(entries)
    return [
        [
            (int(tag.name[1]), paper.plain(tag), reader.get_destination_page_number(entry), entry.top)
            for tag, entry in zip(tags, found, strict=False)
        ]
        for tags in headings
    ]


def write_outline(output, pages):
    """Replace Chromium's outline, and say whose book it is."""
    found = places(output, pages)
    writer = PdfWriter(clone_from=output)
    del writer.root_object["/Outlines"]
    parts = {"": None}
    for page, headings in zip(pages, found, strict=True):
        if page.part not in parts:
            parts[page.part] = writer.add_outline_item(page.part, headings[0][2], bold=True, is_open=True)
        above = {0: parts[page.part]}
        for level, text, number, top in headings:
            parent = above[max(higher for higher in above if higher < level)]
            above = {higher: entry for higher, entry in above.items() if higher < level}
            above[level] = writer.add_outline_item(text, number, parent=parent, fit=Fit.xyz(top=top), is_open=False)
    writer.page_mode = "/UseOutlines"
    writer.add_metadata({"/Title": pages[0].title, "/Author": paper.author_of(pages[0])})
    writer.write(output)


def make(output, site=paper.SITE):
    """Write the book in `site` to the file `output`."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        paper.stop("the package playwright is not installed: pip install '.[dev]'")
    pages = paper.read(site)
    output.parent.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = paper.chromium(playwright)
        print_to(browser, whole(pages, site, [0] * len(pages)), Path(folder), output)
        numbers = [headings[0][2] + 1 for headings in places(output, pages)]
        print_to(browser, whole(pages, site, numbers), Path(folder), output)
        browser.close()
    write_outline(output, pages)
    return output


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("output", type=Path)
    file = make(parser.parse_args().output)
    print(f"The book: {file} ({len(PdfReader(file).pages)} pages)")
