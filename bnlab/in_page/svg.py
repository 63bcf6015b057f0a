"""Draws a recorded figure as SVG, with the course's colors.

Colors are the page's variables (``--bn-blue`` and so on), so that a figure in the page follows light and dark; each has
the light color behind it, for a picture that is looked at alone. One unit is a point, 1/72 inch.
"""

import base64
import math
import re
import struct
import zlib
from html import escape
from typing import Any

import numpy as np

from bnlab.in_page.figures import Area, Arrows, Axes, Axis, Contours, Figure, Legend, Line, Note, Picture

SIZE = 12.0  # of letters: a phone halves them
KEY_SIZE = 11.0  # of those in a legend
LETTER = 0.54  # mean width of a letter, in sizes: nothing here can measure
LINE = 1.25  # height of a line of text, in sizes
GAP = 6.0
PREFIX = "\0"  # stands for the beginning of a name until the figure has one

INK, FAINT, GRID = "var(--bn-ink,#1a1a1a)", "var(--bn-faint,#6a6a6a)", "var(--bn-grid,#d9d9d9)"
PAPER = "var(--pst-color-background,#fff)"
CYCLE = (
    "var(--bn-blue,#0072b2)",
    "var(--bn-orange,#c25400)",
    "var(--bn-green,#007a5a)",
    "var(--bn-pink,#a8487f)",
    "var(--bn-amber,#946200)",
    "var(--bn-sky,#217aa8)",
    INK,
)
NAMED = {
    "k": INK,
    "black": INK,
    "gray": FAINT,
    "grey": FAINT,
    "w": PAPER,
    "white": PAPER,
    "b": CYCLE[0],
    "blue": CYCLE[0],
}
NAMED |= {
    "g": CYCLE[2],
    "green": CYCLE[2],
    "r": "#d43d3d",
    "red": "#d43d3d",
    "c": CYCLE[5],
    "m": CYCLE[3],
    "y": CYCLE[4],
}
NAMED |= {"orange": CYCLE[1], "purple": CYCLE[3], "none": "none"}
DASHES = {"-": "", "--": "3.7,1.6", "-.": "6.4,1.6,1,1.6", ":": "1,1.65"}  # in widths of the line

# Colors from the lowest value to the highest, evenly spaced; between them they are mixed.
COLOR_MAPS = {
    "gray": ("000000", "ffffff"),
    "viridis": ("440154", "414487", "2a788e", "22a884", "7ad151", "fde725"),
    "cividis": ("00204c", "31446b", "666970", "958f78", "cbba69", "ffe945"),
    "RdBu_r": ("053061", "4393c3", "d1e5f0", "f7f7f7", "fddbc7", "d6604d", "67001f"),
}


class Scale:
    """From data to points along one direction of a panel."""

    def __init__(self, limits: tuple[float, float], is_log: bool):
        self.limits, self.is_log = limits, is_log
        self._low, self._high = self.position(np.array(limits))
        self.start, self.length = 0.0, 1.0

    def position(self, values: np.ndarray) -> np.ndarray:
        """The values, or their logarithms: NaN where there is none."""
        if not self.is_log:
            return np.asarray(values, dtype=float)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.log10(np.asarray(values, dtype=float))
        return np.where(np.isfinite(found), found, np.nan)

    def __call__(self, values: Any) -> np.ndarray:
        share = (self.position(values) - self._low) / (self._high - self._low)
        return self.start + self.length * share

    @property
    def span(self) -> float:
        return abs(self._high - self._low)

    def holds(self, value: float) -> bool:
        share = (self.position(np.array(value)) - self._low) / (self._high - self._low)
        return bool(-1e-9 <= share <= 1 + 1e-9)


class Panel:
    """One panel with its scales, its ticks and, once the figure is laid out, its place."""

    def __init__(self, axes: Axes, x: Scale, y: Scale, shows_x: bool, shows_y: bool):
        self.axes, self.x, self.y = axes, x, y
        self.shows_x, self.shows_y = shows_x, shows_y
        self.left = self.top = self.width = self.height = 0.0

    def place(self, left: float, top: float, width: float, height: float) -> None:
        """Take this place, or of it what equal units on both axes leave."""
        if self.axes.is_equal:
            unit = min(width / self.x.span, height / self.y.span)
            left, width = left + (width - unit * self.x.span) / 2, unit * self.x.span
            top, height = top + (height - unit * self.y.span) / 2, unit * self.y.span
        self.left, self.top, self.width, self.height = left, top, width, height
        self.x.start, self.x.length = left, width
        self.y.start, self.y.length = top + height, -height

    def ticks(self, axis: Axis, scale: Scale, room: float) -> list[tuple[float, str]]:
        """Values and labels of the ticks that lie inside."""
        if axis.ticks is not None:
            labels = axis.tick_labels or [number(tick) for tick in axis.ticks]
            pairs = list(zip(axis.ticks, labels, strict=True))
        elif scale.is_log:
            pairs = log_ticks(scale.limits, room)
        else:
            pairs = linear_ticks(scale.limits, room)
        return [(value, label) for value, label in pairs if scale.holds(value)]


def drawn(figure: Figure, alt: str) -> str:
    """The figure as SVG."""
    width, height = 72 * figure.size[0], 72 * figure.size[1]
    panels = laid_out(figure, width, height)
    parts = [part for number, panel in enumerate(panels) for part in panel_svg(panel, number)]
    if figure.key:
        keys = [artist for panel in panels for artist in panel.axes.artists if artist.label]
        key_width, key_height = key_size(keys, figure.key)
        parts.append(key_svg(keys, figure.key, width - key_width - GAP, GAP / 2, key_height))
    body = "".join(parts)
    prefix = f"bn{zlib.crc32(body.encode()):08x}"  # names in a page are shared by all its figures
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width * 4 / 3:.0f}" '
        f'height="{height * 4 / 3:.0f}" role="img" aria-label="{escape(alt)}" font-size="{SIZE:g}" '
        f'style="max-width:100%;height:auto;font-family:var(--pst-font-family-base,sans-serif)">'
        f"<title>{escape(alt)}</title>{body.replace(PREFIX, prefix)}</svg>"
    )


def described(figure: Figure) -> str:
    """The figure in words, for those who don't see it."""
    return f"Figure. {' '.join(_panel_in_words(axes, len(figure.panels)) for axes in figure.panels)}"


def _panel_in_words(axes: Axes, panels: int) -> str:
    kinds = {
        Line: "line",
        Area: "filled area",
        Picture: "picture",
        Contours: "set of contours",
        Arrows: "set of arrows",
    }
    counts: dict[str, int] = {}
    for artist in axes.artists:
        if type(artist) in kinds:
            counts[kinds[type(artist)]] = counts.get(kinds[type(artist)], 0) + 1
    what = ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in counts.items()) or "nothing"
    names = ", ".join(plain(artist.label) for artist in axes.artists if artist.label)
    along = "; ".join(f"{name}: {plain(axis.label)}" for name, axis in (("x", axes.x), ("y", axes.y)) if axis.label)
    head = f"Panel “{plain(axes.title)}”: " if axes.title else "Panel: " if panels > 1 else ""
    return f"{head}{what}{f' ({names})' if names else ''}{f'. {along}' if along else ''}.".replace("\n", " ")


# ---- layout ----


def laid_out(figure: Figure, width: float, height: float) -> list[Panel]:
    """The panels in their places."""
    rows = 1 + max(axes.row for axes in figure.panels)
    columns = 1 + max(axes.column for axes in figure.panels)
    x_limits = [limits(axes, "x") for axes in figure.panels]
    y_limits = [limits(axes, "y") for axes in figure.panels]
    if figure.shares_x:
        x_limits = [union(figure, x_limits, "x")] * len(x_limits)
    if figure.shares_y:
        y_limits = [union(figure, y_limits, "y")] * len(y_limits)
    panels = [
        Panel(
            axes,
            Scale(x, axes.x.is_log),
            Scale(y, axes.y.is_log),
            shows_x=axes.has_axis and (not figure.shares_x or axes.row == rows - 1),
            shows_y=axes.has_axis and (not figure.shares_y or axes.column == 0),
        )
        for axes, x, y in zip(figure.panels, x_limits, y_limits, strict=True)
    ]
    cell = width / columns, height / rows
    head = 0.0
    if figure.key:
        head = GAP + key_size([a for p in panels for a in p.axes.artists if a.label], figure.key)[1]
    left, right, top, bottom = (np.zeros(n) for n in (columns, columns, rows, rows))
    for panel in panels:
        margins = margins_of(panel, *cell)
        for side, index, room in zip(
            (left, right, top, bottom), (panel.axes.column,) * 2 + (panel.axes.row,) * 2, margins, strict=True
        ):
            side[index] = max(side[index], room)
    inner = (width - left.sum() - right.sum()) / columns, (height - head - top.sum() - bottom.sum()) / rows
    for panel in panels:
        row, column = panel.axes.row, panel.axes.column
        panel.place(
            left[: column + 1].sum() + right[:column].sum() + column * inner[0],
            head + top[: row + 1].sum() + bottom[:row].sum() + row * inner[1],
            *(max(side, 1.0) for side in inner),
        )
    return panels


def margins_of(panel: Panel, width: float, height: float) -> tuple[float, float, float, float]:
    """What a panel needs around itself: left, right, top, bottom."""
    axes, lines = panel.axes, lambda text: len(text.split("\n")) * LINE * SIZE if text else 0.0
    left = right = bottom = top = GAP
    if panel.shows_y:
        labels = [label for _, label in panel.ticks(axes.y, panel.y, 0.7 * height)]
        left += max(map(text_width, labels), default=0.0) + (GAP if labels else 0.0)
    if panel.shows_x:
        labels = [label for _, label in panel.ticks(axes.x, panel.x, 0.7 * width)]
        bottom += max(map(lines, labels), default=0.0)
        right += text_width(labels[-1]) / 2 if labels else 0.0
    if axes.has_axis:
        left += lines(axes.y.label) + (2.0 if axes.y.label else 0.0)
        bottom += lines(axes.x.label) + (2.0 if axes.x.label else 0.0)
    top += lines(axes.title) + (2.0 if axes.title else 0.0)
    if axes.key and axes.key.anchor and axes.key.anchor[1] >= 1:
        top += key_size([artist for artist in axes.artists if artist.label], axes.key)[1]
    return left, right, top, bottom


def limits(axes: Axes, name: str) -> tuple[float, float]:
    """The ends of an axis: those that were set, or what the data need and a little more."""
    axis: Axis = getattr(axes, name)
    if axis.limits:
        return axis.limits
    values = np.concatenate([np.zeros(0), *(np.ravel(extent(artist, name)) for artist in axes.artists)])
    scale = Scale((1.0, 10.0), axis.is_log)
    values = values[np.isfinite(scale.position(values))]
    if not values.size:
        return (1.0, 10.0) if axis.is_log else (0.0, 1.0)
    low, high = float(values.min()), float(values.max())
    pictures = [artist for artist in axes.artists if isinstance(artist, Picture)]
    if pictures:
        is_down = name == "y" and pictures[-1].extent[2] > pictures[-1].extent[3]
        return (high, low) if is_down else (low, high)
    rests = any(isinstance(artist, Area) and artist.rests_on == name for artist in axes.artists)
    if axis.is_log:
        room = (high / low) ** 0.05 if high > low else 2.0
        return low if rests else low / room, high * room
    room = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
    return (low if rests else low - room), high + room


def union(figure: Figure, all_limits: list, name: str) -> tuple[float, float]:
    """One pair of ends for panels that share an axis: what was set for one of them, or room for all."""
    given = [getattr(axes, name).limits for axes in figure.panels if getattr(axes, name).limits]
    if given:
        return given[-1]
    is_log = any(getattr(axes, name).is_log for axes in figure.panels)
    for axes in figure.panels:
        getattr(axes, name).is_log = is_log
    return min(map(min, all_limits)), max(map(max, all_limits))


def extent(artist: Any, name: str) -> np.ndarray:
    """The values of an artist along x or y that the axes must hold."""
    side = 0 if name == "x" else 1
    if isinstance(artist, Line):
        values = getattr(artist, name)
        return np.zeros(0) if values is None else values
    if isinstance(artist, Area):
        return np.concatenate([outline[:, side] for outline in artist.outlines])
    if isinstance(artist, Picture):
        return np.array(artist.extent[2 * side : 2 * side + 2])
    if isinstance(artist, Contours | Arrows):
        return getattr(artist, name)
    return np.zeros(0)


# ---- ticks and numbers ----


def linear_ticks(ends: tuple[float, float], room: float) -> list[tuple[float, str]]:
    """Round values, at most one in every 36 points."""
    low, high = sorted(ends)
    most = max(2.0, min(7.0, room / 36))
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * (1 - 1e-9))
    digits = max(0, -math.floor(math.log10(step) + 1e-9) + (1 if step / power == 2.5 else 0))
    ticks = step * np.arange(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    if max(abs(low), abs(high)) >= 1e6 or digits > 5:
        return [(float(tick), number(float(tick))) for tick in ticks]
    return [(float(tick), f"{tick + 0.0:.{digits}f}".replace("-", "−")) for tick in ticks]


def log_ticks(ends: tuple[float, float], room: float) -> list[tuple[float, str]]:
    """Powers of ten, or where hardly one fits, 1, 2 and 5 times such."""
    low, high = sorted(ends)
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    if last - first < 1:
        tens = [10.0**power * factor for power in range(first - 1, last + 1) for factor in (1, 2, 5)]
        return [(tick, number(tick)) for tick in tens]
    stride = max(1, math.ceil((last - first + 1) / max(2.0, min(8.0, room / 30))))
    return [(10.0**power, f"10{superscript(power)}") for power in range(first, last + 1, stride)]


def superscript(power: int) -> str:
    return str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def number(value: float) -> str:
    """A number for a tick: 0.5, 2000, 3×10⁶."""
    text = f"{value:.4g}"
    if "e" not in text:
        return text.replace("-", "−")
    mantissa, power = text.split("e")
    return f"{mantissa}×10{superscript(int(power))}".replace("-", "−")


# ---- text ----

GREEK = {"alpha": "α", "beta": "β", "gamma": "γ", "epsilon": "ε", "varepsilon": "ε", "eta": "η", "kappa": "κ"}
GREEK |= {"lambda": "λ", "mu": "μ", "sigma": "σ", "partial": "∂", "cdot": "·", "times": "×"}
MATH = re.compile(r"\$([^$]*)\$")
SCRIPT = re.compile(r"([_^])(?:\{([^}]*)\}|(\w))")


def plain(text: str) -> str:
    """Text without the marks of formulas, for counting letters and for reading aloud."""
    return MATH.sub(lambda found: SCRIPT.sub(r" \2\3", _greek(found[1])), text)


def text_width(text: str, size: float = SIZE) -> float:
    return max(len(plain(line)) for line in text.split("\n")) * LETTER * size


def text_svg(x: float, y: float, text: str, align: str = "start", size: float = SIZE, more: str = "") -> str:
    """Text whose first line stands at y; formulas between dollar signs."""
    lines = []
    for row, line in enumerate(text.split("\n")):
        place = f' x="{x:.1f}" dy="{LINE * size:.1f}"' if row else ""
        lines.append(f"<tspan{place}>{MATH.sub(_formula, escape(line, quote=False))}</tspan>")
    sized = f' font-size="{size:g}"' if size != SIZE else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{align}"{sized} style="fill:{INK}"{more}>{"".join(lines)}</text>'
    )


def _greek(formula: str) -> str:
    return re.sub(r"\\(\w+) ?", lambda found: GREEK.get(found[1], found[1]), formula)


def _formula(found: re.Match) -> str:
    def script(part: re.Match) -> str:
        shift, size = (0.25 if part[1] == "_" else -0.35) * SIZE, 0.75 * SIZE
        inner = part[2] if part[2] is not None else part[3]
        return f'<tspan dy="{shift:.1f}" font-size="{size:.1f}">{inner}</tspan><tspan dy="{-shift:.1f}">\u200b</tspan>'

    return f'<tspan font-style="italic">{SCRIPT.sub(script, _greek(found[1]))}</tspan>'


# ---- panels ----


def panel_svg(panel: Panel, number: int) -> list[str]:
    """One panel: grid, data, frame, ticks, labels, legend."""
    axes = panel.axes
    left, top, width, height = panel.left, panel.top, panel.width, panel.height
    right, bottom = left + width, top + height
    x_ticks = panel.ticks(axes.x, panel.x, width) if axes.has_axis else []
    y_ticks = panel.ticks(axes.y, panel.y, height) if axes.has_axis else []
    parts = []
    if not any(isinstance(artist, Picture) for artist in axes.artists):
        grid = [f"M{px:.1f},{top:.1f}V{bottom:.1f}" for px in panel.x([tick for tick, _ in x_ticks])]
        grid += [f"M{left:.1f},{py:.1f}H{right:.1f}" for py in panel.y([tick for tick, _ in y_ticks])]
        parts.append(path("".join(grid), GRID, 0.8))
    clip = f"{PREFIX}-{number}"
    box = f'x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}"'
    parts.append(f'<clipPath id="{clip}"><rect {box}/></clipPath>')
    data = "".join(artist_svg(artist, panel) for artist in axes.artists if not isinstance(artist, Note))
    parts.append(f'<g clip-path="url(#{clip})">{data}</g>')
    parts += [note_svg(artist, panel) for artist in axes.artists if isinstance(artist, Note)]
    if axes.has_axis and axes.has_frame:
        parts.append(path(f"M{left:.1f},{top:.1f}V{bottom:.1f}H{right:.1f}", INK, 0.8))
    below = bottom + 3
    if panel.shows_x:
        for px, (_, label) in zip(panel.x([tick for tick, _ in x_ticks]), x_ticks, strict=True):
            parts.append(text_svg(px, bottom + GAP / 2 + 0.9 * SIZE, label, "middle"))
        if x_ticks:
            below += LINE * SIZE * max(len(label.split("\n")) for _, label in x_ticks)
    if axes.has_axis and axes.x.label:
        parts.append(text_svg(left + width / 2, below + SIZE, axes.x.label, "middle"))
    aside = left - GAP
    if panel.shows_y:
        for py, (_, label) in zip(panel.y([tick for tick, _ in y_ticks]), y_ticks, strict=True):
            rows = len(label.split("\n"))
            first = py + 0.35 * SIZE - (rows - 1) * LINE * SIZE / 2
            parts.append(text_svg(aside, first, label, "end"))
        aside -= max((text_width(label) for _, label in y_ticks), default=0.0) + GAP
    if axes.has_axis and axes.y.label:
        middle = top + height / 2
        rows = len(axes.y.label.split("\n"))
        at = aside - 2 - (rows - 1) * LINE * SIZE
        parts.append(
            text_svg(at, middle, axes.y.label, "middle", more=f' transform="rotate(-90 {at:.1f} {middle:.1f})"')
        )
    keys = [artist for artist in axes.artists if artist.label]
    raised = 0.0
    if axes.key and keys:
        key_width, key_height = key_size(keys, axes.key)
        if axes.key.anchor and axes.key.anchor[1] >= 1:
            raised = key_height
        parts.append(key_svg(keys, axes.key, *key_place(panel, axes.key, key_width, key_height), key_height))
    if axes.title:
        at, align = {"left": (left, "start"), "right": (right, "end")}.get(axes.title_at, (left + width / 2, "middle"))
        rows = len(axes.title.split("\n"))
        parts.append(text_svg(at, top - GAP - raised - (rows - 1) * LINE * SIZE, axes.title, align))
    return parts


def artist_svg(artist: Any, panel: Panel) -> str:
    """What one call drew."""
    if isinstance(artist, Line):
        return line_svg(artist, panel)
    if isinstance(artist, Area):
        corners = (points(panel.x(outline[:, 0]), panel.y(outline[:, 1])) for outline in artist.outlines)
        data = "".join(f"{outline}Z" for outline in corners)
        return f'<path d="{data}" style="fill:{color(artist.color)};fill-opacity:{artist.alpha:g}"/>'
    if isinstance(artist, Picture):
        return picture_svg(artist, panel)
    if isinstance(artist, Contours):
        return "".join(
            path("".join(points(panel.x(piece[:, 0]), panel.y(piece[:, 1])) for piece in pieces), color(stroke), 1.5)
            for pieces, stroke in zip(artist.segments, artist.colors, strict=True)
        )
    unit = panel.width / artist.scale
    return "".join(
        arrow_svg(x, y, x + unit * u, y - unit * v, color(artist.color), max(artist.width * panel.width, 0.8))
        for x, y, u, v in zip(panel.x(artist.x), panel.y(artist.y), artist.u, artist.v, strict=True)
        if np.isfinite([x, y, u, v]).all()
    )


def line_svg(line: Line, panel: Panel) -> str:
    """A line and its markers."""
    if line.x is None or line.y is None:
        if line.x is None:
            x, y = np.array([panel.left, panel.left + panel.width]), np.repeat(panel.y(line.y), 2)
        else:
            x, y = np.repeat(panel.x(line.x), 2), np.array([panel.top, panel.top + panel.height])
    else:
        x, y = panel.x(line.x), panel.y(line.y)
    stroke, parts = color(line.color), []
    if line.dashes:
        parts.append(path(points(x, y), stroke, line.width, line.dashes, line.alpha))
    if line.marker:
        parts.append(markers_svg(line, x, y))
    return "".join(parts)


def markers_svg(line: Line, x: np.ndarray, y: np.ndarray) -> str:
    """A marker at every point, all of them in one path."""
    r = line.size / 2
    shapes = {
        "o": f"m{-r:g},0a{r:g},{r:g} 0 1,0 {2 * r:g},0a{r:g},{r:g} 0 1,0 {-2 * r:g},0z",
        ".": f"m{-r / 2:g},0a{r / 2:g},{r / 2:g} 0 1,0 {r:g},0a{r / 2:g},{r / 2:g} 0 1,0 {-r:g},0z",
        "s": f"m{-r:g},{-r:g}h{2 * r:g}v{2 * r:g}h{-2 * r:g}z",
        "D": f"m0,{-1.4 * r:g}l{1.4 * r:g},{1.4 * r:g}l{-1.4 * r:g},{1.4 * r:g}l{-1.4 * r:g},{-1.4 * r:g}z",
        "^": f"m0,{-r:g}l{r:g},{2 * r:g}h{-2 * r:g}z",
        "v": f"m0,{r:g}l{r:g},{-2 * r:g}h{-2 * r:g}z",
        "x": f"m{-r:g},{-r:g}l{2 * r:g},{2 * r:g}m0,{-2 * r:g}l{-2 * r:g},{2 * r:g}",
        "+": f"m{-r:g},0h{2 * r:g}m{-r:g},{-r:g}v{2 * r:g}",
        "_": f"m{-r:g},0h{2 * r:g}",
        "*": _star(r),
    }
    x, y = np.broadcast_arrays(x, y)
    kept = np.isfinite(x) & np.isfinite(y)
    stroke = color(line.color)
    fill = "none" if line.marker in "x+_" else stroke if line.face is None else color(line.face)
    is_dot = line.marker in "o." and fill == stroke
    shape = "h0" if is_dot else shapes[line.marker]
    data = "".join(f"M{a:.1f},{b:.1f}{shape}" for a, b in zip(x[kept], y[kept], strict=True))
    if is_dot:  # the round end of a line without length: by far the shortest way to write many
        width = line.size / (2 if line.marker == "." else 1)
        style = f"fill:none;stroke:{stroke};stroke-width:{width:g};stroke-linecap:round;opacity:{line.alpha:g}"
        return f'<path d="{data}" style="{style}"/>'
    return path(data, stroke, 1.3 if fill in ("none", PAPER) else 0.5, alpha=line.alpha, fill=fill)


def _star(r: float) -> str:
    turn = np.pi * (np.arange(10) / 5 - 0.5)
    length = np.where(np.arange(10) % 2, 0.4 * r, r)
    corners = np.column_stack([length * np.cos(turn), length * np.sin(turn)])
    steps = np.diff(corners, axis=0)
    return f"m{corners[0, 0]:.2f},{corners[0, 1]:.2f}" + "".join(f"l{a:.2f},{b:.2f}" for a, b in steps) + "z"


def picture_svg(picture: Picture, panel: Panel) -> str:
    """A picture as PNG inside the SVG: one pixel for each value."""
    left, right = panel.x(picture.extent[:2])
    bottom, top = panel.y(picture.extent[2:])
    values = picture.values[:, ::-1] if left > right else picture.values
    values = values[::-1] if top > bottom else values
    data = base64.b64encode(png(colored(values, picture))).decode()
    return (
        f'<image x="{min(left, right):.2f}" y="{min(top, bottom):.2f}" width="{abs(right - left):.2f}" '
        f'height="{abs(bottom - top):.2f}" preserveAspectRatio="none" style="image-rendering:pixelated" '
        f'href="data:image/png;base64,{data}"/>'
    )


def colored(values: np.ndarray, picture: Picture) -> np.ndarray:
    """Bytes (rows, columns, red green blue alpha); a value that is no number is transparent."""
    stops = np.array([list(bytes.fromhex(stop)) for stop in COLOR_MAPS[picture.colors]], dtype=float)
    span = picture.highest - picture.lowest
    with np.errstate(invalid="ignore"):
        share = np.clip((values - picture.lowest) / span if span else np.zeros_like(values), 0, 1)
    at = np.linspace(0, 1, len(stops))
    channels = [np.interp(np.nan_to_num(share), at, stops[:, channel]) for channel in range(3)]
    return np.stack([*channels, np.where(np.isfinite(values), 255, 0)], axis=-1).round().astype(np.uint8)


def png(pixels: np.ndarray) -> bytes:
    """A PNG file of bytes (rows, columns, 4)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows, columns, _ = pixels.shape
    scanlines = b"".join(b"\0" + row.tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", columns, rows, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(scanlines)) + chunk(b"IEND", b"")


def note_svg(note: Note, panel: Panel) -> str:
    """Text, and an arrow where it stands apart from what it is about."""
    x, y = float(panel.x(note.x)), float(panel.y(note.y))
    if not math.isfinite(x + y):
        return ""
    parts, (dx, dy) = [], note.offset or (0.0, 0.0)
    if note.arrow:
        parts.append(arrow_svg(x + dx, y - dy, x, y, INK, 1.0))
    if note.text:
        parts.append(text_svg(x + dx, y - dy, note.text, note.align, note.size or SIZE))
    return "".join(parts)


def arrow_svg(x1: float, y1: float, x2: float, y2: float, stroke: str, width: float) -> str:
    length = math.hypot(x2 - x1, y2 - y1)
    if not length:
        return ""
    along = np.array([(x2 - x1) / length, (y2 - y1) / length])
    aside = np.array([-along[1], along[0]])
    head = min(4.5 * width + 2, length)
    tip = np.array([x2, y2])
    neck = tip - head * along
    corners = np.array([neck + 0.5 * head * aside, tip, neck - 0.5 * head * aside])
    shaft = path(points(*np.array([[x1, y1], neck]).T), stroke, width)
    return f'{shaft}<path d="{points(*corners.T)}Z" style="fill:{stroke}"/>'


# ---- legends ----


def key_size(keys: list, key: Legend) -> tuple[float, float]:
    """Width and height of a legend."""
    rows = -(-len(keys) // key.columns)
    return sum(key_columns(keys, key)), rows * LINE * (key.size or KEY_SIZE) + GAP if keys else 0.0


def key_columns(keys: list, key: Legend) -> list[float]:
    """The widths of a legend's columns, which are filled one after the other."""
    size, rows = key.size or KEY_SIZE, -(-len(keys) // key.columns)
    widths = [text_width(artist.label, size) + 3.4 * size for artist in keys]
    return [max(widths[first : first + rows]) for first in range(0, len(keys), rows or 1)]


def key_place(panel: Panel, key: Legend, width: float, height: float) -> tuple[float, float]:
    """The upper left corner of a legend."""
    x0, x1 = panel.left + GAP, panel.left + panel.width - width - GAP
    y0, y1 = panel.top + GAP / 2, panel.top + panel.height - height - GAP / 2
    if key.anchor:
        x, y = panel.left + key.anchor[0] * panel.width, panel.top + (1 - key.anchor[1]) * panel.height
        down = key.place.startswith("upper")
        return (x - width if key.place.endswith("right") else x), (y if down else y - height)
    places = {
        f"{up} {side}": (x, y)
        for up, y in (("upper", y0), ("lower", y1), ("center", (y0 + y1) / 2))
        for side, x in (("right", x1), ("left", x0), ("center", (x0 + x1) / 2))
    }
    if key.place in places:
        return places[key.place]
    covered = _marks(panel)

    def hidden(place: tuple[float, float]) -> int:
        inside = (covered >= place) & (covered <= (place[0] + width, place[1] + height))
        return int(inside.all(axis=1).sum())

    return min(places.values(), key=hidden)


def _marks(panel: Panel) -> np.ndarray:
    """Points along everything that a legend should not cover."""
    found = [np.zeros((0, 2))]
    for artist in panel.axes.artists:
        if isinstance(artist, Line) and artist.x is not None and artist.y is not None:
            x, y = np.broadcast_arrays(panel.x(artist.x), panel.y(artist.y))
            steps = np.arange(0, len(x) - 1 + 1e-9, 0.1) if len(x) < 100 else np.arange(len(x))
            found.append(np.column_stack([np.interp(steps, np.arange(len(x)), values) for values in (x, y)]))
        elif isinstance(artist, Area):
            for outline in artist.outlines:
                found.append(np.column_stack([panel.x(outline[:, 0]), panel.y(outline[:, 1])]))
    return np.concatenate(found)


def key_svg(keys: list, key: Legend, left: float, top: float, height: float) -> str:
    """The names, each behind a piece of its line."""
    size, columns = key.size or KEY_SIZE, key_columns(keys, key)
    rows = -(-len(keys) // key.columns)
    parts = [
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{sum(columns):.1f}" height="{height:.1f}" '
        f'style="fill:{PAPER};fill-opacity:0.75"/>'
    ]
    for number, artist in enumerate(keys):
        x = left + sum(columns[: number // rows]) + 0.4 * size
        y = top + GAP / 2 + (number % rows + 0.5) * LINE * size
        ends = np.array([x, x + 2 * size]), np.array([y, y])
        if isinstance(artist, Line):
            if artist.dashes:
                parts.append(path(points(*ends), color(artist.color), artist.width, artist.dashes, artist.alpha))
            if artist.marker:
                parts.append(markers_svg(artist, ends[0].mean(keepdims=True), ends[1][:1]))
        else:
            parts.append(
                f'<rect x="{x:.1f}" y="{y - 0.3 * size:.1f}" width="{2 * size:.1f}" height="{0.6 * size:.1f}" '
                f'style="fill:{color(artist.color)};fill-opacity:{artist.alpha:g}"/>'
            )
        parts.append(text_svg(x + 2.5 * size, y + 0.35 * size, artist.label, size=size))
    return "".join(parts)


# ---- pieces ----


def color(name: Any) -> str:
    """A color in CSS, from one of matplotlib's names: "C0", "k", "gray", "#rrggbb", "0.5" (a gray)."""
    name = str(name)
    if re.fullmatch(r"C\d+", name):
        return CYCLE[int(name[1:]) % len(CYCLE)]
    if name in NAMED:
        return NAMED[name]
    if name.startswith("tab:"):
        return NAMED.get(name[4:], CYCLE[0])
    if re.fullmatch(r"0?\.\d+|[01]", name):
        return f"rgb({3 * f'{100 * float(name):.0f}% '})"
    if re.fullmatch(r"#[0-9a-fA-F]{3,8}|[a-z]{3,24}", name):
        return name
    raise ValueError(f"{name!r} is not a color: give a name such as 'C0', 'gray' or '#0072b2'")


def points(x: np.ndarray, y: np.ndarray) -> str:
    """A path through points, broken where one isn't finite. What lies far outside is brought nearer."""
    pieces, is_pen_down = [], False
    x, y = np.broadcast_arrays(x, y)
    for a, b in zip(np.clip(x, -1e5, 1e5), np.clip(y, -1e5, 1e5), strict=True):
        if not (math.isfinite(a) and math.isfinite(b)):
            is_pen_down = False
            continue
        pieces.append(f"{'L' if is_pen_down else 'M'}{a:.1f},{b:.1f}")
        is_pen_down = True
    return "".join(pieces)


def path(data: str, stroke: str, width: float, dashes: str = "-", alpha: float = 1.0, fill: str = "none") -> str:
    """A path; nothing where there is nothing to draw."""
    if not data:
        return ""
    style = f"fill:{fill};stroke:{stroke};stroke-width:{width:g}"
    if alpha != 1:
        style += f";opacity:{alpha:g}"
    if DASHES.get(dashes):
        style += f";stroke-dasharray:{','.join(f'{float(part) * width:.1f}' for part in DASHES[dashes].split(','))}"
    else:
        style += ";stroke-linejoin:round"
    return f'<path d="{data}" style="{style}"/>'
