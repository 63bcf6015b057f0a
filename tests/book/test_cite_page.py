"""The box that says how to cite a chapter (book/_ext/cite_page.py)."""

import bs4
import small_book

CHAPTER = "# Cats & dogs\n\n:::{admonition} The question\n:class: bn-question\n\nWhy?\n:::\n"
SETTINGS = """
extensions += ["cite_page"]
author, copyright, html_title = "The authors", "2026", "Animals, tested"
html_baseurl = "https://example.org/course/"
"""


def test_a_chapter_says_how_to_cite_it(tmp_path):
    pages = {"index": "# Book\n\n```{toctree}\ncats\n```\n", "cats": CHAPTER}
    site, warnings = small_book.build(tmp_path, pages, settings=SETTINGS)
    assert not warnings
    assert "bn-cite" not in (site / "index.html").read_text(encoding="utf-8")
    box = bs4.BeautifulSoup((site / "cats.html").read_text(encoding="utf-8"), "html.parser").select_one(
        "details.bn-cite"
    )
    line = "The authors (2026). Cats & dogs. In: Animals, tested. https://example.org/course/cats.html"
    assert box.p.get_text() == line
    assert box.pre.get_text().splitlines() == [
        "@incollection{batchnorm2026cats,",
        "  author    = {{The authors}},",
        "  title     = {Cats & dogs},",
        "  booktitle = {Animals, tested},",
        "  year      = {2026},",
        "  url       = {https://example.org/course/cats.html}",
        "}",
    ]
