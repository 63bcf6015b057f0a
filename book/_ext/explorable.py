"""The directive `explorable`: a figure that a reader moves, without a kernel.

    :::{explorable} outlier
    :name: fig-scaling-outlier

    The caption. It may hold formulas, code and references.
    :::

An explorable is two files of the same name. `_ext/explorables/NAME.py` runs while the book is built and has

- `data()`: what the figure is made from, computed with bnlab or read from results/, as a dict that JSON can hold;
- `still(data)`: a matplotlib figure of its start, for print, for other formats and where scripts don't run;
- `ALT`: what the figure shows, for those who don't see it;
- `HEIGHT`: pixels it takes on a wide page and on a phone, controls and sentence included, for instance (560, 640).
  The page keeps them free, so nothing moves when the figure comes alive.

`_static/explorables/NAME.js` says what can be moved, what comes out and how it is drawn, to
`_static/explorables/explorable.js`, which loads it when the figure comes near.
"""

import html
import importlib.util
import json
import os
import posixpath
import shutil
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

BUILD_TIME = Path(__file__).parent / "explorables"
SCRIPTS = Path(__file__).parents[1] / "_static" / "explorables"
PARTS = ("data", "still", "ALT", "HEIGHT")
ALIVE = {"html", "dirhtml"}  # the builders whose pages run scripts


class Explorable(nodes.figure):
    """The figure as a whole: <figure>."""


class Still(nodes.image):
    """Its still picture, in the place where it comes alive: <div><img></div>."""


class ExplorableError(Exception):
    """What is wrong with an explorable, and what to do."""


def names():
    """Return the names of all explorables."""
    return sorted(path.stem for path in BUILD_TIME.glob("*.py"))


def load(name):
    """Return the module `explorables/NAME.py`."""
    path = BUILD_TIME / f"{name}.py"
    if not path.is_file():
        raise ExplorableError(f"there is no explorable {name!r}: write {path}, or take one of {', '.join(names())}")
    if not (SCRIPTS / f"{name}.js").is_file():
        raise ExplorableError(f"the explorable {name!r} has no script: write {SCRIPTS / name}.js")
    spec = importlib.util.spec_from_file_location(f"explorables.{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if missing := [part for part in PARTS if not hasattr(module, part)]:
        raise ExplorableError(f"{path} has no {' and no '.join(missing)}: an explorable needs {', '.join(PARTS)}")
    return module


def script(name, data):
    """Return the classic script that hands `data` to the page: a page on disk can't fetch JSON."""
    try:
        text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise ExplorableError(f"data() of the explorable {name!r} is not what JSON can hold: {error}") from error
    return f"bnExplorables.data({json.dumps(name)}, {text});\n"


def make(name, folder):
    """Write NAME.js, NAME.svg and NAME.pdf to `folder`; return the module."""
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    module = load(name)
    folder.mkdir(parents=True, exist_ok=True)
    data = module.data()
    (folder / f"{name}.js").write_text(script(name, data), encoding="utf-8")
    with plt.style.context("bnlab.course"):
        figure = module.still(data)
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        figure.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None})
    module.SIZE = [round(100 * inches) for inches in figure.get_size_inches()]
    plt.close(figure)
    return module


def generated(app):
    """Return the folder of what is made from explorables; it lives and dies with the parsed pages."""
    return Path(app.doctreedir) / "explorables"


class ExplorableDirective(SphinxDirective):
    """One figure; its docstring is the module's."""

    required_arguments = 1
    has_content = True
    option_spec: ClassVar = {"name": directives.unchanged}

    def run(self):
        name = self.arguments[0]
        self.env.note_dependency(str(BUILD_TIME / f"{name}.py"))
        try:
            if not self.content:
                raise ExplorableError(f"the explorable {name!r} has no caption: its content says what to move and see")
            module = make(name, generated(self.env.app))
        except Exception as error:
            what = str(error) if isinstance(error, ExplorableError) else f"the explorable {name!r} failed: {error!r}"
            logging.getLogger(__name__).error(what, location=(self.env.docname, self.lineno))
            return []

        still = Still(uri=f"/{self.to_source(generated(self.env.app) / name)}.*", alt=module.ALT, size=module.SIZE)
        figure = Explorable("", still, explorable=name, height=module.HEIGHT)
        self.set_source_info(figure)
        self.set_source_info(still)
        self.add_name(figure)
        parsed = nodes.Element()
        self.state.nested_parse(self.content, self.content_offset, parsed)
        first, *more = parsed.children
        figure += nodes.caption("", "", *first.children)
        if more:
            figure += nodes.legend("", *more)
        return [figure]

    def to_source(self, path):
        """Return `path` relative to the sources of the book, as Sphinx wants images."""
        return Path(os.path.relpath(path, self.env.srcdir)).as_posix()


def visit_figure(self, node):
    """Open the figure; without data it stays still."""
    data = {}
    if self.builder.name in ALIVE:
        wide, narrow = node["height"]
        data["data-explorable"] = node["explorable"]
        data["style"] = f"--bn-height: {wide / 16:g}rem; --bn-height-narrow: {narrow / 16:g}rem"
    self.body.append(self.starttag(node, "figure", CLASS="bn-explorable", **data))


def depart_figure(self, node):
    """Close it, and the <figcaption> that its caption opened."""
    self.body.append("</figcaption>\n</figure>\n")


def visit_still(self, node):
    """Write the still picture."""
    source = posixpath.join(self.builder.imgpath, quote(self.builder.images[node["uri"]]))
    width, height = node["size"]
    self.body.append(
        f'<div class="bn-explorable-stage"><img class="bn-explorable-still" src="{source}" '
        f'alt="{html.escape(node["alt"])}" width="{width}" height="{height}" loading="lazy"/></div>\n'
    )
    raise nodes.SkipNode


def like(base):
    """Return the two functions that write a node as its base class is written."""

    def visit(self, node):
        getattr(self, f"visit_{base}")(node)

    def depart(self, node):
        getattr(self, f"depart_{base}")(node)

    return visit, depart


def add_scripts(app, pagename, templatename, context, doctree):
    """Send the scripts and data to pages with an explorable only."""
    figures = list(doctree.findall(Explorable)) if doctree and app.builder.name in ALIVE else []
    if figures:
        app.add_css_file("explorables/explorable.css")
        app.add_js_file("explorables/explorable.js", loading_method="defer")
    for figure in figures:
        name = f"{figure['explorable']}.js"
        folder = Path(app.outdir) / "_static" / "explorables" / "data"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(generated(app) / name, folder / name)


def setup(app):
    """Connect to Sphinx."""
    app.add_directive("explorable", ExplorableDirective)
    formats = ("latex", "text", "man", "texinfo")
    app.add_enumerable_node(
        Explorable, "figure", html=(visit_figure, depart_figure), **{name: like("figure") for name in formats}
    )
    app.add_node(Still, html=(visit_still, None), **{name: like("image") for name in formats})
    app.connect("html-page-context", add_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
