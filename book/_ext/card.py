"""The pictures that findable.py gives to others: the card of a link, and the icon for a phone's home screen.

Both show the mark of book/_static/logo.svg: its paths are read from there.
"""

import re
import textwrap
from pathlib import Path as File

from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

LOGO = File(__file__).parents[1] / "_static" / "logo.svg"
BACK, INK, FAINT = "#14181e", "#f2f2f2", "#aab4c0"
PATH = re.compile(r'<path d="M([\d.]+ [\d.]+)((?:C[\d. ]+)+)Z" fill="(#\w+)"')
AXIS = "#8a8f98"
MARGIN = 40


def draw_mark(ax):
    """Draw the logo into `ax`, whose y axis points down as in SVG."""
    shapes = PATH.findall(LOGO.read_text(encoding="utf-8"))
    if len(shapes) != 2:
        raise ValueError(f"{LOGO} has {len(shapes)} filled paths of the form 'M x y C ... Z': the card draws two")
    for start, curves, color in shapes:
        numbers = [float(number) for number in re.findall(r"[\d.]+", start + curves)]
        points = list(zip(numbers[::2], numbers[1::2], strict=True))
        codes = [Path.MOVETO] + [Path.CURVE4] * (len(points) - 1)
        ax.add_patch(PathPatch(Path(points, codes), facecolor=color, alpha=0.9, lw=0))
    unit = ax.get_window_extent().width / 64 * 72 / ax.figure.dpi  # of the drawing, in points
    ax.plot([3, 61], [53, 53], color=AXIS, lw=4 * unit, solid_capstyle="round")
    ax.plot([24, 24], [53, 61], color=AXIS, lw=4 * unit, solid_capstyle="round")


def canvas(width, height):
    """Return a dark figure of `width` by `height` pixels."""
    return Figure(figsize=(width / 100, height / 100), dpi=100, facecolor=BACK)


def mark_axes(figure, left, bottom, size):
    """Return axes for the mark, `size` pixels wide, `left` and `bottom` pixels from the corner."""
    width, height = figure.get_size_inches() * figure.dpi
    ax = figure.add_axes((left / width, bottom / height, size / width, size / height))
    ax.set(xlim=(0, 64), ylim=(64, 0))
    ax.axis("off")
    return ax


def draw_card(file, title, above, below):
    """Write a picture of 1200 by 630 pixels: a page's title, the course's name above it, the description below."""
    figure = canvas(1200, 630)
    draw_mark(mark_axes(figure, 60, 90, 330))
    top = 545
    if above:
        top = write(figure, top, above, 21, color=FAINT) - 30
    top = write(figure, top, textwrap.fill(title, 22), 46, color=INK, weight="bold") - 45
    write(figure, top, textwrap.fill(below, 52), 19, color=FAINT)
    save(figure, file)


def write(figure, top, words, size, **style):
    """Write `words` right of the mark and below `top`, smaller where they are too wide; return the lower edge."""
    width, height = figure.get_size_inches() * figure.dpi
    text = figure.text(450 / width, top / height, words, size=size, va="top", linespacing=1.25, **style)
    box = text.get_window_extent()
    if box.x1 > width - MARGIN:
        text.set_size(size * (width - MARGIN - box.x0) / box.width)
        box = text.get_window_extent()
    if box.y0 < MARGIN:
        raise ValueError(f"{words!r} doesn't fit on a card: it ends {MARGIN - box.y0:.0f} pixels too low. Shorten it")
    return box.y0


def draw_icon(file):
    """Write a picture of 180 by 180 pixels."""
    figure = canvas(180, 180)
    draw_mark(mark_axes(figure, 26, 26, 128))
    save(figure, file)


def save(figure, file):
    """Write `figure` as a PNG without the date, so that two builds give the same file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Software": None})
