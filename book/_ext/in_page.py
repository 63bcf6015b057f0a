"""Python that runs in the page: the directives `exercise-in-page` and `try-it`.

    ```{exercise-in-page} ps1_scaling
    ```

lays out the notebook of a problem set as students get it, read from its zip in `_build/exercises/`: text is rendered,
code can be read, and the notebook itself goes along for the script, which makes cells of it that run.

    :::{try-it} What becomes of the other values when the `100.0` moves to `1000.0`?
    :name: outlier

    x = np.array([1.0, 2.0, 100.0])
    print((x - x.min()) / (x.max() - x.min()))
    :::

is one such cell in a chapter, with NumPy and the NumPy part of bnlab. Under its name, together with the page's, a
browser keeps what the reader makes of it.

Without scripts all of it can be read. `_static/in_page/` holds the scripts, and the Python that the site serves.
"""

import json
import re
import zipfile
from functools import cache
from pathlib import Path
from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

HEADING = re.compile(r"(#+) +(.*)")
FENCE = re.compile(r" *(```|~~~|:::)")
NAME = re.compile(r"[\w-]+")
ZIPS = "_build/exercises"
SCRIPTS = ("python", "editor", "outputs", "draft", "notebook", "cell", "in_page")
WORDS = "YOUR ANSWER HERE"  # as nbgrader leaves a text cell

NEEDS_SCRIPTS = (
    "Here you could write and run the code in the page. That needs JavaScript, and this browser doesn't run the page's "
    "scripts: allow them, or work in Jupyter with the zip from the page of the problem set."
)


class InPageTools(nodes.Element):
    """Stands where the script puts what belongs to the whole exercise; holds the notebook: <div>."""


class InPageCell(nodes.Element):
    """A cell that the script can make run: <div>."""


class ExerciseInPage(SphinxDirective):
    """A released problem set; the module says more."""

    required_arguments = 1

    def run(self):
        name = self.arguments[0]
        path = Path(self.env.srcdir) / ZIPS / f"{name}.zip"
        try:
            notebook = released(path, name)
        except NotReleased as error:
            raise self.error(str(error)) from None
        self.env.note_dependency(str(path))
        tools = InPageTools(notebook=notebook, set=name)
        tools += nodes.paragraph("", NEEDS_SCRIPTS, classes=["bn-in-page-off"])
        body = nodes.Element()
        sections = [(1, body)]  # (level, node) of the sections that are open
        for cell in notebook["cells"]:
            source = "".join(cell["source"])
            kind = kind_of(cell)
            if kind == "text":
                self.add_text(source, sections)
            else:
                node = InPageCell(kind=kind, cell=cell["id"], set=name)
                node += nodes.paragraph("", source) if kind == "words" else code_block(source)
                sections[-1][1].append(node)
        return [tools, *body.children]

    def add_text(self, source, sections):
        """Put a cell's Markdown where it belongs. Its headings open sections; the page has its own title."""
        for heading, text in by_heading(source):
            if heading:
                level = len(heading[1])
                if level > 1:
                    while sections[-1][0] >= level:
                        sections.pop()
                    title, _ = self.parse_inline(heading[2])
                    identifier = nodes.make_id(f"{self.arguments[0]}-{heading[2]}")
                    section = nodes.section("", nodes.title(heading[2], "", *title), ids=[identifier])
                    sections[-1][1].append(section)
                    sections.append((level, section))
            sections[-1][1].extend(self.parse(text))

    def parse(self, text):
        """Return the nodes of some Markdown."""
        parent = nodes.Element()
        lines = StringList(text.splitlines(), self.get_source_info()[0])
        self.state.nested_parse(lines, self.content_offset, parent)
        return parent.children


class TryIt(SphinxDirective):
    """A small cell in a chapter; the module says more."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True
    option_spec: ClassVar = {"name": directives.unchanged_required}

    def run(self):
        name = self.options.get("name", "")
        if not NAME.fullmatch(name):
            raise self.error(
                f"a try-it cell has the name {name!r}: give it one of letters, digits, - and _, as ':name: outlier'. "
                "A browser keeps the reader's code under it"
            )
        source = "\n".join(self.content).strip("\n")
        try:
            compile(source, name, "exec")
        except SyntaxError as error:
            raise self.error(f"the code of the try-it cell {name} isn't Python: {error}") from None
        if not source:
            raise self.error(f"the try-it cell {name} has no code: write it below its options")
        question, _ = self.parse_inline(" ".join(self.arguments[0].split()))
        asks = nodes.paragraph("", "", *question, classes=["bn-try-it-asks"])
        page = self.env.docname.rpartition("/")[2]
        cell = InPageCell("", asks, code_block(source), kind="try", cell=name, set=page, ids=[f"try-{name}"])
        self.set_source_info(cell)
        return [cell]


class NotReleased(Exception):
    """There is no student version, or it isn't one."""


def released(path, name):
    """Return the notebook in a problem set's zip, as plain data. It must be the student version."""
    try:
        with zipfile.ZipFile(path) as packed:
            notebook = json.loads(packed.read(f"{name}/{name}.ipynb"))
    except FileNotFoundError:
        raise NotReleased(f"{path} does not exist: make it with 'make exercises'") from None
    except (zipfile.BadZipFile, KeyError) as error:
        what = f"{path} holds no {name}/{name}.ipynb ({error}): make it again with 'make exercises'"
        raise NotReleased(what) from None
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        kind = kind_of(cell)
        unanswered = {"answer": "raise NotImplementedError()" in source, "words": source == WORDS}
        if "SOLUTION" in source or not unanswered.get(kind, True):
            raise NotReleased(
                f"the cell {cell['id']} of {path} is answered: a page shows the student version alone, "
                "make it again with 'make exercises'"
            )
    return notebook


def kind_of(cell):
    """Return what a cell is for: "text", "code", "answer", "check" or "words" (an answer in words)."""
    mark = cell["metadata"].get("nbgrader", {})
    if cell["cell_type"] == "markdown":
        return "words" if mark.get("solution") else "text"
    return "answer" if mark.get("solution") else "check" if mark.get("grade") else "code"


def by_heading(source):
    """Yield (match of the heading or None, the text below it) for some Markdown."""
    heading, lines, fence = None, [], ""
    for line in source.splitlines():
        if match := FENCE.match(line):
            fence = "" if fence == match[1] else fence or match[1]
        if not fence and (match := HEADING.fullmatch(line)):
            yield heading, "\n".join(lines)
            heading, lines = match, []
        else:
            lines.append(line)
    yield heading, "\n".join(lines)


def code_block(source):
    """Return Python to be read."""
    return nodes.literal_block(source, source, language="python")


# --- HTML ------------------------------------------------------------------------------------------------------------


def visit_cell(self, node):
    data = {f"data-{key}": node[key] for key in ("kind", "cell", "set")}
    self.body.append(self.starttag(node, "div", "", CLASS="bn-cell", **data))


def visit_tools(self, node):
    self.body.append(self.starttag(node, "div", "", CLASS="bn-in-page", **{"data-set": node["set"]}))
    text = json.dumps(node["notebook"], ensure_ascii=False, separators=(",", ":"))
    text = text.replace("<", "\\u003c").replace("&", "\\u0026")  # it must end no script, and be XML in an EPUB
    self.body.append(f'<script type="application/json" class="bn-notebook">{text}</script>\n')


def depart(self, node):
    self.body.append("</div>\n")


PASS = (lambda self, node: None, lambda self, node: None)


def skip(self, node):
    raise nodes.SkipNode


@cache
def megabytes(folder):
    """Return the size of the Python that the site serves, in whole MB; 0 where it was not built."""
    return round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6)


def add_scripts(app, pagename, templatename, context, doctree):
    """Send the scripts to the pages with such cells only."""
    if not doctree or not next(doctree.findall(InPageCell), None):
        return
    app.add_css_file("in_page/in_page.css")
    app.add_js_file("kept.js", loading_method="defer", priority=600)
    for name in SCRIPTS:
        app.add_js_file(f"in_page/{name}.js", loading_method="defer", priority=700)
    size = megabytes(Path(app.srcdir) / "_build" / "in_page" / "python")
    if size:
        context["metatags"] = context.get("metatags", "") + f'<meta name="bn-python-megabytes" content="{size}">\n'


def setup(app):
    """Connect to Sphinx."""
    app.add_directive("exercise-in-page", ExerciseInPage)
    app.add_directive("try-it", TryIt)
    app.add_node(InPageCell, html=(visit_cell, depart), latex=PASS, text=PASS)
    app.add_node(InPageTools, html=(visit_tools, depart), latex=(skip, None), text=(skip, None))
    app.connect("html-page-context", add_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
