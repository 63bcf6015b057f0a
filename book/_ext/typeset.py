"""Formulas are set while the site is built, by MathJax in V8, so that a page needs no script for them.

MathJax (`vendor/mathjax`) makes of each formula HTML for the eye and MathML for screen readers. Its style sheet and
fonts go to `_static/math/`; `light_pages.py` cuts both down to what the pages use. Macros are those of
`mathjax3_config`. What MathJax doesn't understand is a warning with the place of the formula. Formats other than web
pages keep their own way, an EPUB apart, whose readers know MathML.
"""

import functools
import json
import re
import shutil
from pathlib import Path

from docutils import nodes
from py_mini_racer import MiniRacer
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

MATHJAX = Path(__file__).parent / "vendor" / "mathjax"
SCRIPTS = [
    "loader",
    "core",
    "input/tex-full",
    "output/chtml",
    "output/chtml/fonts/tex",
    "adaptors/liteDOM",
    "a11y/assistive-mml",
]
# What MathJax's start-up does in a browser. Its packages "noerrors" and "noundefined" would paint mistakes red instead
# of naming them.
START = """
const {AllPackages} = MathJax._.input.tex.AllPackages;
const adaptor = MathJax._.adaptors.liteAdaptor.liteAdaptor();
const {RegisterHTMLHandler} = MathJax._.handlers.html_ts;
MathJax._.a11y["assistive-mml"].AssistiveMmlHandler(RegisterHTMLHandler(adaptor));
let mistake = null;
const tex = new MathJax._.input.tex_ts.TeX({
  packages: AllPackages.filter((name) => !["noerrors", "noundefined"].includes(name)),
  formatError: (input, error) => { mistake = error.message; return input.formatError(error); },
  ...OPTIONS,
});
const chtml = new MathJax._.output.chtml_ts.CHTML({
  font: new MathJax._.output.chtml.fonts.tex_ts.TeXFont({fontURL: "fonts"}),
  fontURL: "fonts",
  adaptiveCSS: false,
});
const page = MathJax._.mathjax.mathjax.document("", {InputJax: tex, OutputJax: chtml});
function set(formula, display) {
  mistake = null;
  tex.reset();
  return JSON.stringify([adaptor.outerHTML(page.convert(formula, {display})), mistake]);
}
function styles() {
  return adaptor.textContent(chtml.styleSheet(page));
}
"""
# A letter of a formula is as high as one of the words around it; what is wider than the page scrolls by itself.
OUR_STYLES = """
mjx-container[jax="CHTML"] { font-size: 112%; position: relative; }
mjx-container[jax="CHTML"][display="true"] { overflow: auto hidden; padding: 0.1em 0; }
"""
# What MathJax writes for its own use, or what a rule says shorter.
NEEDLESS = re.compile(
    r' (?:texclass|data-mjx-[\w-]+|unselectable)="[^"]*"| class="mjx-[in]"| style="position: relative;"'
)
MATHML = re.compile(r"<math .*</math>", re.DOTALL)


class Typesetter:
    """MathJax, started when the first formula comes."""

    def __init__(self, options):
        self.options = options

    @functools.cached_property
    def engine(self):
        """V8 with MathJax in it."""
        engine = MiniRacer()
        engine.eval("var MathJax = {startup: {typeset: false}};")
        for name in SCRIPTS:
            engine.eval((MATHJAX / "es5" / f"{name}.js").read_text(encoding="utf-8"))
        engine.eval(START.replace("OPTIONS", json.dumps(self.options)))
        return engine

    @functools.cache  # noqa: B019  -- it lives as long as the build
    def set(self, formula, display):
        """Return (the HTML of a formula in TeX, what is wrong with it or None)."""
        html, mistake = json.loads(self.engine.eval(f"set({json.dumps(formula)}, {json.dumps(display)})"))
        return NEEDLESS.sub("", html), mistake

    def styles(self):
        """Return the style sheet of every formula that there can be."""
        return self.engine.eval("styles()") + OUR_STYLES

    def close(self):
        """Stop V8, which would keep Python from ending."""
        if "engine" in self.__dict__:
            self.engine.close()


def set_formula(translator, node, formula, *, display):
    """Return the HTML of `formula` and warn of what is wrong with it."""
    html, mistake = translator.builder.app.typesetter.set(formula, display)
    if mistake:
        logging.getLogger(__name__).warning("a formula can't be set: %s: %s", mistake, formula, location=node)
    return MATHML.search(html)[0] if translator.builder.name == "epub" else html


def visit_math(self, node):
    """Write a formula in a line."""
    self.body.append(self.starttag(node, "span", "", CLASS="math notranslate nohighlight"))
    self.body.append(set_formula(self, node, node.astext(), display=False) + "</span>")
    raise nodes.SkipNode


def visit_math_block(self, node):
    """Write a formula on lines of its own, and its number."""
    self.body.append(self.starttag(node, "div", CLASS="math notranslate nohighlight"))
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append(set_formula(self, node, display_tex(node), display=True) + "</div>\n")
    raise nodes.SkipNode


def display_tex(node):
    """Return what Sphinx would give a browser's MathJax: lines are aligned at &, paragraphs are equations."""
    if node["nowrap"]:
        return node.astext()
    parts = [part for part in node.astext().split("\n\n") if part.strip()]
    parts = [rf"\begin{{split}}{part}\end{{split}}" if r"\\" in part else part for part in parts]
    return parts[0] if len(parts) == 1 else r"\begin{aligned}" + r"\\".join(parts) + r"\end{aligned}"


def start(app):
    """Prepare MathJax, and its style sheet and fonts for web pages."""
    app.typesetter = Typesetter((app.config.mathjax3_config or {}).get("tex", {}))
    if app.builder.format != "html" or app.builder.name == "epub":
        return
    folder = Path(app.outdir) / "_static" / "math"
    shutil.copytree(MATHJAX / "fonts", folder / "fonts", dirs_exist_ok=True)
    shutil.copy(MATHJAX / "LICENSE", folder)
    (folder / "math.css").write_text(app.typesetter.styles(), encoding="utf-8")
    app.add_css_file("math/math.css")


def setup(app):
    """Connect to Sphinx, as another one of its renderers of formulas."""
    app.add_html_math_renderer("typeset", (visit_math, None), (visit_math_block, None))
    app.connect("config-inited", lambda app, config: setattr(config, "html_math_renderer", "typeset"))
    app.connect("builder-inited", start)
    app.connect("build-finished", lambda app, problem: app.typesetter.close())
    return {"parallel_read_safe": True, "parallel_write_safe": False}  # V8 doesn't survive a fork
