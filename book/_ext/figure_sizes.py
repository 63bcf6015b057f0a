"""Pictures take their room before they come, come when they are near, and are no larger than they look.

An <img> gets the width and height of its file, so that nothing moves when it arrives; below the first screen it is
loaded when the reader comes near. The drawings of the cells hold coordinates to a millionth of a point, and the style
of each dot in a cloud: here numbers are rounded to a hundredth, which nobody sees, and a common style is written once.
"""

import re
import struct
from pathlib import Path

IMAGE = re.compile(r"<img\b[^>]*>")
SOURCE = re.compile(r'\bsrc="([^"?]*)')
FIRST_SCREEN = 1000  # characters of text: about what a phone shows before somebody scrolls
PIXELS = {"": 1, "px": 1, "pt": 4 / 3, "in": 96, "cm": 96 / 2.54, "mm": 9.6 / 2.54}


def size(path):
    """Return (width, height) of an SVG or PNG in CSS pixels, or None where the file doesn't say."""
    data = path.read_bytes()
    if data.startswith(b"\x89PNG"):
        return struct.unpack(">II", data[16:24])
    tag = re.search(r"<svg\b[^>]*>", data[:5000].decode("utf-8", "replace"))
    found = [re.search(rf'\b{name}="([\d.]+)(\w*)"', tag[0]) for name in ("width", "height")] if tag else [None]
    if all(found) and all(match[2] in PIXELS for match in found):
        return tuple(round(float(match[1]) * PIXELS[match[2]], 2) for match in found)
    box = re.search(r'\bviewBox="\s*[\d.-]+[\s,]+[\d.-]+[\s,]+([\d.]+)[\s,]+([\d.]+)', tag[0]) if tag else None
    return (float(box[1]), float(box[2])) if box else None


def file_of(app, address):
    """Return the file behind an address in a page, or None."""
    name = address.rpartition("/")[2]
    if "_images/" in address:
        for source, target in app.builder.images.items():
            if target == name:
                return Path(app.srcdir) / source
    if "_static/" in address:
        candidates = [
            Path(app.confdir) / folder / address.partition("_static/")[2] for folder in app.config.html_static_path
        ]
        return next((path for path in candidates if path.is_file()), None)
    return None


def give_room(app, pagename, templatename, context, doctree):
    """Complete the <img> tags of a page."""
    body = context.get("body")
    if not body:
        return
    parts, end, text = [], 0, 0
    for match in IMAGE.finditer(body):
        before = body[end : match.start()]
        text += len(re.sub(r"<[^>]*>|\s+", " ", before).split()) * 6  # a word and its space
        parts += [before, complete(app, match[0], lazy=text > FIRST_SCREEN)]
        end = match.end()
    context["body"] = "".join([*parts, body[end:]])


def complete(app, tag, lazy):
    """Return the <img> `tag` with what it lacks."""
    attributes = ' loading="lazy"' if lazy and "loading=" not in tag else ""
    path = file_of(app, SOURCE.search(tag)[1]) if SOURCE.search(tag) else None
    if path and path.is_file() and not re.search(r"\b(?:width|height)[=:]", tag) and (found := size(path)):
        attributes += f' width="{found[0]:g}" height="{found[1]:g}"'
    return "<img" + attributes + tag.removeprefix("<img")


NUMBER = re.compile(r"\d+\.\d{3,}")
MARKS = re.compile(r"<g( clip-path=\"[^\"]*\")>((?:\s*<use\b[^>]*/>)+)\s*</g>")
STYLE = re.compile(r' style="[^"]*"')


def lighten(svg):
    """Return a drawing by Matplotlib with shorter numbers, and with the style of many equal marks written once."""
    svg = re.sub(r'\b(?:d|x|y)="[^"]*"', lambda part: re.sub(r"\s*\n\s*", "", NUMBER.sub(round_number, part[0])), svg)
    svg = MARKS.sub(share_style, re.sub(r"<!-- .*? -->", "", svg))
    return re.sub(r"\n\s+", "\n", svg)


def round_number(number):
    """Return a number with two decimals at most."""
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def share_style(group):
    """Return a group of marks with their style, if they have one in common."""
    styles = set(STYLE.findall(group[2]))
    if len(styles) > 1 or len(STYLE.findall(group[2])) != group[2].count("<use"):
        return group[0]
    return f"<g{group[1]}{''.join(styles)}>{STYLE.sub('', group[2])}</g>"


def lighten_drawings(app, problem):
    """Make the site's drawings smaller; once is enough for each."""
    if problem or app.builder.format != "html":
        return
    for path in (Path(app.outdir) / "_images").glob("*.svg"):
        text = path.read_text(encoding="utf-8")
        lighter = lighten(text)
        if len(lighter) < len(text):
            path.write_text(lighter, encoding="utf-8")


def setup(app):
    """Connect to Sphinx."""
    app.connect("html-page-context", give_room)
    app.connect("build-finished", lighten_drawings)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
