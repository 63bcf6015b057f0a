"""A stand-in for matplotlib.pyplot in the page, where the real one would be as large as all the rest together.

It records what the NumPy problem sets draw (lines, histograms, bars, pictures, contours, arrows) and shows it as SVG
when the cell ends or calls ``plt.show()``; `bnlab.in_page.svg` does the drawing. A call or an argument that it doesn't
know raises :class:`NotInPage`, which says so: the rest of the notebook runs on.

What this isn't: matplotlib. Its looks are those of the course's figures, whatever the style.
"""

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

MARKERS = set("os^vx+.*_D")
LINES = ("--", "-.", "-", ":")
NONE = (None, "", " ", "none", "None")


class NotInPage(AttributeError):
    """A part of matplotlib that figures in the page do without."""

    def __init__(self, what: str):
        super().__init__(
            f"figures in the page do without {what}. The rest of this notebook doesn't need this figure; to see it, "
            "download the notebook and run it in Jupyter, where matplotlib is whole."
        )


def refuse(call: str, others: Iterable[str]) -> None:
    """Raise :class:`NotInPage` where a call was given arguments that nothing here draws."""
    others = list(others)
    if others:
        raise NotInPage(f"the argument {', '.join(others)} of {call}")


@dataclass
class Line:
    """Points, joined by a line or marked or both. An x or y of None spans the axes."""

    x: np.ndarray | None
    y: np.ndarray | None
    color: str
    width: float = 2.0
    dashes: str = "-"
    marker: str = ""
    size: float = 6.0
    face: str | None = None
    alpha: float = 1.0
    label: str | None = None


@dataclass
class Area:
    """A filled outline, of a histogram or of bars: one array of corners, shape (k, 2), for each."""

    outlines: list[np.ndarray]
    color: str
    alpha: float = 1.0
    label: str | None = None
    rests_on: str = ""  # the axis, x or y, that gets no margin at its foot


@dataclass
class Picture:
    """An array of values shown as colors."""

    values: np.ndarray
    extent: tuple[float, float, float, float]  # left, right, bottom, top
    colors: str
    lowest: float
    highest: float
    label: None = None


@dataclass
class Contours:
    """Lines of equal height of z over the grid x, y: of each level its segments, shape (k, 2, 2)."""

    segments: list[np.ndarray]
    x: np.ndarray
    y: np.ndarray
    colors: list[str]
    label: None = None


@dataclass
class Arrows:
    """Arrows from points (x, y) along (u, v), whose unit is the width of the axes divided by `scale`."""

    x: np.ndarray
    y: np.ndarray
    u: np.ndarray
    v: np.ndarray
    color: str
    scale: float
    width: float
    label: None = None


@dataclass
class Note:
    """Text at a point; with `offset` (in points) it stands apart from the point, and an arrow leads there."""

    x: float
    y: float
    text: str
    align: str = "start"
    size: float | None = None
    offset: tuple[float, float] | None = None
    arrow: bool = False
    label: None = None


@dataclass
class Axis:
    """What is known of one direction of the axes."""

    label: str = ""
    limits: tuple[float, float] | None = None
    is_log: bool = False
    ticks: list[float] | None = None
    tick_labels: list[str] | None = None


@dataclass
class Legend:
    """Where the names of the lines stand."""

    place: str = "best"
    anchor: tuple[float, float] | None = None
    columns: int = 1
    size: float | None = None


@dataclass
class Axes:
    """One panel of a figure."""

    row: int = 0
    column: int = 0
    x: Axis = field(default_factory=Axis)
    y: Axis = field(default_factory=Axis)
    artists: list = field(default_factory=list)
    title: str = ""
    title_at: str = "left"
    title_size: float | None = None
    key: Legend | None = None
    is_equal: bool = False
    has_axis: bool = True
    has_frame: bool = True
    _colors: dict = field(default_factory=lambda: {"line": 0, "area": 0})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise NotInPage(f"ax.{name}")

    def _next(self, kind: str) -> str:
        self._colors[kind] += 1
        return f"C{self._colors[kind] - 1}"

    # ---- what is drawn ----

    def plot(self, *data: Any, label: str | None = None, **style: Any) -> list[Line]:
        """``plot(y)``, ``plot(x, y)``, either with a format such as "o--"; each column of a table is a line."""
        *data, form = data if data and isinstance(data[-1], str) else (*data, "")
        if len(data) not in (1, 2):
            raise NotInPage("ax.plot with several lines in one call")
        ys = _columns(data[-1])
        xs = _columns(data[0]) if len(data) == 2 else [np.arange(len(ys[0]), dtype=float)]
        if len(xs) not in (1, len(ys)) or len(xs[0]) != len(ys[0]):
            raise ValueError(
                f"x and y must have the same length, but have shapes {np.shape(data[0])} and {ys[0].shape}"
            )
        lines = []
        for number, y in enumerate(ys):
            named = label if number == 0 else None
            lines.append(_line("ax.plot", xs[number % len(xs)], y, form, {"label": named, **style}, self._next))
        self.artists += lines
        return lines

    def loglog(self, *data: Any, **style: Any) -> list[Line]:
        """`plot` with logarithmic axes."""
        self.x.is_log = self.y.is_log = True
        return self.plot(*data, **style)

    def semilogy(self, *data: Any, **style: Any) -> list[Line]:
        """`plot` with a logarithmic y axis."""
        self.y.is_log = True
        return self.plot(*data, **style)

    def semilogx(self, *data: Any, **style: Any) -> list[Line]:
        """`plot` with a logarithmic x axis."""
        self.x.is_log = True
        return self.plot(*data, **style)

    def axhline(self, y: float = 0, **style: Any) -> Line:
        """A horizontal line across the axes."""
        return self._across("ax.axhline", None, np.array([float(y)]), style)

    def axvline(self, x: float = 0, **style: Any) -> Line:
        """A vertical line across the axes."""
        return self._across("ax.axvline", np.array([float(x)]), None, style)

    def _across(self, call: str, x: np.ndarray | None, y: np.ndarray | None, style: dict) -> Line:
        line = _line(call, x, y, "", {"color": "C0", **style}, self._next)
        self.artists.append(line)
        return line

    def hist(
        self,
        values: Any,
        bins: Any = 10,
        histtype: str = "bar",
        color: str | None = None,
        alpha: float = 1.0,
        label: str | None = None,
        **others: Any,
    ) -> tuple[np.ndarray, np.ndarray, Area]:
        """How many of the values lie in each bin."""
        refuse("ax.hist", others)
        if histtype not in ("bar", "stepfilled"):
            raise NotInPage(f"ax.hist(histtype={histtype!r})")
        counts, edges = np.histogram(np.asarray(values, dtype=float).ravel(), bins)
        steps = np.column_stack([np.repeat(edges, 2), np.r_[0.0, np.repeat(counts, 2), 0.0]])
        area = Area([steps], color or self._next("area"), alpha, label, rests_on="y")
        self.artists.append(area)
        return counts, edges, area

    def barh(self, y: Any, width: Any, height: float = 0.8, left: Any = 0.0, color: str | None = None, **others: Any):
        """Horizontal bars; where `y` holds names, they stand beside them."""
        refuse("ax.barh", others)
        y = list(y)
        if all(isinstance(name, str) for name in y):
            self.y.ticks, self.y.tick_labels = list(map(float, range(len(y)))), y
            y = range(len(y))
        ends = np.broadcast_arrays(np.asarray(left, dtype=float), np.asarray(left) + np.asarray(width, dtype=float))
        outlines = [
            np.array([[a, at - height / 2], [b, at - height / 2], [b, at + height / 2], [a, at + height / 2]])
            for at, a, b in zip(y, *map(np.atleast_1d, ends), strict=True)
        ]
        self.artists.append(Area(outlines, color or self._next("area"), rests_on="x"))

    def imshow(
        self,
        values: Any,
        cmap: str = "viridis",
        vmin: float | None = None,
        vmax: float | None = None,
        extent: Any = None,
        **others: Any,
    ) -> Picture:
        """A table of numbers as a picture, its first row on top."""
        from bnlab.in_page.svg import COLOR_MAPS

        refuse("ax.imshow", others)
        values = np.asarray(values, dtype=float)
        if values.ndim != 2 or not values.size:
            raise NotInPage(
                f"ax.imshow of an array of shape {values.shape}: they show tables of numbers (rows, columns)"
            )
        if cmap not in COLOR_MAPS:
            raise NotInPage(f"the color map {cmap!r} (they know {', '.join(COLOR_MAPS)})")
        rows, columns = values.shape
        extent = (-0.5, columns - 0.5, rows - 0.5, -0.5) if extent is None else tuple(map(float, extent))
        finite = values[np.isfinite(values)]
        low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
        picture = Picture(values, extent, cmap, low if vmin is None else vmin, high if vmax is None else vmax)
        self.artists.append(picture)
        self.is_equal = True
        return picture

    def contour(self, x: Any, y: Any, z: Any, levels: Any, colors: Any = "C0", **others: Any) -> Contours:
        """Lines of equal height."""
        refuse("ax.contour", others)
        x, y, z = (np.asarray(a, dtype=float) for a in (x, y, z))
        colors = [colors] * len(levels) if isinstance(colors, str) else list(colors)
        contours = Contours([segments(x, y, z, level) for level in levels], x, y, colors)
        self.artists.append(contours)
        return contours

    def quiver(
        self, x: Any, y: Any, u: Any, v: Any, color: str = "k", scale: float = 10.0, width: float = 0.005, **others
    ):
        """Arrows."""
        refuse("ax.quiver", others.keys() - {"zorder"})
        arrows = Arrows(*(np.asarray(a, dtype=float).ravel() for a in (x, y, u, v)), color, scale, width)
        self.artists.append(arrows)
        return arrows

    def text(
        self, x: float, y: float, text: str, ha: str = "left", fontsize: float | None = None, **others: Any
    ) -> Note:
        """Text at a point of the data."""
        refuse("ax.text", others)
        align = {"left": "start", "center": "middle", "right": "end"}[ha]
        note = Note(float(x), float(y), str(text), align, fontsize)
        self.artists.append(note)
        return note

    def annotate(
        self, text: str, xy: Any, xytext: Any = None, textcoords: str = "data", arrowprops=None, **others
    ) -> Note:
        """Text apart from a point, by an offset in points, with an arrow to it."""
        refuse("ax.annotate", others)
        if xytext is not None and textcoords != "offset points":
            raise NotInPage(f"ax.annotate(textcoords={textcoords!r})")
        offset = None if xytext is None else tuple(map(float, xytext))
        note = Note(float(xy[0]), float(xy[1]), str(text), offset=offset, arrow=arrowprops is not None)
        self.artists.append(note)
        return note

    # ---- what stands around it ----

    def set(self, **settings: Any) -> None:
        """``set(xlabel="step", ylim=(0, 1))`` is ``set_xlabel("step")`` and ``set_ylim(0, 1)``."""
        for name, value in settings.items():
            setter = getattr(type(self), f"set_{name}", None)
            if setter is None:
                raise NotInPage(f"ax.set({name}=...)")
            setter(self, value)

    def set_title(self, title: str, loc: str = "left", fontsize: float | None = None, **others: Any) -> None:
        refuse("ax.set_title", others)
        self.title, self.title_at, self.title_size = str(title), loc, fontsize

    def set_xlabel(self, label: str, **others: Any) -> None:
        refuse("ax.set_xlabel", others)
        self.x.label = str(label)

    def set_ylabel(self, label: str, **others: Any) -> None:
        refuse("ax.set_ylabel", others)
        self.y.label = str(label)

    def set_xlim(self, left: Any, right: Any = None) -> None:
        self.x.limits = _pair(left, right)

    def set_ylim(self, bottom: Any, top: Any = None) -> None:
        self.y.limits = _pair(bottom, top)

    def set_xscale(self, scale: str) -> None:
        self.x.is_log = _is_log("ax.set_xscale", scale)

    def set_yscale(self, scale: str) -> None:
        self.y.is_log = _is_log("ax.set_yscale", scale)

    def set_xticks(self, ticks: Any, labels: Any = None) -> None:
        _set_ticks(self.x, ticks, labels)

    def set_yticks(self, ticks: Any, labels: Any = None) -> None:
        _set_ticks(self.y, ticks, labels)

    def set_aspect(self, aspect: str) -> None:
        self.is_equal = aspect in ("equal", 1)

    def set_axis_off(self) -> None:
        self.has_axis = False

    def set_frame_on(self, is_on: bool) -> None:
        self.has_frame = is_on

    def grid(self, *_: Any, **__: Any) -> None:
        """There is always a grid."""

    def legend(
        self, loc="best", bbox_to_anchor=None, ncols: int = 1, fontsize: float | None = None, **others: Any
    ) -> None:
        """The names of the lines."""
        refuse("ax.legend", others)
        self.key = Legend(loc, bbox_to_anchor, ncols, fontsize)


@dataclass
class Figure:
    """A figure: its panels, row by row."""

    size: tuple[float, float]  # inches
    panels: list[Axes]
    shares_x: bool = False
    shares_y: bool = False
    key: Legend | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise NotInPage(f"fig.{name}")

    def legend(
        self, loc: str = "outside upper right", ncols: int = 1, fontsize: float | None = None, **others: Any
    ) -> None:
        """The names of all lines, above the panels."""
        refuse("fig.legend", others)
        if loc != "outside upper right":
            raise NotInPage(f"fig.legend(loc={loc!r})")
        self.key = Legend(loc, None, ncols, fontsize)

    def __repr__(self) -> str:
        return f"<Figure with {len(self.panels)} panel{'s' if len(self.panels) > 1 else ''}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict, dict]:
        from bnlab.in_page.svg import described, drawn

        alt = described(self)
        mime = "image/svg+xml"
        return {"text/plain": repr(self), mime: drawn(self, alt)}, {mime: {"alt": alt}}


class Pyplot(ModuleType):
    """The module ``matplotlib.pyplot``: figures that are open, and the one that is drawn to."""

    def __init__(self, display: Callable[[Figure], None]):
        super().__init__(
            "matplotlib.pyplot", "A stand-in for matplotlib.pyplot: bnlab.in_page.figures says what it can."
        )
        self._display = display
        self._open: list[Figure] = []
        self.style = SimpleNamespace(use=lambda *_: None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in OF_THE_PANEL:
            return getattr(self.gca(), OF_THE_PANEL[name])
        raise NotInPage(f"plt.{name}")

    def subplots(
        self,
        nrows: int = 1,
        ncols: int = 1,
        *,
        figsize: Any = (6.4, 3.6),
        sharex: bool = False,
        sharey: bool = False,
        layout: str | None = None,
        **others: Any,
    ) -> tuple[Figure, Any]:
        """A figure with panels in rows and columns."""
        refuse("plt.subplots", others)
        panels = [Axes(row, column) for row in range(nrows) for column in range(ncols)]
        figure = Figure(tuple(figsize), panels, bool(sharex), bool(sharey))
        self._open.append(figure)
        if len(panels) == 1:
            return figure, panels[0]
        grid = np.empty(len(panels), dtype=object)
        grid[:] = panels
        return figure, grid.reshape(nrows, ncols) if min(nrows, ncols) > 1 else grid

    def figure(self, figsize: Any = (6.4, 3.6), **others: Any) -> Figure:
        """A figure, whose panel is made by the first call that draws."""
        return self.subplots(figsize=figsize, **others)[0]

    def gca(self) -> Axes:
        """The panel that was made last."""
        if not self._open:
            self.subplots()
        return self._open[-1].panels[-1]

    def show(self) -> None:
        """Show the open figures, and close them."""
        for figure in self._take():
            self._display(figure)

    def close(self, which: Any = None) -> None:
        """Forget all open figures."""
        self._take()

    def after_cell(self, ok: bool) -> None:
        """Show what a cell has left open. Where it failed, what it had begun is nothing to look at."""
        if ok:
            self.show()
        else:
            self._take()

    def _take(self) -> list[Figure]:
        taken, self._open = self._open, []
        return taken


# pyplot's own functions that draw to the current panel, and its methods of that name.
OF_THE_PANEL = {name: name for name in ("plot", "loglog", "semilogy", "semilogx", "hist", "barh", "imshow", "contour")}
OF_THE_PANEL |= {name: name for name in ("quiver", "text", "annotate", "axhline", "axvline", "legend", "grid")}
OF_THE_PANEL |= {name: f"set_{name}" for name in ("title", "xlabel", "ylabel", "xlim", "ylim", "xticks", "yticks")}


def install(display: Callable[[Figure], None]) -> Pyplot:
    """Make `import matplotlib.pyplot` find the stand-in."""
    pyplot = Pyplot(display)
    matplotlib = ModuleType("matplotlib", "A stand-in for matplotlib; see bnlab.in_page.figures.")
    matplotlib.__path__ = []  # a package: `import matplotlib.colors` then says which module is missing
    matplotlib.pyplot = pyplot
    sys.modules |= {"matplotlib": matplotlib, "matplotlib.pyplot": pyplot}
    return pyplot


def segments(x: np.ndarray, y: np.ndarray, z: np.ndarray, level: float) -> np.ndarray:
    """Where z crosses a level, by marching squares: straight pieces inside the cells of the grid.

    Parameters
    ----------
    x, y, z : ndarray, shape (rows, columns)
    level : float

    Returns
    -------
    ndarray, shape (k, 2, 2)
        Pairs of points.
    """
    points = np.stack([x, y], axis=-1)
    corners = [np.s_[:-1, :-1], np.s_[:-1, 1:], np.s_[1:, 1:], np.s_[1:, :-1]]  # of every cell, all the way around
    crossings, is_crossed = [], []
    for one, other in zip(corners, corners[1:] + corners[:1], strict=True):
        rise = z[other] - z[one]
        with np.errstate(divide="ignore", invalid="ignore"):
            share = ((level - z[one]) / rise)[..., None]
        crossings.append(points[one] + share * (points[other] - points[one]))
        is_crossed.append((z[one] < level) != (z[other] < level))
    found = []
    for row, column in np.argwhere(np.any(is_crossed, axis=0)):
        ends = [crossings[side][row, column] for side in range(4) if is_crossed[side][row, column]]
        found += [ends[k : k + 2] for k in range(0, len(ends), 2)]
    return np.array(found).reshape(-1, 2, 2)


def _line(call: str, x: Any, y: Any, form: str, style: dict, next_color: Callable[[str], str]) -> Line:
    """A line in matplotlib's words: a format such as "o--", and keyword arguments."""
    color, marker, dashes = _read_format(form)
    rest = dict(style)
    color = rest.pop("color", None) or rest.pop("c", None) or color or next_color("line")
    marker = rest.pop("marker", marker)
    dashes = rest.pop("linestyle", rest.pop("ls", dashes or ("" if form and marker else "-")))
    line = Line(
        x,
        y,
        color,
        width=float(rest.pop("linewidth", rest.pop("lw", 2.0))),
        dashes="" if dashes in NONE else dashes,
        marker="" if marker in NONE else marker,
        size=float(rest.pop("markersize", rest.pop("ms", 6.0))),
        face=rest.pop("markerfacecolor", None),
        alpha=float(1.0 if (alpha := rest.pop("alpha", None)) is None else alpha),
        label=rest.pop("label", None),
    )
    rest.pop("zorder", None)
    refuse(call, rest)
    if line.marker and line.marker not in MARKERS:
        raise NotInPage(f"the marker {line.marker!r}")
    if line.dashes and line.dashes not in LINES:
        raise NotInPage(f"the line style {line.dashes!r}")
    return line


def _read_format(form: str) -> tuple[str, str, str]:
    color = marker = dashes = ""
    rest = form
    while rest:
        line = next((line for line in LINES if rest.startswith(line)), "")
        if line:
            dashes, rest = line, rest[len(line) :]
        elif rest[0] == "C" and rest[1:2].isdigit():
            color, rest = rest[:2], rest[2:]
        elif rest[0] in "bgrcmykw":
            color, rest = rest[0], rest[1:]
        elif rest[0] in MARKERS:
            marker, rest = rest[0], rest[1:]
        else:
            raise NotInPage(f"the format {form!r} of ax.plot")
    return color, marker, dashes


def _columns(values: Any) -> list[np.ndarray]:
    values = np.asarray(values, dtype=float)
    return list(values.T) if values.ndim == 2 else [np.atleast_1d(values)]


def _pair(one: Any, other: Any) -> tuple[float, float]:
    low, high = one if other is None else (one, other)
    return float(low), float(high)


def _is_log(call: str, scale: str) -> bool:
    if scale not in ("linear", "log"):
        raise NotInPage(f"{call}({scale!r})")
    return scale == "log"


def _set_ticks(axis: Axis, ticks: Any, labels: Any) -> None:
    axis.ticks = [float(tick) for tick in ticks]
    axis.tick_labels = None if labels is None else [str(label) for label in labels]
