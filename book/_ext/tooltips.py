"""Show the definition of a glossary term where a page refers to it with {term}.

The link to the glossary stays the link that it is. Each definition that a page needs is put, once and hidden, at the
end of the page, and the links to its term name it as their description: screen readers have it from there, and
`_static/tooltips.js` shows it to everybody else. It is no part of the page's own text, so search doesn't find the page
by it.
"""

import functools

from docutils import nodes
from sphinx.addnodes import glossary


class TermLink(nodes.reference):
    """A link to a term on another page: <a> with the id of the term's definition on this one."""


def glossaries(env):
    """Return the names of the pages that define terms."""
    return sorted({page for _, _, kind, page, _, _ in env.get_domain("std").get_objects() if kind == "term"})


def mark_terms(app, doctree, docname):
    """Turn the links to terms into TermLinks. A page that defines terms shows its definitions anyway."""
    if app.builder.name != "html" or docname in glossaries(app.env):
        return
    for link in list(doctree.findall(nodes.reference)):
        is_term = any("std-term" in child["classes"] for child in link.children if isinstance(child, nodes.Element))
        if is_term and "#" in link.get("refuri", ""):
            link.replace_self(TermLink("", "", *link.children, **link.attributes))


@functools.cache
def definitions(app):
    """Return {id of a term: its definition as HTML}."""
    found = {}
    for page in glossaries(app.env):
        doctree = app.env.get_and_resolve_doctree(page, app.builder)
        for item in (item for list_ in doctree.findall(glossary) for item in list_.findall(nodes.definition_list_item)):
            definition = item[-1]
            for link in list(definition.findall(nodes.reference)):
                link.replace_self(link.children)  # nobody can reach a link in a tooltip
            text = app.builder.render_partial(nodes.container("", *definition.children))["fragment"]
            for term in item.findall(nodes.term):
                found |= dict.fromkeys(term["ids"], f"<p><strong>{term.astext()}</strong></p>\n{text}")
    return found


def add_definitions(app, pagename, templatename, context, doctree):
    """Put the definitions of the terms that a page refers to at its end, and send the script."""
    anchors = {anchor(link): None for link in doctree.findall(TermLink)} if doctree else ()
    if not anchors:
        return
    app.add_css_file("tooltips.css")
    app.add_js_file("tooltips.js", loading_method="defer", priority=700)
    context["body"] += '<div class="bn-definitions">\n'
    for name in anchors:
        text = definitions(app)[name]
        context["body"] += f'<div id="{described_by(name)}" role="tooltip" hidden>\n{text}</div>\n'
    context["body"] += "</div>\n"


def anchor(link):
    """Return the id that a link leads to on its page."""
    return link["refuri"].partition("#")[2]


def described_by(name):
    """Return the id of the definition of the term whose own id is `name`."""
    return f"definition-of-{name}"


def visit(self, link):
    """Write <a>."""
    about = {"aria-describedby": described_by(anchor(link))}
    self.body.append(self.starttag(link, "a", "", CLASS="reference internal bn-term", href=link["refuri"], **about))


def depart(self, link):
    """Write </a>."""
    self.body.append("</a>")


def write_pages_anew(app, env):
    """Name the pages to write after the glossary has changed: all, since every one may show it."""
    now = "\n".join(env.get_doctree(page).astext() for page in glossaries(env))
    before, env.glossary_text = getattr(env, "glossary_text", None), now
    return [] if now == before else sorted(env.found_docs)


def setup(app):
    """Connect to Sphinx."""
    app.add_node(TermLink, html=(visit, depart))
    app.connect("env-updated", write_pages_anew)
    app.connect("doctree-resolved", mark_terms)
    app.connect("html-page-context", add_definitions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
