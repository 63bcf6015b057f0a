"""A page loads what the site's pages use, and nothing more.

The theme and the extensions bring style sheets for whatever a page could hold: half a megabyte. When all pages have
been written, their rules become one sheet, `_static/light.css`, without those whose classes, names and elements occur
in no page and no script. Fonts are cut down to the characters that some rule shows. Scripts wait until the page has
been read, and those for tabs and for code go to pages with tabs and with code. Plain words of highlighted code need no
element of their own. The course's own style sheets stay as they are.
"""

import base64
import functools
import html
import logging
import posixpath
import re
import shutil
from pathlib import Path

import tinycss2
from fontTools import subset
from fontTools.ttLib import TTFont

logging.getLogger("fontTools.subset").setLevel(logging.ERROR)  # it tells of every table it makes smaller

LIGHT = "light.css"
OURS = Path(__file__).parents[1] / "_static"
THEME = ["basic.css", "styles/pydata-sphinx-theme.css"]  # what the theme's own template loads first
LARGEST_SCRIPT = 150_000  # bytes; what is larger is data, or a library with a style of its own
# Scripts that are of use on pages with this in their text only.
ONLY_WITH = {
    "design-tabs.js": "sd-tab-set",
    "clipboard.min.js": 'class="highlight',
    "copybutton.js": 'class="highlight',
}
EMPTY = "MathJax_Zero"  # gives every formula its base line, so it must be there before the first paint
UNUSED = [
    "scripts/bootstrap.js",
    "scripts/fontawesome.js",
    "scripts/*.map",
    "scripts/*.txt",
    "styles/theme.css",
    "styles/*.map",
    "vendor/fontawesome",
    "*-macros.html",
]

PLAIN_CODE = re.compile(r'<span class="(?:n|p|w)">([^<]*)</span>')  # names, punctuation, space
FUNCTION = re.compile(r":[\w-]+\([^()]*\)")
ATTRIBUTE = re.compile(r"\[[^\]]*\]")
NAME = re.compile(r"([.#]|::?|)((?:[\w-]|\\.)+)")
URL = re.compile(r"""url\(\s*(["']?)(?!data:|#)([^"')]+)\1\s*\)""")


def used_by_no_page(path):
    """Tell whether a file of the theme goes."""
    return any(path.match(f"_static/{pattern}") for pattern in UNUSED)


class Used:
    """The classes, ids and elements of a site's pages, and all words of its scripts."""

    def __init__(self, site):
        self.names, self.tags = set(), {"html", "body", "from", "to"}
        for path in site.rglob("*.html"):
            page = path.read_text(encoding="utf-8")
            for name in set(re.findall(r'(?:class|id)="([^"]*)"', page)):
                self.names.update(html.unescape(name).split())
            self.tags.update(re.findall(r"<([a-zA-Z][\w-]*)", page))
        for path in (site / "_static").rglob("*.js"):
            if not used_by_no_page(path) and path.stat().st_size < LARGEST_SCRIPT and "vendor" not in path.parts:
                words = set(re.findall(r"[\w-]+", path.read_text(encoding="utf-8")))
                self.names |= words
                self.tags |= words
        self.tags = {tag.lower() for tag in self.tags}

    @functools.cache  # noqa: B019  -- it lives as long as one build
    def by(self, selector):
        """Tell whether something could match `selector`; what :not() and its like hold is left open."""
        while FUNCTION.search(selector):
            selector = FUNCTION.sub("", selector)
        for kind, name in NAME.findall(ATTRIBUTE.sub("", selector)):
            name = re.sub(r"\\(.)", r"\1", name)
            if kind in {".", "#"} and name not in self.names:
                return False
            if kind == "" and name.lower() not in self.tags:
                return False
        return True


def keep(rules, used):
    """Return the CSS of `rules` (parsed) that `used` needs."""
    kept = []
    for rule in rules:
        if rule.type == "qualified-rule":
            selectors = split_at_commas(tinycss2.serialize(rule.prelude))
            selectors = [selector for selector in selectors if used.by(selector)]
            if selectors:
                kept.append(f"{','.join(selectors)}{{{compact(tinycss2.serialize(rule.content))}}}")
        elif rule.type == "at-rule" and rule.lower_at_keyword in {"media", "supports", "layer"} and rule.content:
            inside = keep(tinycss2.parse_rule_list(rule.content, skip_comments=True, skip_whitespace=True), used)
            if inside:
                kept.append(f"@{rule.at_keyword}{tinycss2.serialize(rule.prelude)}{{{inside}}}")
        elif rule.type == "at-rule" and rule.lower_at_keyword not in {"charset", "import"}:
            kept.append(compact(rule.serialize()))
    return "\n".join(kept)


def split_at_commas(prelude):
    """Return the selectors of a rule; commas inside brackets separate nothing."""
    selectors, depth = [""], 0
    for character in prelude:
        depth += (character in "([") - (character in ")]")
        if character == "," and depth == 0:
            selectors.append("")
        else:
            selectors[-1] += character
    return [selector.strip() for selector in selectors]


def compact(css):
    """Return `css` without comments and line breaks."""
    return re.sub(r"\s+", " ", re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL)).strip()


def characters(css):
    """Return the code points in the strings of `css`: what its rules show."""
    return {ord(character) for string in strings(tinycss2.parse_component_value_list(css)) for character in string}


def strings(tokens):
    """Yield the strings in `tokens`, blocks included."""
    for token in tokens:
        if token.type == "string":
            yield token.value
        yield from strings(getattr(token, "content", None) or getattr(token, "arguments", None) or ())


def lighten_font(source, target, wanted):
    """Write the font `source` with the characters `wanted` to `target`; return whether it has any of them."""
    there = wanted & set(TTFont(source, lazy=True).getBestCmap())
    if there:
        options = subset.Options(flavor="woff", notdef_outline=False, hinting=False, desubroutinize=True)
        font = subset.load_font(source, options)
        cutter = subset.Subsetter(options)
        cutter.populate(unicodes=there)
        cutter.subset(font)
        subset.save_font(font, target, options)
    return bool(there)


def lighten_fonts(css, static, shown):
    """Return `css` with fonts that hold the characters `shown` only; a font without any of them goes."""
    folder = static / "fonts"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()

    def lighten(rule):
        files = [static / address for _, address in URL.findall(rule[0])]
        readable = [file for file in files if file.suffix in {".ttf", ".woff"}]
        # The theme names compressed fonts, and has the plain ones beside them.
        readable += [file.with_suffix(".ttf") for file in files if file.with_suffix(".ttf").exists()]
        source = next((file for file in readable if file.exists()), None)
        if source and source.stem == EMPTY:
            data = base64.b64encode(source.read_bytes()).decode()
            return f'@font-face{{font-family:MJXZERO;src:url("data:font/woff;base64,{data}") format("woff")}}'
        if not source or not lighten_font(source, folder / f"{source.stem}.woff", shown):
            return ""
        others = re.sub(r"(?:src|font-display):[^;}]*;?|/\*.*?\*/", "", rule[0]).rstrip("} ;")
        return f'{others};font-display:swap;src:url("fonts/{source.stem}.woff") format("woff")}}'

    return re.sub(r"@font-face\s*\{[^}]*\}", lighten, css)


def choose(app, pagename, templatename, context, doctree):
    """Take what light.css replaces and what the page has no use for out of it; let scripts wait."""
    context["css_files"] = [sheet for sheet in context["css_files"] if sheet.filename not in app.light_pages_theirs]
    body = context["body"] = PLAIN_CODE.sub(r"\1", context.get("body") or "")
    scripts = []
    for script in context["script_files"]:
        name = posixpath.basename(str(script.filename or "")).partition("?")[0]
        if ONLY_WITH.get(name, "") in body:
            if name and name != "documentation_options.js":  # scripts in the page write into it
                script.attributes.setdefault("defer", "defer")
            scripts.append(script)
    context["script_files"] = scripts


def note_theirs(app, env):
    """Remember the style sheets that every page has and that aren't the course's: light.css stands for them."""
    ours = {path.relative_to(OURS).as_posix() for path in OURS.rglob("*.css")}
    files = [str(sheet.filename) for sheet in app.builder._css_files] if app.builder.format == "html" else []
    app.light_pages_theirs = [file for file in files if "://" not in file and file.removeprefix("_static/") not in ours]


def write(app, problem):
    """Make light.css, now that all pages are there."""
    if problem or app.builder.format != "html" or app.builder.name == "epub":
        return
    site = Path(app.outdir)
    static = site / "_static"
    used = Used(site)
    css = []
    names = [*THEME, *(file.removeprefix("_static/") for file in app.light_pages_theirs)]
    for name in names:
        here = posixpath.dirname(name)
        text = (static / name).read_text(encoding="utf-8")
        text = URL.sub(lambda match, here=here: f'url("{posixpath.normpath(posixpath.join(here, match[2]))}")', text)
        css.append(keep(tinycss2.parse_stylesheet(text, skip_comments=True, skip_whitespace=True), used))
    css = "\n".join(css)
    ours = "".join(path.read_text(encoding="utf-8") for path in OURS.rglob("*.css"))
    shown = characters(css + ours)
    (static / LIGHT).write_text(lighten_fonts(css, static, shown), encoding="utf-8")
    for path in (path for pattern in [*names, *UNUSED] for path in static.glob(pattern)):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def use_templates(app, config):
    """Put the course's templates before the theme's."""
    config.templates_path.insert(0, str(Path(__file__).parents[1] / "_templates"))


def setup(app):
    """Connect to Sphinx; the style sheets of other extensions must be known by then."""
    app.connect("config-inited", use_templates)
    app.connect("env-updated", note_theirs)
    app.connect("html-page-context", choose, priority=900)
    app.connect("build-finished", write, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
