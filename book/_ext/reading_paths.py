"""Reading paths, and the box to tick at the end of a chapter or problem set.

A page has a time where its first box, of class `bn-question`, states one: "**Time:** 30 minutes". The directive

    :::{reading-path}
    scaling
    batch_norm_transform
    :::

makes a list of links to pages of its own folder, each with its minutes, and says how long they take together.
`_static/progress.js` adds what the reader has done; `_static/marks.js` makes the boxes work.
"""

import re
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

TIME = re.compile(r"^Time:\s+(\d+)", re.MULTILINE)
TICK = {"bn-chapter": "I have read this chapter", "bn-set": "I have done this problem set"}


class PathTime(nodes.TextElement):
    """Stands for the time of `pages` until all pages have been read."""


class ReadingPath(SphinxDirective):
    """A list of pages, one name a line; the module says more."""

    has_content = True

    def run(self):
        self.env.note_reread()  # it shows titles and times of other pages
        folder = self.env.docname.rpartition("/")[0]
        pages = []
        path = nodes.enumerated_list(classes=["bn-path"], enumtype="arabic", prefix="", suffix=".")
        for number, line in enumerate(self.content):
            if not line.strip():
                continue
            page = f"{folder}/{line.strip()}".lstrip("/")
            link = pending_xref("", nodes.inline(), refdomain="std", reftype="doc", reftarget=f"/{page}", refwarn=True)
            link["refdoc"], link["refexplicit"] = self.env.docname, False
            link.source, link.line = self.get_source_info()[0], self.lineno + self.content_offset + number + 1
            time = PathTime(pages=[page], classes=["bn-minutes"])
            time.source, time.line = link.source, link.line
            item = nodes.paragraph("", "", link, nodes.Text(" "), time)
            path += nodes.list_item("", item, classes=[kind(self.env, page)])
            pages.append(page)
        total = PathTime(pages=pages)
        return [nodes.paragraph("", "", total, nodes.Text(" in all."), classes=["bn-path-time"]), path]


def kind(env, page):
    """Return the class of a page: a problem set has its folder in exercises/."""
    is_set = (Path(env.srcdir) / "exercises" / page.rpartition("/")[2]).is_dir()
    return "bn-set" if is_set else "bn-chapter"


def note_time(app, doctree):
    """Remember the minutes that a page states."""
    for box in doctree.findall(nodes.admonition):
        if "bn-question" in box["classes"] and (match := TIME.search(box.astext())):
            app.env.metadata[app.env.docname]["minutes"] = int(match[1])


def fill_in_times(app, doctree, docname):
    """Put the minutes into a reading path."""
    for node in list(doctree.findall(PathTime)):
        pages = [page for page in node["pages"] if page in app.env.found_docs]  # Sphinx warns of the others
        times = [app.env.metadata[page].get("minutes", 0) for page in pages]
        if node.line and 0 in times:  # the total has no line
            what = f"the page {pages[0]} states no time: its first box needs a line '- **Time:** 30 minutes'"
            logging.getLogger(__name__).warning(what, location=node)
        node.replace_self(nodes.inline("", duration(sum(times)), classes=node["classes"]))


def duration(minutes):
    """Return `minutes` as text."""
    hours, rest = divmod(minutes, 60)
    return " ".join([f"{hours} h"] * bool(hours) + [f"{rest} min"] * (rest > 0 or not hours))


def add_tick(app, pagename, templatename, context, doctree):
    """Put a box to tick at the end of a page that states a time, and the scripts into every page."""
    app.add_css_file("progress.css")
    app.add_js_file("kept.js", loading_method="defer", priority=600)
    app.add_js_file("marks.js", loading_method="defer", priority=700)
    if doctree and any("bn-path" in found["classes"] for found in doctree.findall(nodes.enumerated_list)):
        app.add_js_file("progress.js", loading_method="defer", priority=700, blocking="render")
    if doctree and "minutes" in app.env.metadata[pagename]:
        label = TICK[kind(app.env, pagename)]
        context["body"] += (
            f'<p class="bn-read" hidden><label><input type="checkbox" autocomplete="off"> {label}</label> '
            '<span role="status"></span></p>\n'
        )


def setup(app):
    """Connect to Sphinx."""
    app.add_directive("reading-path", ReadingPath)
    app.add_node(PathTime)
    app.connect("doctree-read", note_time)
    app.connect("doctree-resolved", fill_in_times)
    app.connect("html-page-context", add_tick)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
