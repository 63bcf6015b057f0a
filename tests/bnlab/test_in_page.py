"""bnlab.in_page outside of a browser: its kernel and its figures, without what only a browser shows."""

import io
import re
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from bnlab.in_page import figures, svg
from bnlab.in_page.kernel import Kernel


@pytest.fixture
def plt(monkeypatch):
    """The stand-in, and in `plt.shown` the figures that it has shown."""
    for name in ("matplotlib", "matplotlib.pyplot"):
        monkeypatch.setitem(sys.modules, name, None)
    shown = []
    pyplot = figures.install(shown.append)
    pyplot.shown = shown
    return pyplot


@pytest.fixture
def run():
    """Run a cell in one session: its outputs."""
    outputs = []
    kernel = Kernel(outputs.append)

    def run(code):
        outputs.clear()
        kernel.run(code)
        return list(outputs)

    return run


def picture(plt):
    """The last figure as parsed SVG."""
    plt.show()
    data, _ = plt.shown[-1]._repr_mimebundle_()
    return ElementTree.fromstring(data["image/svg+xml"])


def texts(root):
    return ["".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")]


def test_contours_lie_where_the_level_is():
    x, y = np.meshgrid(np.linspace(-2, 2, 81), np.linspace(-2, 2, 81))
    found = figures.segments(x, y, x**2 + y**2, 2.25)
    radius = np.linalg.norm(found, axis=-1)
    assert len(found) > 50
    np.testing.assert_allclose(radius, 1.5, atol=2e-3)
    angles = np.sort(np.arctan2(found[:, 0, 1], found[:, 0, 0]))
    assert np.diff(angles).max() < 0.1, "all the way around"
    assert figures.segments(x, y, x**2 + y**2, 99.0).shape == (0, 2, 2)


def test_a_histogram_counts_as_numpy_does(plt):
    values = np.random.default_rng(0).normal(size=300)
    _, ax = plt.subplots()
    counts, edges, _ = ax.hist(values, bins=7)
    expected = np.histogram(values, 7)
    np.testing.assert_array_equal(counts, expected[0])
    np.testing.assert_array_equal(edges, expected[1])


def test_points_are_drawn_where_their_values_are(plt):
    _, ax = plt.subplots()
    ax.plot([1, 10, 100], [3, 2, 1], "-")
    ax.set(xscale="log", xlim=(1, 100), ylim=(1, 3))
    root = picture(plt)
    box = next(root.iter("{http://www.w3.org/2000/svg}rect"))
    left, top, width, height = (float(box.get(name)) for name in ("x", "y", "width", "height"))
    line = next(p for p in root.iter("{http://www.w3.org/2000/svg}path") if "bn-blue" in p.get("style"))
    points = np.array(re.findall(r"(-?[\d.]+),(-?[\d.]+)", line.get("d")), dtype=float)
    expected = [(left, top), (left + width / 2, top + height / 2), (left + width, top + height)]
    np.testing.assert_allclose(points, expected, atol=0.11)


def test_a_missing_value_breaks_the_line(plt):
    _, ax = plt.subplots()
    ax.semilogy([1, 2, np.nan, 4, 0, 6])
    line = next(p for p in picture(plt).iter("{http://www.w3.org/2000/svg}path") if "bn-blue" in p.get("style"))
    assert line.get("d").count("M") == 3 and "nan" not in line.get("d")


def test_a_picture_has_the_values_colors(plt):
    image = pytest.importorskip("PIL.Image", reason="reading a PNG needs pillow")
    values = np.array([[0.0, 0.5], [1.0, np.nan]])
    shown = figures.Picture(values, (0, 1, 0, 1), "gray", 0.0, 1.0)
    pixels = np.asarray(image.open(io.BytesIO(svg.png(svg.colored(values, shown)))))
    np.testing.assert_array_equal(pixels[..., 0], [[0, 128], [255, 0]])
    np.testing.assert_array_equal(pixels[..., 3], [[255, 255], [255, 0]])


@pytest.mark.parametrize(("ends", "labels"), [((0, 1), "0.0 0.2 0.4 0.6 0.8 1.0"), ((-3, 3), "−3 −2 −1 0 1 2 3")])
def test_ticks_are_round(ends, labels):
    assert " ".join(label for _, label in svg.linear_ticks(ends, 250)) == labels


@pytest.mark.parametrize("ends", [(0, 1), (1900, 2020), (-1e-7, 3e-7), (5, 5.001), (-4e9, 7e9)])
def test_ticks_lie_inside_and_say_what_they_are(ends):
    ticks = svg.linear_ticks(ends, 250)
    assert 2 <= len(ticks) <= 9
    for value, label in ticks:
        assert ends[0] - 1e-9 * abs(ends[0]) <= value <= ends[1] + 1e-9 * abs(ends[1])
        digits = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
        said = label.replace("−", "-").replace("×10", "e").translate(digits)
        assert float(said) == pytest.approx(value, rel=1e-3, abs=1e-12)


def test_logarithmic_ticks_are_powers_of_ten():
    assert [label for _, label in svg.log_ticks((1e-3, 1e2), 250)] == ["10⁻³", "10⁻²", "10⁻¹", "10⁰", "10¹", "10²"]


def test_text_is_no_markup_and_formulas_are_set(plt):
    _, ax = plt.subplots()
    ax.plot([1, 2], label="a < b & c")
    ax.set(title="<script>", xlabel=r"$w_1$ and $\gamma$")
    ax.legend()
    shown = texts(picture(plt))
    assert "a < b & c" in shown and "<script>" in shown
    assert any(re.fullmatch("w1\u200b and γ", text) for text in shown)


def test_what_a_failed_cell_had_begun_is_forgotten(plt):
    plt.subplots()
    plt.after_cell(ok=False)
    plt.after_cell(ok=True)
    assert plt.shown == []
    plt.plot([1, 2])
    plt.after_cell(ok=True)
    assert len(plt.shown) == 1


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda plt: plt.pie([1]), "plt.pie"),
        (lambda plt: plt.gca().bar([1], [2]), "ax.bar"),
        (lambda plt: plt.plot([1], drawstyle="steps"), "drawstyle"),
        (lambda plt: plt.imshow(np.ones((2, 2, 3))), "(2, 2, 3)"),
        (lambda plt: plt.imshow(np.ones((2, 2)), cmap="jet"), "jet"),
        (lambda plt: plt.gca().set(facecolor="red"), "facecolor"),
        (lambda plt: plt.plot([1], "Q"), "'Q'"),
    ],
)
def test_what_it_cannot_it_names(plt, call, named):
    with pytest.raises(figures.NotInPage, match="Jupyter") as raised:
        call(plt)
    assert named in str(raised.value)


def test_lines_of_unequal_length_are_an_error(plt):
    with pytest.raises(ValueError, match="same length"):
        plt.plot([1, 2, 3], [1, 2])


def test_classes_say_that_they_are_the_readers(run):
    (output,) = run("class A: pass\nA.__module__, __name__")
    assert output["data"]["text/plain"] == "('__main__', '__main__')"


def test_a_recursion_is_shown_in_part(run):
    (output,) = run("def f(n):\n    return f(n + 1)\n\nf(0)")
    assert output["ename"] == "RecursionError" and len(output["traceback"]) < 120
    assert any("more of these" in line for line in output["traceback"])


@pytest.mark.parametrize("line", ["%matplotlib inline", "!ls", "?np", "np.mean?"])
def test_lines_for_jupyter_are_left_out_and_numbers_kept(run, line):
    (output,) = run(f"{line}\n1 / 0")
    assert "Cell In[1], line 2" in output["traceback"]


def test_a_percent_sign_inside_an_expression_stays(run):
    (output,) = run("x = (7\n  % 4)\nx")
    assert output["data"]["text/plain"] == "3"


def test_two_streams_keep_their_order(run):
    code = "import sys\nfor k in range(3):\n    print(k)\n    print('no', file=sys.stderr)"
    outputs = run(code)
    assert "".join(output["text"] for output in outputs) == "0\nno\n1\nno\n2\nno\n"
    assert {output["name"] for output in outputs} == {"stdout", "stderr"}
