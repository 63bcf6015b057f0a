"""Cells that run in the page: what book/_ext/in_page.py lays out, and what the scripts make of it, on a small book.

Python is the one that the site serves (`make in-page`); one tab in which it has started serves many tests.
"""

import contextlib
import json
import re
import shutil
import subprocess
import sys
import zipfile

import browsing
import pytest
import small_book

from bnlab.exercises.solutions import MARKERS
from bnlab.exercises.source import Source

ROOT = browsing.ROOT
SETS = ("ps1_scaling", "ps2_forward", "ps3_backward")
ZIPS = ROOT / "_build" / "exercises"
PYTHON = ROOT / "_build" / "in_page" / "python"
LOADS = 60_000  # ms that Python may take to start, on a machine that does other things too
IS_READY = "document.querySelector('.bn-python p').textContent === 'Python is ready.'"

CHAPTER = """# A chapter

:::{try-it} What is $1 + 1$ in `numpy`?
:name: sum

import numpy as np

print("the sum is", np.add(1, 1))
:::

:::{try-it} And how long does this take?
:name: plain

answer = 42
:::
"""
PROGRESS = (ROOT / "book" / "progress.md").read_text(encoding="utf-8")


def pages():
    """The book: the pages of the course with an exercise, and what they refer to."""
    exercises = {f"ps{n}_in_page": (ROOT / "book" / f"ps{n}_in_page.md").read_text(encoding="utf-8") for n in (1, 2, 3)}
    sets = {name: f"(ch-ps{n})=\n# Problem set {n}\n" for n, name in enumerate(SETS, 1)}
    progress = (
        "(ch-progress)=\n# Your progress\n\n:::{div} bn-progress\nNothing.\n:::\n\n## Path\n\n"
        ":::{reading-path}\nchapter\n:::\n\n:::{div} bn-progress-tools\n:::\n"
    )
    timed = CHAPTER + "\n```{admonition} Q\n:class: bn-question\n\n- **Time:** 5 minutes\n```\n"
    rest = {"chapter": timed, "progress": progress, **sets, **exercises}
    return {"index": "# Book\n\n```{toctree}\n" + "\n".join(rest) + "\n```\n", **rest}


def released(name):
    """The student version of a problem set's notebook."""
    path = ZIPS / f"{name}.zip"
    if not path.is_file():
        browsing.absent(f"{path} is not there: run `make exercises`")
    with zipfile.ZipFile(path) as packed:
        return json.loads(packed.read(f"{name}/{name}.ipynb"))


def solved(name):
    """The same notebook as an excellent student would bring it from Jupyter: sources as text, questions answered."""
    answers = {cell.id: MARKERS.sub("", cell.source) for cell in Source(ROOT / "exercises" / name).notebook.cells}
    notebook = released(name)
    for cell in notebook["cells"]:
        if cell["metadata"].get("nbgrader", {}).get("solution"):
            cell["source"] = answers[cell["id"]]
    return notebook


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the small book, built without a warning, with Python in it."""
    folder = tmp_path_factory.mktemp("in_page")
    for name in SETS:
        released(name)
    (folder / "_build").mkdir()
    (folder / "_build" / "exercises").symlink_to(ZIPS)
    (folder / "_build" / "in_page").symlink_to(PYTHON.parent)
    output, warnings = small_book.build(folder, pages())
    assert not warnings
    if not PYTHON.is_dir():
        browsing.absent(f"{PYTHON} is not there: run `make in-page`")
    (output / "_static" / "in_page" / "python").symlink_to(PYTHON)
    return output


@pytest.fixture(scope="module")
def home(site):
    """The small book on localhost."""
    with browsing.served(site) as address:
        yield address


# --- what is laid out ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_page_holds_the_released_notebook_and_no_solution(site, number):
    bs4 = pytest.importorskip("bs4")
    name = SETS[number - 1]
    page = bs4.BeautifulSoup((site / f"ps{number}_in_page.html").read_text(encoding="utf-8"), "html.parser")
    notebook = released(name)
    assert json.loads(page.select_one(".bn-notebook").string) == notebook

    shown = {cell["data-cell"]: cell for cell in page.select(".bn-cell")}
    wanted = [cell for cell in notebook["cells"] if cell["cell_type"] == "code" or "nbgrader" in cell["metadata"]]
    assert list(shown) == [cell["id"] for cell in wanted]
    for cell in wanted:
        assert shown[cell["id"]].get_text().strip() == "".join(cell["source"]).strip()
    handed_out = "".join(text for cell in notebook["cells"] for text in cell["source"])
    lines = {line.strip() for cell in solved(name)["cells"] for line in "".join(cell["source"]).splitlines()}
    secret = [line for line in lines if len(line) > 20 and line not in handed_out]
    assert len(secret) > 20
    assert not [line for line in secret if line in page.get_text()]

    headings = [tag.get_text().strip("#\n") for tag in page.select(".bd-article h2")]
    assert headings == re.findall(r"^## (.*)$", text_of(notebook), re.MULTILINE)
    assert all(cell.find_parent("section") != page.select_one("section") for cell in shown.values())


def text_of(notebook):
    """The Markdown of a notebook's text cells."""
    return "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")


ANSWERED = "the cell min_max-solution of .* is answered: a page shows the student version alone"
BAD = {
    "no_zip": ("```{exercise-in-page} ps9_none\n```", r"ps9_none.zip does not exist: make it with 'make exercises'"),
    "no_notebook": ("```{exercise-in-page} ps8_empty\n```", r"holds no ps8_empty/ps8_empty.ipynb"),
    "answered": ("```{exercise-in-page} ps1_scaling\n```", ANSWERED),
    "no_name": (":::{try-it} Why?\n1 + 1\n:::", "has the name '': give it one of letters"),
    "no_python": (":::{try-it} Why?\n:name: x\n\n1 +\n:::", "the code of the try-it cell x isn't Python"),
    "no_code": (":::{try-it} Why?\n:name: x\n:::", "the try-it cell x has no code"),
}


@pytest.fixture(scope="module")
def complaints(tmp_path_factory):
    """What Sphinx says about pages with mistakes."""
    folder = tmp_path_factory.mktemp("bad")
    zips = folder / "_build" / "exercises"
    zips.mkdir(parents=True)
    with zipfile.ZipFile(zips / "ps1_scaling.zip", "w") as packed:
        packed.writestr("ps1_scaling/ps1_scaling.ipynb", json.dumps(solved("ps1_scaling")))
    with zipfile.ZipFile(zips / "ps8_empty.zip", "w") as packed:
        packed.writestr("README.md", "nothing")
    books = {name: f"# Title\n\n{text}\n" for name, (text, _) in BAD.items()}
    _, warnings = small_book.build(folder, {"index": "# B\n\n```{toctree}\n" + "\n".join(books) + "\n```\n", **books})
    return warnings


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_an_error_with_its_line(complaints, name):
    assert re.search(rf"/{name}\.md:3: ERROR: .*{BAD[name][1]}", complaints), complaints


def cells_of_chapters():
    """Every try-it cell of the book: (page and name, code)."""
    found = re.compile(r"^:::+\{try-it\}[^\n]*\n:name: ([\w-]+)\n\n(.*?)^:::+$", re.MULTILINE | re.DOTALL)
    for path in sorted((ROOT / "book").glob("*.md")):
        for match in found.finditer(path.read_text(encoding="utf-8")):
            yield f"{path.stem}-{match[1]}", match[2]


TRY_IT = dict(cells_of_chapters())


@pytest.mark.parametrize("name", TRY_IT)
def test_a_try_it_cell_runs_with_numpy_alone_and_shows_something(name):
    """As in the page, which has neither torch nor matplotlib nor the rest of bnlab."""
    allowed = (
        "import sys\nfor name in ('torch', 'matplotlib', 'scipy', 'sklearn', 'pandas'): sys.modules[name] = None\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", allowed + TRY_IT[name]], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip()


# What a reader changes, and what must then come out, as the page says under "What you find".
FOUND = [
    ("scaling-outlier", "outlier = 10.0", "outlier = 100.0", r"standardized: 0\.09\d"),
    ("scaling-outlier", "outlier = 10.0", "outlier = 50.0", r"min-max:      0\.01\d"),
    ("batch_norm_transform-invariance", "", "", r"largest change \d\.\d+e-1\d"),
    ("batch_norm_transform-invariance", "1000.0, 1.0", "0.0, 0.001", r"largest change 1\.1"),
    ("backward_pass-projection", "", "", r"length of dx: 0\.000000"),
    ("backward_pass-projection", "np.ones_like(x)", "5 - 2 * x", r"length of dx: 0\.000"),
    ("backward_pass-projection", "np.ones_like(x)", "x**2", r"length of dx: 1\.6"),
    ("training_and_evaluation-start", "", "", r" 30 batches:   74\."),
    ("training_and_evaluation-start", "0.01, 0.01", "0.1, 0.01", r" 30 batches:    5\."),
    ("training_and_evaluation-start", "0.01, 0.01", "0.5, 0.01", r" 30 batches:    0\.8"),
    ("training_and_evaluation-start", "0.01, 0.01", "None, 0.01", r" 1 batches:    0\.[5-9]"),
    ("folding-mistakes", "", "", r"difference \d\.\d+e-1\d"),
    ("folding-mistakes", "np.sqrt(var + eps)  ", "np.sqrt(var)  ", r"difference \d\.\d+e-05"),
    ("folding-mistakes", "s[:, None]", "s[None, :]", "could not be broadcast"),
    ("folding-mistakes", "s * b +", "b +", r"difference 1\."),
]


@pytest.mark.parametrize(("name", "old", "new", "comes_out"), FOUND)
def test_what_a_chapter_says_of_its_try_it_cell_is_so(name, old, new, comes_out):
    assert not old or TRY_IT[name].count(old) == 1
    code = TRY_IT[name].replace(old, new) if old else TRY_IT[name]
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert re.search(comes_out, run.stdout + run.stderr)


# --- in the browser --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def opened(browser, home, page="ps1_in_page", script=None, **settings):
    """A page in a tab of its own profile, in which `script` has run first."""
    with small_book.visit(browser, **settings) as tab:
        if script:
            tab.context.add_init_script(script)
        tab.goto(f"{home}/{page}.html")
        yield tab


@pytest.fixture(scope="module")
def started(browser, home):
    """The page of problem set 1 with Python running. Tests reset the cells they change."""
    with opened(browser, home, accept_downloads=True) as tab:
        start(tab)
        yield tab


def start(tab):
    """Start Python and wait until it is there."""
    tab.get_by_role("button", name="Start Python").first.click()
    tab.wait_for_function(IS_READY, timeout=LOADS)


def cell(tab, name):
    """The cell of that id."""
    return tab.locator(f'.bn-cell[data-cell="{name}"]')


def editor(tab, name):
    """Where the code of a cell is written."""
    return cell(tab, name).locator(".cm-content, textarea")


def write(tab, name, text):
    """Put `text` in the place of what a cell holds."""
    place = editor(tab, name)
    place.click()
    place.press("Control+a")
    tab.keyboard.insert_text(text)


def note(tab, name):
    """What is said beside the buttons of a cell."""
    return cell(tab, name).locator(".bn-cell-note")


def press(tab, name, button):
    """Press a button of a cell."""
    cell(tab, name).get_by_role("button", name=button, exact=True).click()


def says(tab, name, words, timeout=20_000):
    """Wait until the note of a cell holds `words`."""
    note(tab, name).filter(has_text=re.compile(words)).wait_for(timeout=timeout)


def kept(tab):
    """What the browser keeps of the course: {name: value}."""
    read = "() => Object.fromEntries(bnKept.names('').map((name) => [name, bnKept.get(name)]))"
    return tab.evaluate(read)


def saved(tab):
    """Download the notebook and read it."""
    with tab.expect_download() as caught:
        tab.get_by_role("button", name="Download the notebook").click()
    assert caught.value.suggested_filename == "ps1_scaling.ipynb"
    return json.loads(caught.value.path().read_text(encoding="utf-8"))


def hand_over(tab, notebook, name="mine.ipynb"):
    """Take over a notebook, as text or as data."""
    text = notebook if isinstance(notebook, str) else json.dumps(notebook)
    file = {"name": name, "mimeType": "application/json", "buffer": text.encode()}
    tab.locator(".bn-tools input[type=file]").set_input_files(file)


def said(tab):
    """What is said of the work as a whole."""
    return tab.locator(".bn-said")


RIGHT = "def min_max(x, low, high, clip=False):\n    return (x - low) / (high - low)\n"


@pytest.mark.browser
def test_nothing_is_loaded_before_the_reader_asks(browser, home):
    asked = []
    with small_book.visit(browser) as tab:
        tab.on("request", lambda request: asked.append(request.url))
        for page in ("ps1_in_page", "chapter"):
            tab.goto(f"{home}/{page}.html")
            tab.wait_for_load_state("networkidle")
    assert not [url for url in asked if not url.startswith(home)]
    assert not [url for url in asked if "codemirror" in url or "worker" in url or "/python/" in url]
    assert any("in_page.js" in url for url in asked)


@pytest.mark.browser
def test_an_exercise_by_keyboard_alone(browser, home):
    with opened(browser, home) as tab:
        goes_to(tab, "document.activeElement.textContent.startsWith('Start Python')")
        tab.keyboard.press("Enter")
        tab.wait_for_function(IS_READY, timeout=LOADS)
        # Tab passes through every editor on its way and changes none of them.
        goes_to(tab, "document.activeElement.ariaLabel === 'Your answer: min_max'")
        assert not kept(tab)
        tab.keyboard.press("Control+a")
        tab.keyboard.type("def min_max(x, low, high, clip=False):\nreturn low / 1\n", delay=1)  # it indents by itself
        tab.keyboard.press("Tab")
        tab.keyboard.press("Tab")
        assert "    return low / 1" in editor(tab, "min_max-solution").inner_text()
        assert tab.evaluate("document.activeElement.ariaLabel") == "Your answer: min_max"
        tab.keyboard.press("Escape")
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.textContent") == "Run"
        tab.keyboard.press("Shift+Tab")
        tab.keyboard.press("Control+a")
        tab.keyboard.insert_text(RIGHT)
        tab.keyboard.press("Shift+Enter")
        says(tab, "min_max-solution", "Done")
        assert tab.evaluate("document.activeElement.ariaLabel") == "Check: min_max"
        tab.keyboard.press("Control+Enter")
        says(tab, "min_max", r"of 11 points: partly right")
        assert "What was tried" in cell(tab, "min_max").inner_text()
        assert tab.evaluate("document.activeElement.ariaLabel") == "Check: min_max"
        for _ in range(200):
            tab.keyboard.press("Shift+Tab")
            if tab.evaluate("document.activeElement.textContent") == "Download the notebook":
                break
        with tab.expect_download() as caught:
            tab.keyboard.press("Enter")
        notebook = json.loads(caught.value.path().read_text(encoding="utf-8"))
        assert RIGHT == "".join(by_id(notebook)["min_max-solution"]["source"])


def goes_to(tab, there):
    """Press Tab until the expression `there` holds."""
    for _ in range(200):
        tab.keyboard.press("Tab")
        if tab.evaluate(there):
            return
    pytest.fail(f"Tab never comes to where {there}")


def by_id(notebook):
    """The cells of a notebook by their ids."""
    return {cell["id"]: cell for cell in notebook["cells"]}


@pytest.mark.browser
@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_downloaded_notebook_is_graded_like_the_one_from_jupyter(browser, home, number):
    """Solutions come in from a notebook, run in the page, and go out: full marks; untouched, it is the released one."""
    name = SETS[number - 1]
    notebook = solved(name)
    with opened(browser, home, f"ps{number}_in_page") as tab:
        untouched = download(tab)
        assert untouched == json.loads(json.dumps(released(name)))
        hand_over(tab, notebook)
        said(tab).filter(has_text="Taken over").wait_for()
        start(tab)
        tab.get_by_role("button", name="Run all", exact=True).click()
        last = [c["id"] for c in notebook["cells"] if c["cell_type"] == "code"][-1]
        says(tab, last, "Done|error", timeout=100_000)
        checks = [c["id"] for c in notebook["cells"] if c["metadata"].get("nbgrader", {}).get("points")]
        problems = tab.locator(".bn-output-error").all_inner_texts()
        result = download(tab)
        scores = {key: value for key, value in kept(tab).items() if key.startswith(f"exercise/{name}/")}
    assert not problems
    questions = {question.name: question.points for question in material(name).problem_set.questions.values()}
    assert {key.split("/")[2]: (value["score"], value["points"]) for key, value in scores.items()} == {
        question: (points, points) for question, points in questions.items()
    }
    assert set(questions) < set(checks)
    without = [{**c, "outputs": [], "execution_count": None} for c in result["cells"] if c["cell_type"] == "code"]
    wanted = [{**c, "source": notebook_lines(c["source"])} for c in notebook["cells"] if c["cell_type"] == "code"]
    assert without == wanted
    assert all(c["outputs"] for c in result["cells"] if c["id"] in questions)
    assert grades(name, result) == questions
    assert grades(name, untouched) == dict.fromkeys(questions, 0)


def notebook_lines(source):
    """A source as notebook files hold it."""
    return source if isinstance(source, list) else source.splitlines(keepends=True)


def download(tab):
    """Download the notebook, which must be a valid one."""
    nbformat = pytest.importorskip("nbformat")
    with tab.expect_download() as caught:
        tab.get_by_role("button", name="Download the notebook").click()
    text = caught.value.path().read_text(encoding="utf-8")
    nbformat.validate(nbformat.reads(text, 4))
    return json.loads(text)


def material(name):
    """What a submission of that set is graded with."""
    from bnlab.grading.material import Material

    checks = (ROOT / "exercises" / name / "checks.py").read_text(encoding="utf-8")
    return Material(name, json.dumps(released(name)), checks, seed=20150211, cases=3)


def grades(name, notebook):
    """Grade a submission behind the wall of the sandbox: points by question."""
    from bnlab.grading.grade import Grader
    from bnlab.grading.sandbox import Sandbox

    if not shutil.which("bwrap"):
        browsing.absent("bubblewrap is not installed: apt-get install bubblewrap")
    with Grader(material(name), Sandbox()) as grader:
        graded = grader.grade(json.dumps(notebook).encode(), "alice")
    return {question.question: question.score for question in graded.record.questions}


# --- one tab in which Python runs ------------------------------------------------------------------------------------


@pytest.fixture
def tab(started):
    """The tab with Python, with every cell as it was handed out."""
    reset = started.get_by_role("button", name="Reset all")
    if reset.is_enabled():
        started.once("dialog", lambda dialog: dialog.accept())
        reset.click()
    started.wait_for_function(IS_READY, timeout=LOADS)
    yield started


@pytest.mark.browser
def test_an_endless_loop_is_stopped_and_the_page_stays_alive(tab):
    write(tab, "cell-1", "import numpy as np\nfrom checks import check\nremembered = 17\n")
    press(tab, "cell-1", "Run")
    says(tab, "cell-1", "Done")
    write(tab, "min_max-solution", "while True:\n    pass\n")
    press(tab, "min_max-solution", "Run")
    tab.locator(".bn-in-page").get_by_text("Python is running.").wait_for()
    write(tab, "which_scaling", "I can go on writing.")
    assert editor(tab, "which_scaling").input_value() == "I can go on writing."
    press(tab, "min_max-solution", "Stop")
    says(tab, "min_max-solution", "Stopped after .* s. What ran before runs again")
    tab.wait_for_function(IS_READY, timeout=LOADS)
    write(tab, "min_max-solution", "remembered + 1\n")
    press(tab, "min_max-solution", "Run")
    says(tab, "min_max-solution", "Done")
    assert cell(tab, "min_max-solution").locator(".bn-cell-output").inner_text().strip() == "18"


@pytest.mark.browser
def test_who_stops_the_repetition_of_earlier_cells_starts_afresh(tab):
    write(tab, "cell-1", "import time\n\nstart = time.time()\nwhile time.time() < start + 2:\n    pass\nlost = 1\n")
    press(tab, "cell-1", "Run")
    says(tab, "cell-1", "Done after 2")
    write(tab, "cell-3", "while True:\n    pass\n")
    press(tab, "cell-3", "Run")
    tab.wait_for_timeout(300)
    press(tab, "cell-3", "Stop")
    panel = tab.locator(".bn-python")
    panel.get_by_text("Your earlier cells run again").wait_for(timeout=LOADS)
    panel.get_by_role("button", name="Stop").click()
    tab.wait_for_function(IS_READY, timeout=LOADS)
    write(tab, "min_max-solution", "lost\n")
    write(tab, "cell-1", "# nothing\n")
    write(tab, "cell-3", "# nothing\n")
    press(tab, "min_max-solution", "Run")
    says(tab, "min_max-solution", "Has the cell that defines this name been run")


@pytest.mark.browser
def test_huge_output_is_cut_and_the_page_stays_alive(tab):
    write(tab, "min_max-solution", "while True:\n    print('x' * 1000)\n")
    press(tab, "min_max-solution", "Run")
    output = cell(tab, "min_max-solution").locator(".bn-cell-output")
    output.get_by_text("The rest is not shown").wait_for()
    assert len(output.inner_text()) < 110_000
    assert output.bounding_box()["height"] < 800
    assert output.get_attribute("tabindex") == "0"
    write(tab, "which_scaling", "Still here.")
    press(tab, "min_max-solution", "Stop")
    says(tab, "min_max-solution", "Stopped")
    tab.wait_for_function(IS_READY, timeout=LOADS)


@pytest.mark.browser
def test_where_python_itself_breaks_down_the_earlier_cells_run_again(tab):
    write(tab, "cell-1", "import sys\n\nsurvivor = 3\n")
    press(tab, "cell-1", "Run")
    says(tab, "cell-1", "Done")
    write(
        tab, "min_max-solution", "sys.setrecursionlimit(10**9)\nx = []\nfor _ in range(10**5):\n    x = [x]\nrepr(x)\n"
    )
    press(tab, "min_max-solution", "Run")
    says(tab, "min_max-solution", "Stopped|error", LOADS)
    tab.wait_for_function(IS_READY, timeout=LOADS)
    write(tab, "min_max-solution", "survivor\n")
    press(tab, "min_max-solution", "Run")
    says(tab, "min_max-solution", "Done")
    assert cell(tab, "min_max-solution").locator(".bn-cell-output").inner_text().strip() == "3"


@pytest.mark.browser
def test_html_that_a_cell_shows_can_neither_run_nor_load_anything(tab):
    html = "<b onclick='x()'>bold</b><script>window.ran = 1</script><img src=x onerror='window.ran = 1'><a href=x>y</a>"
    code = f"class Bad:\n    def _repr_html_(self):\n        return {html!r}\n\nBad()\n"
    write(tab, "min_max-solution", code)
    press(tab, "min_max-solution", "Run")
    says(tab, "min_max-solution", "Done")
    shown = cell(tab, "min_max-solution").locator(".bn-output-html")
    assert shown.evaluate("element => element.innerHTML") == "<b>bold</b>"
    assert tab.evaluate("window.ran") is None


@pytest.mark.browser
def test_errors_say_where_and_what_to_do(tab):
    press(tab, "cell-8", "Run")  # a figure of a function that isn't written yet
    says(tab, "cell-8", "NameError|error|Not written")
    press(tab, "min_max", "Check")
    says(tab, "min_max", "0 of 11 points: not answered")
    write(tab, "min_max-solution", "def min_max(:\n")
    press(tab, "min_max-solution", "Run")
    says(tab, "min_max-solution", "An error")
    assert "SyntaxError" in cell(tab, "min_max-solution").locator(".bn-output-error").inner_text()


@pytest.mark.browser
def test_a_check_runs_the_answer_first_and_its_points_are_kept(tab, home):
    write(tab, "min_max-solution", RIGHT)
    press(tab, "min_max", "Check")
    says(tab, "min_max", "8 of 11 points: partly right")
    value = kept(tab)["exercise/ps1_scaling/min_max"]
    assert (value["score"], value["points"]) == (8, 11)
    assert "Checked so far: 8 of 93 points. A person gives the other 7" in tab.locator(".bn-score").inner_text()
    other = tab.context.new_page()
    other.goto(f"{home}/progress.html")
    assert "1 question checked, 8 of 11 points" in other.locator(".bn-progress").inner_text()
    other.close()


@pytest.mark.browser
def test_run_all_above_runs_what_stands_above(tab):
    press(tab, "fit_standardizer", "Run all above")
    says(tab, "fit_standardizer-solution", "Done")
    assert note(tab, "min_max").inner_text().startswith("0 of 11")
    assert not note(tab, "cell-13").inner_text()


@pytest.mark.browser
def test_resetting_asks_first_and_can_be_undone(tab):
    before = editor(tab, "min_max-solution").inner_text()
    write(tab, "min_max-solution", RIGHT)
    press(tab, "min_max", "Check")
    says(tab, "min_max", "8 of 11")
    tab.once("dialog", lambda dialog: dialog.dismiss())
    press(tab, "min_max-solution", "Reset")
    assert "return (x - low)" in editor(tab, "min_max-solution").inner_text()
    tab.once("dialog", lambda dialog: dialog.accept())
    press(tab, "min_max-solution", "Reset")
    assert editor(tab, "min_max-solution").inner_text() == before
    tab.wait_for_timeout(400)
    assert not [name for name in kept(tab) if "min_max" in name]
    press(tab, "min_max-solution", "Undo")
    assert "return (x - low)" in editor(tab, "min_max-solution").inner_text()
    tab.wait_for_timeout(400)
    assert {"answer/ps1_scaling/min_max-solution", "exercise/ps1_scaling/min_max"} <= set(kept(tab))

    write(tab, "which_scaling", "Both.")
    tab.once("dialog", lambda dialog: dialog.accept())
    tab.get_by_role("button", name="Reset all").click()
    assert "Reset: 2 cells" in said(tab).inner_text()
    assert editor(tab, "which_scaling").input_value() == "YOUR ANSWER HERE"
    said(tab).get_by_role("button", name="Undo").click()
    assert editor(tab, "which_scaling").input_value() == "Both."


# --- without Python --------------------------------------------------------------------------------------------------


@pytest.mark.browser
def test_work_is_there_the_next_time_before_python_is(browser, home):
    with opened(browser, home) as tab:
        start_writing(tab)
        write(tab, "min_max-solution", RIGHT)
        write(tab, "which_scaling", "Standardize.")
        tab.reload()  # at once: nothing waits for the pause after the last key
        assert cell(tab, "min_max-solution").locator("pre").inner_text().strip() == RIGHT.strip()
        assert editor(tab, "which_scaling").input_value() == "Standardize."
        cells = by_id(saved(tab))
        assert "".join(cells["min_max-solution"]["source"]) == RIGHT
        assert "".join(cells["which_scaling"]["source"]) == "Standardize."


def start_writing(tab):
    """Open the editors; Python loads meanwhile."""
    tab.get_by_role("button", name="Start Python").first.click()
    editor(tab, "min_max-solution").wait_for()


@pytest.mark.browser
@pytest.mark.parametrize("script", [small_book.FULL, small_book.FORBIDDEN], ids=["full", "forbidden"])
def test_work_that_the_browser_does_not_keep_can_be_downloaded(browser, home, script):
    with opened(browser, home, script=script) as tab:
        start_writing(tab)
        write(tab, "min_max-solution", RIGHT)
        warning = tab.get_by_role("alert").filter(has_text="This browser doesn't keep what you write here")
        warning.wait_for()
        asked = []
        tab.once("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
        tab.close(run_before_unload=True)
        for _ in range(50):
            if asked:
                break
            tab.wait_for_timeout(100)
        assert asked == ["beforeunload"]
        assert "".join(by_id(saved(tab))["min_max-solution"]["source"]) == RIGHT


@pytest.mark.browser
def test_two_tabs_take_over_from_each_other(browser, home):
    with opened(browser, home) as one:
        start_writing(one)
        two = one.context.new_page()
        two.goto(f"{home}/ps1_in_page.html")
        start_writing(two)
        write(two, "min_max-solution", RIGHT)
        says(one, "min_max-solution", "Changed in another tab")
        assert "return (x - low)" in editor(one, "min_max-solution").inner_text()


@pytest.mark.browser
@pytest.mark.parametrize("choice", ["Keep mine", "Take the other one"])
def test_two_tabs_that_differ_overwrite_nothing_before_a_choice(browser, home, choice):
    # A tab that sleeps hears nothing of the other one.
    deaf = "addEventListener('storage', (event) => event.stopImmediatePropagation(), true);"
    with opened(browser, home, script=deaf) as one:
        two = one.context.new_page()
        two.goto(f"{home}/ps1_in_page.html")
        start_writing(one)
        start_writing(two)
        write(one, "min_max-solution", "one = 1\n")
        one.wait_for_timeout(600)
        write(two, "min_max-solution", "two = 2\n")
        says(two, "min_max-solution", "Two texts of this cell: choose one")
        value = "answer/ps1_scaling/min_max-solution"
        assert kept(two)[value]["source"] == "one = 1\n"
        press(two, "min_max-solution", choice)
        two.wait_for_timeout(600)
        mine = choice == "Keep mine"
        assert kept(two)[value]["source"] == ("two = 2\n" if mine else "one = 1\n")
        assert ("two" in editor(two, "min_max-solution").inner_text()) == mine


@pytest.mark.browser
def test_a_notebook_from_jupyter_is_taken_over_and_a_wrong_file_is_not(browser, home):
    with opened(browser, home) as tab:
        start_writing(tab)
        write(tab, "min_max-solution", RIGHT)
        tab.wait_for_timeout(400)
        before = kept(tab)
        wrong = [
            ("no notebook", "isn't a notebook"),
            ("{}", "has no cells"),
            (released("ps2_forward"), "none of the questions"),
        ]
        for file, words in wrong:
            hand_over(tab, file)
            said(tab).filter(has_text=words).wait_for()
            assert "Nothing has changed" in said(tab).inner_text()
        assert kept(tab) == before

        notebook = solved("ps1_scaling")
        own = {"cell_type": "code", "id": "own", "metadata": {}, "source": ["helper = 1"], "outputs": []}
        by_id(notebook)["min_max"]["source"] = "print('11 points')"  # what is checked can't be changed
        notebook["cells"].insert(3, own)
        tab.once("dialog", lambda dialog: dialog.dismiss())
        hand_over(tab, notebook)
        tab.wait_for_timeout(300)
        assert kept(tab) == before
        tab.once("dialog", lambda dialog: dialog.accept())
        hand_over(tab, notebook)
        said(tab).filter(has_text="Taken over from mine.ipynb: 10 cells. 1 cell of your own had no place").wait_for()
        written = editor(tab, "gradient-solution").inner_text()
        assert written.split() == by_id(notebook)["gradient-solution"]["source"].split()
        assert editor(tab, "min_max").inner_text().strip() == 'check("min_max", min_max)'
        said(tab).get_by_role("button", name="Undo").click()
        tab.wait_for_timeout(400)
        assert {name: value["source"] for name, value in kept(tab).items()} == {
            name: value["source"] for name, value in before.items()
        }


NO_WASM = "delete window.WebAssembly;"


@pytest.mark.browser
def test_without_webassembly_one_can_write_and_download(browser, home):
    with opened(browser, home, script=NO_WASM) as tab:
        box = tab.locator(".bn-in-page")
        assert "it has no WebAssembly" in box.inner_text()
        assert box.get_by_role("link", name="of the problem set").get_attribute("href") == "ps1_scaling.html"
        assert not tab.get_by_role("button", name="Start Python").count()
        box.get_by_role("button", name="Write without Python").click()
        write(tab, "min_max-solution", RIGHT)
        assert not cell(tab, "min_max-solution").get_by_role("button", name="Run", exact=True).count()
        assert "".join(by_id(saved(tab))["min_max-solution"]["source"]) == RIGHT
        tab.goto(f"{home}/chapter.html")
        assert "it has no WebAssembly" in cell(tab, "sum").inner_text()


@pytest.mark.browser
def test_from_a_folder_the_page_says_what_is_needed(browser, site):
    with opened(browser, site.as_uri()) as tab:
        words = tab.locator(".bn-in-page").inner_text()
        assert "browsers run Python only in pages that come from a web server" in words
        assert "make serve" in words
        tab.get_by_role("button", name="Write without Python").click()
        write(tab, "min_max-solution", RIGHT)
        assert "".join(by_id(saved(tab))["min_max-solution"]["source"]) == RIGHT


@pytest.mark.browser
def test_offline_it_says_so_and_tries_again(browser, home):
    with opened(browser, home) as tab:
        tab.context.set_offline(True)
        tab.get_by_role("button", name="Start Python").first.click()
        panel = tab.locator(".bn-python")
        panel.get_by_text("could not be loaded").wait_for()
        assert "What you have written stays" in panel.inner_text()
        write(tab, "min_max-solution", RIGHT)  # in a text area: the editor could not be loaded either
        tab.context.set_offline(False)
        panel.get_by_role("button", name="Try again").click()
        tab.wait_for_function(IS_READY, timeout=LOADS)
        press(tab, "min_max", "Check")
        says(tab, "min_max", "8 of 11 points")


@pytest.mark.browser
def test_without_scripts_all_can_be_read_and_what_is_missing_is_said(browser, home):
    with opened(browser, home, java_script_enabled=False) as tab:
        text = tab.locator("main").inner_text()
        assert "That needs JavaScript" in text and "def min_max(x, low, high, clip=False):" in text
        assert not tab.locator(".bn-cell button").count()


@pytest.mark.browser
def test_try_it_starts_python_and_keeps_what_is_changed(browser, home):
    with opened(browser, home, "chapter") as tab:
        assert cell(tab, "sum").locator(".bn-try-it-asks").inner_text().startswith("What is")
        cell(tab, "sum").get_by_role("button", name="Edit and run").click()
        says(tab, "sum", "Done", LOADS)
        assert "the sum is 2" in cell(tab, "sum").inner_text()
        write(tab, "plain", "import bnlab.reference\n\nanswer = 43\nanswer\n")
        press(tab, "plain", "Run")
        says(tab, "plain", "Done")
        assert cell(tab, "plain").locator(".bn-cell-output").inner_text().strip() == "43"
        tab.wait_for_timeout(400)
        assert set(kept(tab)) == {"answer/chapter/plain"}
        tab.once("dialog", lambda dialog: dialog.accept())
        press(tab, "plain", "Reset")
        assert editor(tab, "plain").inner_text().strip() == "answer = 42"
        press(tab, "plain", "Undo")
        assert "43" in editor(tab, "plain").inner_text()


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_on_a_phone_nothing_sticks_out_and_axe_finds_nothing(browser, home, theme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    with opened(browser, home, color_scheme=theme, viewport={"width": 360, "height": 800}) as tab:
        no_violations(axe, tab)
        start(tab)
        write(tab, "min_max-solution", RIGHT)
        press(tab, "min_max", "Check")
        says(tab, "min_max", "8 of 11")
        write(tab, "cell-3", "1 / 0\n")
        press(tab, "cell-3", "Run")
        says(tab, "cell-3", "error")
        assert tab.evaluate("document.documentElement.scrollWidth") <= 360
        no_violations(axe, tab)


def no_violations(axe, tab):
    """The course's part of the page has no violation that axe knows; the theme's has tests of its own."""
    tab.mouse.move(0, 0)
    found = axe.run(tab, context=".bd-article").response["violations"]
    assert not [(violation["id"], [node["html"][:200] for node in violation["nodes"][:3]]) for violation in found]
