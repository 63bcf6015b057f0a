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
        tab.keyboard.type("def min_max(x, low, high, clip=False):\nreturn low\n", delay=1)  # it indents by itself
        tab.keyboard.press("Tab")
        tab.keyboard.press("Tab")
        assert "    return low" in editor(tab, "min_max-solution").inner_text()
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
