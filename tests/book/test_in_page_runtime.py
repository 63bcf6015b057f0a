"""The Python that runs in a page: its worker in headless Chromium, against Jupyter's kernel.

These tests need no built site, but what `make in-page` fetches and packs.
"""

import json
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import browsing
import nbformat
import pytest
from browsing import ROOT
from nbclient import NotebookClient

from bnlab.checks.report import JSON_MIME, Report
from bnlab.exercises.source import find_sources, solution_id

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

PACKED = ROOT / "_build" / "in_page" / "python"
SETS = ("ps1_scaling", "ps2_forward", "ps3_backward")
SVG = "image/svg+xml"

# The page's side in short: everything that the worker says, and a promise for each cell.
DRIVER = """
function start(message = {}) {
  window.worker = new Worker("_static/in_page/worker.js");
  window.said = [];
  const cells = new Map();
  window.run = (code, cell) => new Promise((resolve) => {
    const id = cells.size + 1;
    cells.set(id, { outputs: [], resolve });
    worker.postMessage({ type: "run", id, code, cell });
  });
  return new Promise((resolve) => {
    worker.onmessage = ({ data }) => {
      if (data.type === "output") cells.get(data.id).outputs.push(data.output);
      else if (data.type === "done") cells.get(data.id).resolve({ ...data, outputs: cells.get(data.id).outputs });
      else said.push(data);
      if (data.type === "ready" || data.type === "failed") resolve(data);
    };
    worker.postMessage({ type: "start", ...message });
  });
}
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """The address of a folder that holds the worker and Python, and an empty page."""
    if not (PACKED / "contents.json").is_file():
        browsing.absent("there is no Python for the pages: run `make in-page`")
    folder = tmp_path_factory.mktemp("site")
    static = folder / "_static" / "in_page"
    static.mkdir(parents=True)
    for name in ("worker.js", "outputs.js"):
        shutil.copy(ROOT / "book" / "_static" / "in_page" / name, static)
    shutil.copy(ROOT / "book" / "_static" / "course.css", folder)
    (static / "python").symlink_to(PACKED)
    head = '<link rel="icon" href="data:,"><link rel="stylesheet" href="course.css"><title>Empty</title>'
    page = f'<!doctype html><html lang="en">{head}<script src="_static/in_page/outputs.js"></script>'
    page += f"<script>{DRIVER}</script><body><div id=place></div></body></html>"
    (folder / "index.html").write_text(page, encoding="utf-8")
    with browsing.served(folder) as address:
        yield address


@pytest.fixture(scope="module")
def tabs(browser, host):
    """Open an empty page of its own for every test that asks; nothing may come from another host."""
    opened = []

    def open_tab():
        visit = browsing.Visit(browser, "light")
        opened.append(visit)
        visit.open(host, "index.html")
        return visit.tab

    yield open_tab
    for visit in opened:
        visit.context.close()
    assert not [problem for visit in opened for problem in visit.problems if "another host" in problem]


class Session:
    """A started worker in a tab."""

    def __init__(self, tab, **message):
        self.tab = tab
        self.message = message
        self.start()

    def start(self):
        """Start a worker; end the one before."""
        self.tab.evaluate("() => window.worker?.terminate()")
        self.answer = self.tab.evaluate("(message) => start(message)", self.message)
        assert self.answer["type"] == "ready", self.answer

    def run(self, code, cell=None):
        """Run a cell: {ok, seconds, count, outputs}."""
        return self.tab.evaluate("([code, cell]) => run(code, cell)", [code, cell])


@pytest.fixture(scope="module")
def session(tabs):
    """One session for the tests that leave it as it was."""
    return Session(tabs())


def text(done, name="stdout"):
    """What a cell has written to one stream."""
    return "".join(output.get("text", "") for output in done["outputs"] if output.get("name") == name)


def value(done):
    """The last expression's text."""
    (output,) = (output for output in done["outputs"] if output["output_type"] == "execute_result")
    return output["data"]["text/plain"]


def error(done):
    """The error that a cell has ended with."""
    assert not done["ok"]
    return done["outputs"][-1]


# ---- protocol ----


def test_it_is_small_and_starts_soon(tabs, capsys):
    listed = json.loads((PACKED / "contents.json").read_text(encoding="utf-8"))["files"]
    sizes = {name: (PACKED / name).stat().st_size for name in listed}
    assert sizes == {name: entry["bytes"] for name, entry in listed.items()}
    assert sum(sizes.values()) < 13e6
    seconds = [Session(tabs()).answer["seconds"] for _ in range(2)]
    with capsys.disabled():
        print(f"\nPython in a page: {sum(sizes.values()) / 1e6:.1f} MB, ready after {min(seconds):.1f} s")
    assert min(seconds) < 60, "not a measurement: that it starts at all"


def test_it_tells_how_far_loading_is(tabs):
    tab = tabs()
    Session(tab)
    progress = [message for message in tab.evaluate("() => said") if message["type"] == "progress"]
    loaded = [message["loaded"] for message in progress]
    assert loaded == sorted(loaded)
    assert 0 < loaded[0] < loaded[-1] == progress[-1]["total"]
    assert progress[0]["what"] == "Loading Python"


def test_a_cell_shows_what_jupyter_shows(session):
    done = session.run("import numpy as np\nprint('one')\nx = np.arange(3.0)\nx / 2")
    assert done["ok"] and text(done) == "one\n" and value(done) == "array([0. , 0.5, 1. ])"
    assert session.run("1 + 1;")["outputs"] == []
    assert session.run("None")["outputs"] == []
    assert session.run("%matplotlib inline\nx = 3")["outputs"] == []
    assert value(session.run("x")) == "3"
    assert text(session.run("import sys; print('careful', file=sys.stderr)"), "stderr") == "careful\n"


def test_display_shows_html(session):
    done = session.run(
        "class Table:\n    def _repr_html_(self):\n        return '<b>1</b>'\n\ndisplay(Table())\nTable()"
    )
    first, second = done["outputs"]
    assert (first["output_type"], second["output_type"]) == ("display_data", "execute_result")
    assert first["data"]["text/html"] == second["data"]["text/html"] == "<b>1</b>"


def test_cells_that_come_early_wait_their_turn(tabs):
    tab = tabs()
    done = tab.evaluate("() => { start(); return Promise.all([run('x = 1'), run('x += 1'), run('x')]); }")
    assert value(done[-1]) == "2" and [cell["count"] for cell in done] == [1, 2, 3]


def test_outputs_are_valid_in_a_notebook(session):
    code = "import numpy as np, matplotlib.pyplot as plt\nprint(1)\nplt.plot([1, 2])\nplt.show()\nnp.eye(2)"
    outputs = session.run(code)["outputs"] + session.run("1 / 0")["outputs"]
    cell = nbformat.v4.new_code_cell("", outputs=[nbformat.from_dict(output) for output in outputs])
    nbformat.validate(nbformat.v4.new_notebook(cells=[cell]))
    assert {output["output_type"] for output in outputs} == {"stream", "display_data", "execute_result", "error"}


# ---- errors ----


def test_a_traceback_shows_the_readers_own_lines(session):
    session.run("import numpy as np\n\ndef half(x):\n    return np.linalg.inv(x) / 2", {"number": 7})
    found = error(session.run("half(np.zeros((2, 3)))", {"number": 8}))
    assert found["ename"] == "LinAlgError"
    shown = "\n".join(found["traceback"])
    assert "Cell In[8], line 1" in shown and "Cell In[7], line 4, in half" in shown
    assert "----> " in shown and "return np.linalg.inv(x) / 2" in shown
    assert "site-packages" not in shown and "bnlab" not in shown
    assert shown.endswith("Last 2 dimensions of the array must be square")


def test_a_cause_is_shown_before_its_effect(session):
    code = "try:\n    {}['a']\nexcept KeyError as error:\n    raise ValueError('no a') from error"
    shown = "\n".join(error(session.run(code))["traceback"])
    assert shown.index("KeyError: 'a'") < shown.index("direct cause") < shown.index("ValueError: no a")


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("def f(:\n    pass", "SyntaxError"),
        ("  x = 1", "IndentationError"),
        ("raise SystemExit", "SystemExit"),
        ("def f(): return f()\nf()", "RecursionError"),
        ("class Odd(Exception):\n    def __str__(self): return 1 / 0\nraise Odd", "Odd"),
        ("import torch", "ModuleNotFoundError"),
        ("import numpy as np\n[np.zeros((15_000, 16_000)) for _ in range(5)]", "MemoryError"),
    ],
)
def test_the_session_survives(session, code, name):
    assert error(session.run(code))["ename"] == name
    assert value(session.run("6 * 7")) == "42"


def test_nobody_answers_and_nothing_ends(session):
    assert "write the value into the code" in error(session.run("input('How many? ')"))["evalue"]
    assert error(session.run("exit()"))["ename"] == "SystemExit"
    assert "Return the number of items" in text(session.run("help(len)"))


def test_a_syntax_error_points_at_its_place(session):
    found = error(session.run("x = 1\ny = (2"))
    assert "line 2" in "\n".join(found["traceback"]) and "'(' was never closed" in found["evalue"]


# ---- too much ----


def test_huge_output_is_cut_with_a_word(session):
    done = session.run("for k in range(300_000):\n    print('all work and no play', k)\nk")
    assert done["ok"] and value(done) == "299999"
    assert 90_000 < len(text(done)) <= 100_000
    assert "The rest is not shown" in text(done, "stderr")
    assert len(done["outputs"]) < 100, "pieces are joined before they are sent"


def test_a_huge_value_is_cut_too(session):
    done = session.run("list(range(10**6))")
    assert done["ok"] and len(value(done)) < 25_000
    assert "[...]" in value(done)


def test_a_report_is_shown_however_much_was_printed(tabs):
    session = Session(tabs(), set="ps1_scaling")
    done = session.run("from checks import check\nprint('x' * 10**6)\ncheck('gradient', print)")
    assert done["outputs"][-1]["data"][JSON_MIME]["question"] == "gradient"


def test_output_comes_while_a_cell_runs(tabs):
    session = Session(tabs())
    tab = session.tab
    tab.evaluate("() => { window.first = undefined; worker.addEventListener('message', ({ data }) => "
                 "{ if (data.type === 'output') window.first ??= data.output.text; }); "
                 "run('print(\\'begun\\')\\nwhile True: pass'); }")  # fmt: skip
    tab.wait_for_function("() => window.first", timeout=20_000)
    assert tab.evaluate("() => window.first").startswith("begun")


def test_an_endless_loop_is_ended_and_the_session_made_again(tabs):
    session = Session(tabs(), set="ps1_scaling")
    earlier = "from checks import check\nx = 41"
    session.run(earlier)
    session.tab.evaluate("() => { run('while True:\\n    print(1)'); }")
    began = time.monotonic()
    assert session.tab.evaluate("() => 1 + 1") == 2 and time.monotonic() - began < 5, "the page must stay alive"
    session.start()
    assert error(session.run("x"))["ename"] == "NameError", "nothing is left of the worker that was ended"
    session.run(earlier)
    assert value(session.run("x + 1")) == "42"


# ---- what is missing ----


def test_a_site_without_python_says_so(tabs, host):
    tab = tabs()
    answer = tab.evaluate("(base) => start({ base })", f"{host}/nowhere/")
    assert answer == {"type": "failed", "reason": "Python isn't part of this copy of the site."}


def test_a_lost_file_is_named(tabs):
    tab = tabs()
    tab.context.route("**/numpy.tar.gz*", lambda route: route.abort())
    answer = tab.evaluate("() => start()")
    assert answer["type"] == "failed" and "numpy.tar.gz" in answer["reason"] and "network" in answer["reason"]


def test_another_problem_set_is_refused(tabs):
    answer = tabs().evaluate("() => start({ set: 'ps4_torch_layer' })")
    assert answer["type"] == "failed" and "ps1_scaling, ps2_forward, ps3_backward" in answer["reason"]


# ---- figures ----


def test_an_unknown_call_names_itself_and_costs_one_figure(session):
    found = error(session.run("import matplotlib.pyplot as plt\nplt.pie([1, 2])"))
    assert "plt.pie" in found["evalue"] and "Jupyter" in found["evalue"]
    found = error(session.run("fig, ax = plt.subplots()\nax.plot([1, 2], drawstyle='steps')"))
    assert "drawstyle" in found["evalue"]
    found = error(session.run("import matplotlib.animation"))
    assert found["ename"] == "ModuleNotFoundError"
    (figure,) = session.run("plt.plot([1, 2])\nplt.show()")["outputs"]
    assert figure["data"][SVG].startswith("<svg"), "what failed before is not shown with it"


def test_a_figure_takes_the_colors_of_the_page(session):
    code = "plt.imshow([[1, 2], [3, 4]], cmap='gray')\nplt.plot([0, 1], label='a')\nplt.legend()"
    done = session.run(f"import matplotlib.pyplot as plt\n{code}")
    (figure,) = (output for output in done["outputs"] if SVG in output.get("data", {}))
    tab = session.tab
    tab.evaluate("(output) => { place.replaceChildren(); bnOutputs(place).add(output); }", figure)
    colors = []
    for theme in ("light", "dark"):
        tab.evaluate("(theme) => { document.documentElement.dataset.theme = theme; }", theme)
        colors.append(tab.evaluate("() => getComputedStyle(place.querySelector('svg text')).fill"))
    assert colors[0] != colors[1]
    assert tab.locator("#place > svg[role=img]").get_attribute("aria-label").startswith("Figure.")
    assert tab.evaluate("() => place.querySelector('image').getBoundingClientRect().width") > 100


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>window.stolen = 1</script>",
        "<path onclick='stolen = 1' d='M0,0'/>",
        "<image href='https://example.org/a.png'/>",
        "<path style='fill:url(https://example.org/)' d='M0,0'/>",
        "<foreignObject><b>b</b></foreignObject>",
        "<rect id='place'/>",
        "<rect",
    ],
)
def test_a_drawing_of_another_kind_stays_outside_of_the_page(session, hostile):
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9">{hostile}</svg>'
    output = {"output_type": "display_data", "data": {SVG: svg}, "metadata": {}}
    kinds = "(output) => { place.replaceChildren(); bnOutputs(place).add(output); return place.firstChild.tagName; }"
    assert session.tab.evaluate(kinds, output) == "IMG"
    assert session.tab.evaluate("() => window.stolen") is None


# ---- the problem sets ----


@pytest.fixture(scope="module")
def sources():
    """The problem sets that run in a page, by name."""
    return {source.name: source for source in find_sources(ROOT / "exercises", list(SETS))}


def code_cells(source, answers=None):
    """The notebook's code: [(grade_id or "", code)], with other answers in the place of the solutions."""
    answers = {solution_id(name): code for name, code in (answers or {}).items()}
    ids = [(cell.metadata.get("nbgrader", {}).get("grade_id", ""), cell) for cell in source.notebook.cells]
    return [(name, answers.get(name, cell.source)) for name, cell in ids if cell.cell_type == "code"]


def in_jupyter(source, codes, folder):
    """Run cells in Jupyter's kernel: the outputs of each."""
    shutil.copy(source.checks, folder)
    cells = [nbformat.v4.new_code_cell(code) for code in codes]
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = NotebookClient(
        notebook, timeout=200, allow_errors=True, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    with ThreadPoolExecutor(1) as thread:  # playwright has its event loop in this one
        thread.submit(client.execute).result()
    return [cell.outputs for cell in notebook.cells]


def in_page(tabs, source, codes):
    """Run cells in a page: the outputs of each."""
    session = Session(tabs(), set=source.name)
    return [session.run(code)["outputs"] for code in codes]


def reports(outputs):
    """The reports that cells have shown, as plain data."""
    found = [output["data"][JSON_MIME] for cell in outputs for output in cell if JSON_MIME in output.get("data", {})]
    plain = [Report.from_dict(report) for report in found]
    # In WebAssembly NumPy notices no division by zero, so nothing is said of it.
    return [replace(report, parts=tuple(replace(part, warned=()) for part in report.parts)) for report in plain]


def streams(outputs):
    """What each cell has printed."""
    return ["".join(output["text"] for output in cell if output["output_type"] == "stream") for cell in outputs]


@pytest.mark.parametrize("name", SETS)
def test_a_solved_set_has_the_same_reports_as_in_jupyter(name, sources, tabs, tmp_path):
    source = sources[name]
    codes = [code for _, code in code_cells(source)]
    here, there = in_page(tabs, source, codes), in_jupyter(source, codes, tmp_path)
    assert not [output for cell in here for output in cell if output["output_type"] == "error"]
    assert reports(here) == reports(there)
    assert streams(here) == streams(there)
    assert sum(report.score for report in reports(here)) == source.problem_set.checked_points
    html = [output["data"]["text/html"] for cell in here for output in cell if JSON_MIME in output.get("data", {})]
    assert html and all("points" in text for text in html)
    plots = [number for number, code in enumerate(codes) if "plt.show()" in code]
    assert [
        number for number, cell in enumerate(here) if any(SVG in output.get("data", {}) for output in cell)
    ] == plots
    pictures = [output for number in plots for output in here[number] if SVG in output.get("data", {})]
    assert all(output["metadata"][SVG]["alt"].startswith("Figure.") for output in pictures)
    session_tab = tabs()
    for output in pictures:
        size = session_tab.evaluate("(svg) => (document.body.innerHTML = svg, document.querySelector('svg')"
                                    ".getBoundingClientRect().width)", output["data"][SVG])  # fmt: skip
        assert size > 300 and "NaN" not in output["data"][SVG] and "nan" not in output["data"][SVG]


@pytest.mark.parametrize("name", SETS)
def test_a_stub_gets_nothing(name, sources, tabs):
    source = sources[name]
    stub = {
        question: f"def {question}(*args, **kwargs):\n    raise NotImplementedError()" for question in questions(source)
    }
    found = reports(in_page(tabs, source, [code for _, code in code_cells(source, stub)]))
    assert len(found) == len(source.problem_set.questions)
    assert {(report.score, report.status) for report in found} == {(0.0, "not answered")}


def questions(source):
    return list(source.problem_set.questions)


# Answers whose wrong numbers are rounding errors and nothing else: those differ between two processors, too.
ROUNDING = {
    "wrong_condition_number_no_infinity",
    "wrong_condition_number_upside_down",
    "wrong_gradient_error_tiny_step",
    "wrong_numerical_gradient_all_at_once",
    "wrong_numerical_gradient_tiny_step",
}
NUMBER = re.compile(r" *(?:-?\d+\.?\d*(?:e[-+]\d+)?|-?\binf\b) *")


@pytest.mark.parametrize("name", SETS)
def test_every_right_and_wrong_answer_gets_the_same_report_as_in_jupyter(name, sources, tabs, tmp_path):
    """Each named mistake of the set, one after the other: the same points, messages and hints."""
    source = sources[name]
    # Some answers borrow from libraries that a page doesn't have.
    answers = [
        (submission.name, question, code)
        for submission in source.submissions
        for question, code in submission.cells.items()
        if submission.kind != "borrowed"
    ]
    codes = ["import numpy as np\nfrom checks import check"]
    codes += [f"{code}\n\n\ncheck({question!r}, {question})" for _, question, code in answers]
    here, there = reports(in_page(tabs, source, codes)), reports(in_jupyter(source, codes, tmp_path))
    assert len(here) == len(there) == len(answers)
    for (submission, _, _), report, expected in zip(answers, here, there, strict=True):
        messages = [[part.message for part in each.parts] for each in (report, expected)]
        assert without_messages(report) == without_messages(expected), submission
        assert NUMBER.sub("#", str(messages[0])) == NUMBER.sub("#", str(messages[1])), submission
        if submission not in ROUNDING:
            numbers = [[float(number) for number in NUMBER.findall(str(each))] for each in messages]
            assert numbers[0] == pytest.approx(numbers[1], rel=1e-4, abs=1e-12), submission


def without_messages(report):
    """A report less the sentences that hold computed numbers."""
    return replace(report, parts=tuple(replace(part, message="") for part in report.parts))
