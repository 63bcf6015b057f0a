"""The figures that a reader moves: the directive, what each of them computes, and all of them alive in a browser.

What is asked of every figure is asked of each name in book/_ext/explorables. Its numbers are compared with those of
`oracle(state, data)` in tests/book/explorables/NAME.py, which takes them from bnlab or NumPy: every entry of the oracle
must be in the result of `compute`.
"""

import functools
import importlib.util
import json
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import browsing
import numpy as np
import pytest
import small_book
from browsing import ROOT

sys.path.append(str(ROOT / "book" / "_ext"))
import explorable

ORACLES = Path(__file__).parent / "explorables"
NAMES = explorable.names()
CAPTION = "A caption with $x$ and {ref}`label`."


def target(name):
    """Return the name of a figure on its page."""
    return f"fig-{name.replace('_', '-')}"


def figure(name, caption=CAPTION):
    """Return the directive of an explorable."""
    return f":::{{explorable}} {name}\n:name: {target(name)}\n\n{caption}\n:::\n"


# --- what a figure computes ------------------------------------------------------------------------------------------


@functools.cache
def data_of(name):
    """Return the data of a figure as the page gets them."""
    return json.loads(json.dumps(explorable.load(name).data(), allow_nan=False))


def run_in_node(name, states):
    """Return what run.js prints."""
    node = shutil.which("node")
    if not node:
        browsing.absent("no Node.js on PATH: install your system's package `nodejs`")
    given = json.dumps({"script": str(explorable.SCRIPTS / f"{name}.js"), "data": data_of(name), "states": states})
    run = subprocess.run([node, ORACLES / "run.js"], input=given, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def start(controls):
    """Return the state that the controls begin with."""
    return {control["name"]: 0 if control["type"] == "button" else control["value"] for control in controls}


def anywhere(controls, draw):
    """Return a random state."""
    state = {}
    for control in controls:
        if control["type"] == "button":
            value = draw.randrange(5)
        elif control["type"] == "checkbox":
            value = draw.choice([True, False])
        elif control["type"] == "select":
            value, _ = draw.choice(control["options"])
        else:
            low, high, step = control["min"], control["max"], control["step"]
            value = round(low + draw.randint(0, round((high - low) / step)) * step, 10)
        state[control["name"]] = value
    return state


@functools.cache
def computed(name):
    """Return [(state, result, sentence)] at the start, at both ends of every control, and at random states."""
    controls = run_in_node(name, [])["controls"]
    begin, draw = start(controls), random.Random(0)
    ends = [{**begin, c["name"]: c[end]} for c in controls if "min" in c for end in ("min", "max")]
    states = [begin, *ends, *(anywhere(controls, draw) for _ in range(20))]
    ran = run_in_node(name, states)
    return list(zip(states, ran["results"], ran["sentences"], strict=True))


def agree(result, expected, where):
    """Compare an entry of the oracle with the same entry of the result."""
    if isinstance(expected, dict):
        for key, value in expected.items():
            assert key in result, f"{where} has no {key!r}"
            agree(result[key], value, f"{where}.{key}")
    elif isinstance(expected, str | bool | None):
        assert result == expected, where
    elif isinstance(expected, list | tuple) and any(isinstance(item, dict) for item in expected):
        assert len(result) == len(expected), where
        for index, (one, other) in enumerate(zip(result, expected, strict=True)):
            agree(one, other, f"{where}[{index}]")
    else:
        numbers = np.array(result, dtype=float)  # it reads "NaN" and "Infinity" too
        np.testing.assert_allclose(numbers, np.array(expected, dtype=float), rtol=1e-8, atol=1e-10, err_msg=where)


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_computes_what_its_oracle_does(name):
    path = ORACLES / f"{name}.py"
    assert path.is_file(), f"write {path} with oracle(state, data)"
    spec = importlib.util.spec_from_file_location(f"oracle_of_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for state, result, _ in computed(name):
        expected = module.oracle(state, data_of(name))
        assert expected, "an oracle that states nothing"
        agree(result, expected, f"at {state}: result")


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_says_a_sentence_at_every_state(name):
    sentences = [sentence for *_, sentence in computed(name)]
    for sentence in sentences:
        assert re.fullmatch(r"\S.*[.?!]", sentence, re.DOTALL), sentence
        assert not re.search(r"\b(NaN|Infinity|undefined|null|object Object)\b", sentence), sentence
    assert len(set(sentences)) > 3, "it hardly follows the state"


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_is_well_declared(name):
    module, controls = explorable.load(name), run_in_node(name, [])["controls"]
    assert len(module.ALT) > 80
    assert all(isinstance(height, int) for height in module.HEIGHT) and len(module.HEIGHT) == 2
    assert len({control["name"] for control in controls}) == len(controls)
    for control in controls:
        assert control["label"], control
        if control["type"] in ("range", "handle"):
            steps = (np.array([control["value"], control["max"]]) - control["min"]) / control["step"]
            np.testing.assert_allclose(steps, steps.round(), atol=1e-6, err_msg=f"{control}: a step that doesn't fit")
            assert control["min"] <= control["value"] <= control["max"], control
        elif control["type"] == "select":
            assert control["value"] in [value for value, _ in control["options"]], control
            assert all(isinstance(value, str) for value, _ in control["options"]), control
        else:
            assert control["type"] in ("checkbox", "button"), control


# --- the directive ---------------------------------------------------------------------------------------------------


INDEX = "(label)=\n# Book\n\n```{{toctree}}\n{}\n```\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A book with a page for every figure, and one without; built without a warning."""
    pages = {
        name: f"# A page\n\nIts figure is {{numref}}`{target(name)}`.\n\n{figure(name)}\nMore.\n" for name in NAMES
    }
    pages |= {"plain": "# Plain\n\nNo figure here.\n", "far": "# Far\n\n" + "One more.\n\n" * 120 + figure("outlier")}
    pages["far"] = pages["far"].replace(":name: fig-outlier\n", "")
    folder, warnings = small_book.build(
        tmp_path_factory.mktemp("book"), {"index": INDEX.format("\n".join(pages)), **pages}
    )
    assert not warnings
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_is_a_picture_with_words_and_a_reserved_place(site, name):
    bs4 = pytest.importorskip("bs4")
    page = bs4.BeautifulSoup((site / f"{name}.html").read_text(encoding="utf-8"), "html.parser")
    found = page.select_one("figure.bn-explorable")
    assert (found["data-explorable"], found["id"]) == (name, target(name))
    assert re.fullmatch(r"--bn-height: [\d.]+rem; --bn-height-narrow: [\d.]+rem", found["style"])
    still = found.select_one(".bn-explorable-stage > img")
    assert still["alt"] == explorable.load(name).ALT
    assert int(still["width"]) > 300 and int(still["height"]) > 200
    assert (site / still["src"]).read_text(encoding="utf-8").count("<svg") == 1
    caption = found.select_one(":scope > figcaption")
    assert caption.select(".math") and caption.select("a.reference[href='index.html#label']")
    assert "explorables/explorable.js" in str(page.head)
    assert "explorable.js" not in (site / "plain.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_a_page_has_the_data_as_a_script(site, name):
    text = (site / "_static" / "explorables" / "data" / f"{name}.js").read_text(encoding="utf-8")
    match = re.fullmatch(r'bnExplorables\.data\("(\w+)", (.*)\);\n', text)
    assert match[1] == name and json.loads(match[2]) == data_of(name)
    assert len(text) < 200_000, "too much to send to a phone"


@pytest.mark.parametrize(
    ("builder", "pattern", "expected"),
    [
        ("text", "*.txt", "Four strips of dots"),
        ("latex", "*.tex", r"\sphinxincludegraphics{{outlier}.pdf}"),
        ("epub", "outlier.xhtml", '<img class="bn-explorable-still" src="_images/outlier.svg"'),
    ],
)
def test_other_formats_have_the_still_picture(tmp_path, builder, pattern, expected):
    folder, _ = small_book.build(
        tmp_path, {"index": INDEX.format("outlier"), "outlier": f"# A\n\n{figure('outlier')}"}, builder
    )
    text = "".join(path.read_text(encoding="utf-8") for path in folder.glob(pattern))
    assert expected in text and "A caption with" in text
    assert "explorable.js" not in text and "data-explorable" not in text


def test_mistakes_are_errors_with_their_line(tmp_path):
    text = f"# A\n\n{figure('no_such_figure')}\n{figure('outlier', '')}"
    _, warnings = small_book.build(tmp_path, {"index": INDEX.format("a"), "a": text})
    found = [(int(line), what) for line, what in re.findall(r"/a\.md:(\d+): ERROR: (.*)", warnings)]
    assert [line for line, _ in found] == [3, 9]
    assert "there is no explorable 'no_such_figure': write" in found[0][1] and "outlier" in found[0][1]
    assert "has no caption" in found[1][1]


MODULE = "ALT = ''\nHEIGHT = (1, 1)\ndef data():\n    return {}\ndef still(data):\n    pass\n"


@pytest.mark.parametrize(
    ("module", "script", "words"),
    [
        (MODULE, None, "has no script: write"),
        (MODULE.replace("HEIGHT", "SIZE").replace("def still", "def draw"), "", "has no still and no HEIGHT"),
        (MODULE.replace("{}", "{'x': float('nan')}"), "", "not what JSON can hold"),
        (MODULE.replace("{}", "{'x': {1, 2}}"), "", "not what JSON can hold"),
    ],
)
def test_an_incomplete_figure_is_told_what_it_lacks(tmp_path, monkeypatch, module, script, words):
    monkeypatch.setattr(explorable, "BUILD_TIME", tmp_path)
    monkeypatch.setattr(explorable, "SCRIPTS", tmp_path)
    (tmp_path / "broken.py").write_text(module, encoding="utf-8")
    if script is not None:
        (tmp_path / "broken.js").write_text(script, encoding="utf-8")
    with pytest.raises(explorable.ExplorableError, match=words):
        explorable.make("broken", tmp_path / "made")


# --- alive -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address(site):
    """The book on localhost."""
    with browsing.served(site) as address:
        yield address


SHIFTS = """
window.shifts = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifts.push(entry.value);
}).observe({ type: "layout-shift", buffered: true });
"""


class Page:
    """A page with one figure, alive."""

    def __init__(self, tab, url):
        self.tab = tab
        self.figure = tab.locator("figure.bn-explorable")
        self.errors = []
        tab.on("console", lambda message: message.type == "error" and self.note(message))
        tab.add_init_script(SHIFTS)
        tab.goto(url)
        self.figure.scroll_into_view_if_needed()
        tab.wait_for_selector("figure.bn-alive .bn-explorable-say:not(:empty)")

    def note(self, message):
        """Remember an error on the console, unless it is the theme's own or about an icon that small books lack."""
        if "theme mode" not in message.text and "favicon" not in message.location["url"]:
            self.errors.append(message.text)

    @property
    def sentence(self):
        """The sentence that screen readers hear, once it has settled."""
        self.tab.wait_for_timeout(350)
        return self.figure.locator(".bn-explorable-say").inner_text()

    @property
    def drawing(self):
        """A number for what is drawn, with its knobs; Plot counts its clips through."""
        self.tab.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return hash(re.sub(r"plot-clip-\d+", "", self.figure.locator(".bn-explorable-plot").inner_html()))


@pytest.mark.browser
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", ["server", "folder"])
def test_a_figure_comes_alive(browser, site, address, name, place):
    base = address if place == "server" else site.as_uri()
    with small_book.visit(browser) as tab:
        page = Page(tab, f"{base}/{name}.html#{target(name)}")
        assert page.figure.locator(".bn-explorable-drawing svg").first.is_visible()
        assert page.sentence == computed(name)[0][2]  # as in Node
        assert not page.figure.locator("img").is_visible()
        before = page.drawing
        tab.wait_for_timeout(500)
        assert page.drawing == before, "it moves by itself"
        assert sum(tab.evaluate("shifts")) < 0.01
        assert page.errors == []


@pytest.mark.browser
@pytest.mark.parametrize("name", NAMES)
def test_a_figure_is_moved_by_keyboard_alone(browser, address, name):
    with small_book.visit(browser) as tab:
        page = Page(tab, f"{address}/{name}.html#{target(name)}")
        begin, drawn = page.sentence, page.drawing
        said = set()
        reached = []
        page.figure.locator(".bn-explorable-stage").evaluate(
            "e => { e.tabIndex = -1; e.focus(); e.removeAttribute('tabindex'); }"
        )
        for _ in range(40):
            tab.keyboard.press("Tab")
            kind = tab.evaluate(
                "() => { const e = document.activeElement; return e.closest('.bn-explorable-live') "
                "&& (e.getAttribute('role') ?? e.type ?? 'link'); }"
            )
            if not kind:
                break
            if tab.evaluate("document.activeElement.textContent") == "Reset":
                continue
            reached.append(kind)
            keys = {"checkbox": ["Space"], "button": ["Enter"]}.get(kind, ["ArrowUp", "ArrowDown", "ArrowDown"])
            drawings = [page.drawing]
            for key in keys:
                tab.keyboard.press(key)
                drawings.append(page.drawing)
            said.add(page.sentence)
            assert len(set(drawings)) > 1, f"{len(reached)}. control ({kind}) changes nothing"
            page.figure.get_by_role("button", name="Reset").dispatch_event("click")
        assert len(reached) == len(run_in_node(name, [])["controls"])
        assert said - {begin}, "the sentence doesn't follow"
        assert (page.sentence, page.drawing) == (begin, drawn)
        assert page.figure.locator(".bn-explorable-say").get_attribute("aria-live") == "polite"


@pytest.mark.browser
@pytest.mark.parametrize("name", NAMES)
def test_knobs_are_dragged(browser, address, name):
    with small_book.visit(browser) as tab:
        page = Page(tab, f"{address}/{name}.html#{target(name)}")
        for knob in page.figure.locator(".bn-explorable-knob").all():
            before, box = page.drawing, knob.bounding_box()
            tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            tab.mouse.down()
            tab.mouse.move(box["x"] - 30, box["y"] + 30, steps=4)
            tab.mouse.up()
            assert page.drawing != before
            if knob.get_attribute("aria-hidden") is None:
                assert knob.get_attribute("aria-label") and knob.get_attribute("aria-valuetext")


OUTSIDE = """
(stage) => {
  const { left, right } = stage.getBoundingClientRect();
  const texts = [...stage.querySelectorAll(".bn-explorable-drawing text")].filter((text) => text.textContent);
  const boxes = texts.map((text) => [text.textContent, text.getBoundingClientRect()]);
  return boxes.filter(([, box]) => box.left < left - 2 || box.right > right + 2).map(([text]) => text);
}
"""


@pytest.mark.browser
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_a_figure_fits_its_place(browser, address, name, width):
    with small_book.visit(browser) as tab:
        tab.set_viewport_size({"width": width, "height": 780})
        page = Page(tab, f"{address}/{name}.html#{target(name)}")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        stage = page.figure.locator(".bn-explorable-stage")
        assert stage.evaluate("e => e.querySelector('.bn-explorable-live').scrollHeight - e.clientHeight") <= 1
        assert page.figure.locator(".bn-explorable-plot").bounding_box()["height"] >= 220
        assert stage.evaluate(OUTSIDE) == []
        for svg in page.figure.locator(".bn-explorable-drawing > svg").all():
            assert svg.bounding_box()["width"] <= stage.bounding_box()["width"] + 1
        assert sum(tab.evaluate("shifts")) < 0.01


@pytest.mark.browser
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_figure_is_accessible_in_light_and_dark(browser, address, name, theme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install '.[dev]'")
    with small_book.visit(browser, color_scheme=theme) as tab:
        page = Page(tab, f"{address}/{name}.html#{target(name)}")
        before = page.drawing
        found = axe.Axe().run(tab, context="figure.bn-explorable")
        assert found.violations_count == 0, found.generate_report()
        tab.evaluate("theme => document.documentElement.dataset.theme = theme", "light" if theme == "dark" else "dark")
        assert page.drawing != before, "its colors don't follow the theme"


@pytest.mark.browser
@pytest.mark.parametrize("name", NAMES)
def test_on_paper_there_is_the_still_picture(browser, address, name):
    with small_book.visit(browser, color_scheme="dark") as tab:
        page = Page(tab, f"{address}/{name}.html#{target(name)}")
        still = page.figure.locator("img")
        tab.wait_for_function("() => document.querySelector('.bn-explorable-still').naturalWidth > 0")
        tab.emulate_media(media="print")
        assert still.is_visible() and not page.figure.locator(".bn-explorable-live").is_visible()
        assert still.evaluate("e => getComputedStyle(e).filter") == "none"
        assert (
            0.8
            < page.figure.locator(".bn-explorable-stage").bounding_box()["height"] / still.bounding_box()["height"]
            < 1.1
        )


@pytest.mark.browser
def test_without_scripts_there_is_the_still_picture(browser, address):
    with small_book.visit(browser, java_script_enabled=False) as tab:
        tab.goto(f"{address}/outlier.html")
        stage, still = tab.locator(".bn-explorable-stage"), tab.locator(".bn-explorable-still")
        assert still.is_visible()
        assert stage.bounding_box()["height"] == pytest.approx(still.bounding_box()["height"], abs=1)
        assert tab.locator(".bn-explorable :is(input, button)").count() == 0


@pytest.mark.browser
@pytest.mark.parametrize("script", ["plot.umd.min.js", "explorables/outlier.js", "data/outlier.js"])
def test_a_blocked_script_leaves_the_picture_and_says_so(browser, address, script):
    with small_book.visit(browser) as tab:
        tab.route(re.compile(re.escape(script)), lambda route: route.abort())
        tab.goto(f"{address}/outlier.html#fig-outlier")
        tab.get_by_text("This figure stays a picture").wait_for()
        assert tab.locator(".bn-explorable-still").is_visible()


@pytest.mark.browser
def test_nothing_is_loaded_before_a_figure_is_near(browser, address):
    with small_book.visit(browser) as tab:
        asked = []
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(f"{address}/far.html", wait_until="networkidle")
        lazy = re.compile(r"d3\.min|plot\.umd|explorables/(data/)?outlier\.js")
        assert not list(filter(lazy.search, asked))
        tab.locator("figure.bn-explorable").scroll_into_view_if_needed()
        tab.wait_for_selector("figure.bn-alive")
        assert len(list(filter(lazy.search, asked))) == 4
