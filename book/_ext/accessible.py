"""Repairs of what docutils and the theme write, where axe finds that a screen reader would be misled.

- The entries of the bibliography have the deprecated role `doc-biblioentry`: they are items of a list.
- The empty corner of a table heads nothing: it is a cell.
- A formula wider than the screen scrolls, so it takes the keyboard's focus; `scrolls.js` says when.
"""

import re

EMPTY_HEADER = re.compile(r"<th\b([^>]*)>(?:\s|<p>\s*</p>)*</th>")


def repair(app, pagename, templatename, context, doctree):
    """Repair the body of a page."""
    body = context.get("body") or ""
    body = body.replace('role="doc-biblioentry"', 'role="listitem"')
    context["body"] = EMPTY_HEADER.sub(r"<td\1></td>", body)
    if "mjx-container" in body:
        app.add_js_file("scrolls.js", loading_method="defer")


def setup(app):
    """Connect to Sphinx."""
    app.connect("html-page-context", repair)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
