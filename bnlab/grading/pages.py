"""Web pages that can't do anything: one file each, no script, nothing from elsewhere, and what students wrote as text.

A page carries a Content-Security-Policy that lets a browser use the page's own style sheet (by its hash) and images
inside the page, and nothing else. Everything that comes from a submission goes through the functions here, or through
Jinja's escaping.
"""

import base64
import binascii
import builtins
import hashlib
import io
import keyword
import re
import struct
import tokenize
from functools import cache, lru_cache
from importlib import resources
from typing import Any

import jinja2
from markdown_it import MarkdownIt
from markupsafe import Markup, escape

TEXT_LIMIT = 20_000  # characters of one output, of one cell's code, of one answer in words
IMAGE_LIMIT = 2 * 2**20  # bytes of one image
IMAGES_LIMIT = 10 * 2**20  # bytes of all images of a page
SIDE_LIMIT = 6000  # pixels: an image of few bytes can be unpacked to many gigabytes
_KINDS = {tokenize.STRING: "st", tokenize.NUMBER: "nu", tokenize.COMMENT: "co"}
_KINDS |= {getattr(tokenize, f"FSTRING_{part}", -1): "st" for part in ("START", "MIDDLE", "END")}  # from Python 3.12
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

# Sequences by which a terminal is told to move or to color, with their contents; then every other control character.
_TERMINAL = re.compile(r"\x1b(?:\][^\x07\x1b]{0,4096}(?:\x07|\x1b\\)?|\[[0-?]{0,64}[ -/]{0,16}[@-~]?|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
# These turn text around, so that it shows as something that it is not.
_DIRECTIONS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def render(template: str, title: str, **values: Any) -> str:
    """A page from a template of this package.

    Parameters
    ----------
    template : str
        Its file name in ``templates/``.
    title : str
    values
        What the template uses.

    Returns
    -------
    str
        HTML.
    """
    style = _style()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    return _templates().get_template(template).render(title=title, style=Markup(style), policy=policy, **values)


@cache
def _style() -> str:
    return resources.files("bnlab.grading").joinpath("templates/page.css").read_text(encoding="utf-8").strip()


@cache
def _templates() -> jinja2.Environment:
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("bnlab.grading"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"number": number, "percent": percent, "code_name": code_name}
    return templates


def number(value: float | None) -> str:
    """A number of points, or a dash where there is none."""
    return "–" if value is None else f"{value:.2f}".rstrip("0").rstrip(".")


def percent(share: float) -> str:
    """A share in percent; a small one is not 0."""
    return "below 1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


def code_name(name: str) -> Markup:
    """A name from code, which may break after an underscore."""
    return Markup("<code>{}</code>").format(Markup("_<wbr>").join(plain(name, 200).split("_")))


def plain(text: Any, limit: int = TEXT_LIMIT) -> str:
    """Text from a submission, without control characters and marks that turn letters around. It still needs escaping.

    Parameters
    ----------
    text : object
        A string, or a list of strings, as notebooks have them. Anything else becomes "".
    limit : int
        Characters to keep; what is left out is said at the end.
    """
    if isinstance(text, list):
        text = "".join(part for part in text if isinstance(part, str))
    if not isinstance(text, str):
        return ""
    left_out = len(text) - limit
    text = _DIRECTIONS.sub("\N{REPLACEMENT CHARACTER}", _CONTROLS.sub("", text[:limit]))
    return text + (f"\n[{left_out:,} more characters are left out]" if left_out > 0 else "")


def printed(text: Any, limit: int = TEXT_LIMIT) -> str:
    """What a program wrote, as a terminal would leave it: without colors, and with overwritten lines gone."""
    if isinstance(text, list):
        text = "".join(part for part in text if isinstance(part, str))
    if not isinstance(text, str):
        return ""
    start, rest = text[: 4 * limit], text[4 * limit :]
    start = _TERMINAL.sub("", start).replace("\r\n", "\n")
    start = re.sub(r"^.*\r(?=.)", "", start, flags=re.MULTILINE)  # a progress bar overwrites its line
    return plain(start + rest, limit)


def image(data: Any, room: int = IMAGES_LIMIT) -> tuple[str, int]:
    """A PNG image as an address inside the page.

    Parameters
    ----------
    data : object
        Base64 text, as notebooks have it.
    room : int
        Bytes that the page still has for images.

    Returns
    -------
    address : str
        ``data:image/png;base64,...``, or "" for anything that isn't a PNG image of sane size.
    size : int
        Its bytes.
    """
    if isinstance(data, list):
        data = "".join(part for part in data if isinstance(part, str))
    if not isinstance(data, str) or len(data) > 2 * IMAGE_LIMIT:
        return "", 0
    try:
        raw = base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        return "", 0
    if len(raw) > min(IMAGE_LIMIT, room) or not raw.startswith(PNG_SIGNATURE) or raw[12:16] != b"IHDR" or len(raw) < 33:
        return "", 0
    if not all(0 < side <= SIDE_LIMIT for side in struct.unpack(">II", raw[16:24])):
        return "", 0
    return f"data:image/png;base64,{base64.b64encode(raw).decode()}", len(raw)


def code(source: Any) -> Markup:
    """Python code as HTML, its keywords, texts, numbers and comments marked; plain where it isn't Python."""
    return _marked(plain(source))


@lru_cache(maxsize=256)  # most cells of a notebook are as they were handed out
def _marked(text: str) -> Markup:
    lines = io.StringIO(text).readlines()
    pieces: list[tuple[str, str]] = []  # kind, text
    line, column = 1, 0

    def up_to(row: int, end: int) -> str:
        """The text from the last place to this one."""
        nonlocal line, column
        if row == line:
            part = lines[line - 1][column:end] if line <= len(lines) else ""
        else:
            part = lines[line - 1][column:] + "".join(lines[line : row - 1])
            part += lines[row - 1][:end] if row <= len(lines) else ""
        line, column = row, end
        return part

    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if kind := _kind(token):
                pieces += [("", up_to(*token.start)), (kind, up_to(*token.end))]
        pieces.append(("", up_to(len(lines) + 1, 0)))
    except (tokenize.TokenError, SyntaxError, ValueError, IndexError, RecursionError):
        return escape(text)
    if "".join(part for _, part in pieces) != text:
        return escape(text)
    html = (f'<span class="{kind}">{escape(part)}</span>' if kind else str(escape(part)) for kind, part in pieces)
    return Markup("".join(html))


def _kind(token: tokenize.TokenInfo) -> str:
    if token.type == tokenize.NAME:
        return "kw" if keyword.iskeyword(token.string) else "bi" if hasattr(builtins, token.string) else ""
    return _KINDS.get(token.type, "")


@cache
def _markdown() -> MarkdownIt:
    # No HTML, no links, no images: of what Markdown can do, an answer in words needs emphasis, lists, code and tables.
    markdown = MarkdownIt("commonmark", {"html": False, "maxNesting": 20}).enable("table")
    return markdown.disable(["html_block", "html_inline", "link", "image", "autolink", "reference"])


def words(text: Any) -> Markup:
    """Markdown as HTML, without links and images; HTML in it is shown as text. Its headings are no headings here."""
    markdown = _markdown()
    tokens = markdown.parse(plain(text))
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = "p"
            if token.nesting == 1:
                token.attrSet("class", "heading")
        elif token.type in ("th_open", "td_open"):  # alignment comes as a style attribute, which the policy forbids
            token.attrs = {}
        elif token.type == "fence":
            token.info = ""
    return Markup(markdown.renderer.render(tokens, markdown.options, {}))


def heading(text: Any) -> str:
    """The first heading in a Markdown cell, or ""."""
    found = re.search(r"^#{1,6}[ \t]+(.+?)[ \t#]*$", plain(text), re.MULTILINE)
    return re.sub(r"[*_`$]", "", found.group(1)).strip() if found else ""
