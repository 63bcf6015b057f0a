"""How to cite a chapter: a line and a BibTeX entry at its end, behind a button.

Author and year are the book's own settings, the address is there once `html_baseurl` is known.
"""

import html
import re

from docutils import nodes

ENTRY = """@incollection{{{key},
  author    = {{{{{author}}}}},
  title     = {{{title}}},
  booktitle = {{{book}}},
  year      = {{{year}}}{url}
}}"""
BOX = """<details class="bn-cite">
<summary>Cite this chapter</summary>
<p>{line}</p>
<div class="highlight-bibtex notranslate"><div class="highlight"><pre>{entry}</pre></div></div>
</details>
"""


def is_chapter(doctree):
    """Tell whether a page opens with the box that only chapters have."""
    return any("bn-question" in box["classes"] for box in doctree.findall(nodes.admonition))


def add_box(app, pagename, templatename, context, doctree):
    """Put the box at the end of a chapter."""
    if doctree is None or app.builder.name == "epub" or not is_chapter(doctree):
        return
    title = app.env.titles[pagename].astext()
    address = (
        app.config.html_baseurl and f"{app.config.html_baseurl.rstrip('/')}/{app.builder.get_target_uri(pagename)}"
    )
    year = re.search(r"\d{4}", str(app.config.copyright))
    author, book = str(app.config.author), str(app.config.html_title or app.config.project)
    known = {"author": author, "title": title, "book": book, "year": year[0] if year else "n.d."}
    key = f"batchnorm{known['year']}{pagename.rpartition('/')[2].replace('_', '')}"
    entry = ENTRY.format(key=key, url=f",\n  url       = {{{address}}}" if address else "", **known)
    line = "{author} ({year}). {title}. In: {book}.".format(**known) + (f" {address}" if address else "")
    context["body"] += BOX.format(line=html.escape(line), entry=html.escape(entry))


def setup(app):
    """Connect to Sphinx."""
    app.connect("html-page-context", add_box)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
