"""formgrader in a real browser, in a real Jupyter server: grade, look, comment, give it back. No network is needed.

And whatever a student typed, it does nothing in the page in which an instructor gives grades.
"""

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
import pytest
from conftest import NAME, absent, cell, hand_in
from hypothesis import given, settings
from hypothesis import strategies as st
from nbgrader.api import Gradebook

from bnlab.grading.formgrader import markdown
from bnlab.grading.record import Record

TOKEN = "a-token-for-this-test"
START_SECONDS = 120
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]

SVG = "<svg xmlns='http://www.w3.org/2000/svg'><script>window.done = 'svg'</script></svg>"
TRICKS = (
    "<script>window.done = 'script'</script>",
    "<img src=x onerror=\"window.done = 'image'\">",
    "<svg onload=\"window.done = 'svg'\"></svg>",
    "<iframe srcdoc=\"<script>parent.done = 'frame'</script>\"></iframe>",
    "<details open ontoggle=\"window.done = 'toggle'\">hello</details>",
    "<style>body { display: none }</style>",
    "<form action='/formgrader/api/grade/1'><button autofocus>Click me</button></form>",
    "<object data=\"data:text/html,<script>top.done = 'object'</script>\"></object>",
    "<base href='http://example.org/'>",
    "[link](javascript:window.done='link')",
    "[link](data:text/html,<script>window.done=1</script>)",
    "<a href=\" jAvascript:window.done='anchor'\">link</a>",
    "![image](http://example.org/who-looks-at-me.png)",
    "```mermaid\n</pre><script>window.done = 'mermaid'</script>\n```",
    "```html\n<script>window.done = 'fence'</script>\n```",
    "$<img src=x onerror=\"window.done = 'formula'\">$",
    "$$\n</script><script>window.done = 'formula'</script>\n$$",
    "\\begin{x}<script>window.done = 'environment'</script>\\end{x}",
    "<div class='nbgrader_cell'><input class='score' id='mean_of' value='30'></div>",
    "![image](attachment:a.svg)",
    "![image](attachment:nowhere.png)",
    "# <script>window.done = 'heading'</script>",
    "| a |\n|---|\n| <script>window.done = 'table'</script> |",
)
HOSTILE = "\n\n".join(TRICKS)


# --- the filter ------------------------------------------------------------------------------------------------------


def tags_of(html):
    """Every tag in HTML as a browser reads it, with its attributes."""
    bs4 = pytest.importorskip("bs4", reason="reading pages needs beautifulsoup4: pip install '.[grading]'")
    return [(tag.name, dict(tag.attrs)) for tag in bs4.BeautifulSoup(html, "html.parser").find_all(True)]


def assert_harmless(html):
    for name, attributes in tags_of(html):
        assert name not in {"script", "style", "iframe", "object", "embed", "form", "input", "button", "svg", "math"}
        assert name not in {"base", "link", "meta", "textarea", "video", "audio", "template"}
        for attribute, value in attributes.items():
            assert attribute in {"href", "src", "alt", "title", "start"}, attribute
            assert attribute != "href" or value.lower().startswith(("http://", "https://", "mailto:"))
            assert attribute != "src" or value.lower().startswith("data:image/")


@pytest.mark.parametrize("trick", TRICKS)
def test_nothing_that_a_student_types_is_more_than_text(trick):
    attached = {"a.svg": {"image/svg+xml": base64.b64encode(SVG.encode()).decode()}}
    assert_harmless(markdown({"cell": {"attachments": attached}}, trick))


WORDS = "< > &lt; script img /script ' \" ` ``` [a]( ) javascript: $ $$ \\ ! | mermaid a: <!-- --> <![CDATA[ &#106; * -"
PIECES = st.sampled_from([*WORDS.split(), " src=x", " onerror=x", "\n", "\n\n", "    ", "\0"])


@settings(max_examples=300)
@given(st.lists(PIECES, max_size=30).map("".join))
def test_nothing_made_of_such_pieces_is_more_than_text(source):
    assert_harmless(markdown({}, source))


def test_what_people_write_looks_as_they_meant_it():
    html = markdown({}, "# Why\n\nBecause **$\\hat{x}_i < 1$** *and* [so](https://example.org).\n\n- one\n- `two`\n")
    for part in ("<h1>Why</h1>", "<strong>$\\hat{x}_i &lt; 1$</strong>", "<em>and</em>", "<li>one</li>"):
        assert part in html
    assert '<a href="https://example.org">so</a>' in html and "<code>two</code>" in html
    assert "<details><summary>Hint</summary>" in markdown({}, "<details><summary>Hint</summary>\n\ntext\n\n</details>")
    attached = {"photo.png": {"image/png": "iVBORw0KGgo="}}
    shown = markdown({"cell": {"attachments": attached}}, "![my page](attachment:photo.png)")
    assert '<img src="data:image/png;base64,iVBORw0KGgo=" alt="my page">' in shown


# --- the browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium():
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        absent("no Chromium on PATH: install your system's package `chromium`")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        absent("playwright is not installed: make test installs it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def course_of_three(released, answered, tmp_path_factory):
    """A course directory where an honest, a hostile and a crashing student have handed in. Nothing is graded."""
    course = shutil.copytree(released, tmp_path_factory.mktemp("formgrader") / "course")
    hand_in(course, "amara", answered(scale=None))
    hostile = answered()
    attached = {"a.svg": {"image/svg+xml": base64.b64encode(SVG.encode()).decode()}}
    hostile.cells.insert(3, nbformat.v4.new_markdown_cell(HOSTILE, attachments=attached))
    cell(hostile, "mean_of-solution").source += (
        "\nfrom IPython.display import HTML, Javascript, display\n"
        "display(HTML('<script>window.done = \"output\"</script>'), Javascript('window.done = \"output\"'))\n"
        "print('<script>window.done = \"stream\"</script>')\n"
        "raise ValueError('<script>window.done = \"error\"</script>')"
    )
    cell(hostile, "center-solution").source = "def center(x):\n    raise ValueError('<img src=x onerror=done=1>')"
    hand_in(course, "hostile", hostile).with_name("timestamp.txt").write_bytes(b"\xff\xfe yesterday")
    hand_in(course, "killer", answered(center="import os\nos._exit(1)"))
    return course


@pytest.fixture(scope="module")
def server(course_of_three, tmp_path_factory):
    """A Jupyter server in the course directory, as an instructor starts it. Its address."""
    home = tmp_path_factory.mktemp("home")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "BNLAB"))}
    environment = {
        **kept,
        "HOME": str(home),
        "JUPYTER_TOKEN": TOKEN,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    command = [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", "--ip=127.0.0.1"]
    command += [f"--port={port}", "--ServerApp.port_retries=0"]
    log = home / "server.log"
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=course_of_three, env=environment, stdout=file, stderr=file)
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(2 * START_SECONDS):
            try:
                urllib.request.urlopen(f"{address}/api", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture
def tab(chromium, server):
    """A tab that is logged in. It reaches nothing but the server, and what it wanted beyond is in `tab.asked`."""
    context = chromium.new_context(viewport={"width": 1280, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.asked, page.problems = [], []

    def refuse(route):
        page.asked.append(route.request.url)
        route.abort()

    page.route(lambda url: urlsplit(url).hostname != "127.0.0.1" and not url.startswith("data:"), refuse)
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.goto(f"{server}/formgrader/manage_assignments?token={TOKEN}")
    yield page
    assert page.asked == [] and page.problems == []
    context.close()


def autograde(tab, server, student):
    """Press the button in the list of submissions; the dialog's text, and then the student's row."""
    tab.goto(f"{server}/formgrader/manage_submissions/{NAME}")
    row = tab.locator("tr", has=tab.locator("td.student-id", has_text=student))
    row.locator("td.autograde a").click()
    dialog = tab.locator(".modal-content")
    dialog.wait_for()
    said = dialog.inner_text()
    dialog.locator(".modal-footer button").click()
    dialog.wait_for(state="detached")
    row.locator("td.autograde a").wait_for()
    return said, row.inner_text()


def open_submission(tab, server, course, student):
    """Go to a submission as the links in the list of submissions do."""
    with Gradebook(f"sqlite:///{course}/gradebook.db") as gradebook:
        submission = gradebook.find_submission_notebook(NAME, NAME, student).id
    tab.goto(f"{server}/formgrader/gradebook/{NAME}/{NAME}")
    tab.locator(f"#main-table a[href$='{submission}']").first.click()
    tab.wait_for_function("typeof formgrader !== 'undefined' && formgrader.loaded && formgrader.comments.loaded")


@pytest.mark.browser
@pytest.mark.nbgrader
def test_from_the_list_to_the_comment_in_the_feedback(tab, server, course_of_three):
    tab.locator("#main-table", has_text=NAME).wait_for()
    said, row = autograde(tab, server, "amara")
    assert f"Successfully autograded '{NAME}' for student 'amara'." in said
    assert "graded" in row and "60 / 100" in row
    record = (course_of_three / "autograded" / "amara" / NAME / "record.json").read_text()
    assert Record.from_json(record).score == 60

    open_submission(tab, server, course_of_three, "amara")
    assert tab.locator("#mean_of").get_attribute("placeholder") == "30"
    assert tab.locator("#scale").get_attribute("placeholder") == "0"
    assert tab.locator("#scale-solution-comment").get_attribute("placeholder") == "No response."
    assert "30 of 30 points" in tab.locator("body").inner_text()
    box = tab.locator("#mean_of-solution-comment")
    box.fill("Nicely done, <Amara> & Co.")
    with tab.expect_response(lambda response: "/api/comment/" in response.url):
        box.blur()
    score = tab.locator("#scale")
    score.fill("15")
    with tab.expect_response(lambda response: "/api/grade/" in response.url):
        score.blur()

    tab.goto(f"{server}/formgrader/manage_submissions/{NAME}")
    row = tab.locator("tr", has=tab.locator("td.student-id", has_text="amara"))
    assert "75 / 100" in row.inner_text()
    row.locator("td.generate-feedback a").click()
    dialog = tab.locator(".modal-content")
    dialog.wait_for()
    assert "Successfully generated feedback" in dialog.inner_text()
    feedback = course_of_three / "feedback" / "amara" / NAME / f"{NAME}.html"
    text = feedback.read_text(encoding="utf-8")
    assert "Nicely done, &lt;Amara&gt; &amp; Co." in text and "<Amara>" not in text


@pytest.mark.browser
@pytest.mark.nbgrader
def test_what_a_student_typed_is_no_program_in_formgrader(tab, server, course_of_three):
    _, row = autograde(tab, server, "hostile")
    assert "70 / 100" in row
    open_submission(tab, server, course_of_three, "hostile")
    tab.wait_for_load_state("networkidle")
    assert tab.evaluate("window.done") is None
    shown = tab.locator("#notebook-container").first.inner_text()
    for name in ("script", "mermaid", "formula", "stream", "error"):
        assert f"window.done = '{name}'" in shown or f'window.done = "{name}"' in shown, name
    assert (
        tab.locator("#notebook iframe, #notebook form, #notebook object, #notebook style, #notebook script").count()
        == 0
    )
    # The page is still nbgrader's: one box for every score, and shortcuts that need no MathJax.
    assert tab.locator("#mean_of").count() == 1 and tab.locator("input.score").count() == 3
    assert tab.evaluate("formgrader.keyboard_manager !== undefined && MathJax.loaded")


@pytest.mark.browser
@pytest.mark.nbgrader
def test_a_crash_asks_for_a_person_in_formgrader(tab, server, course_of_three):
    said, row = autograde(tab, server, "killer")
    assert f"{NAME} of killer: center could not be graded, crashed: " in said
    assert "needs manual grading" in row and "70 / 100" in row
    open_submission(tab, server, course_of_three, "killer")
    assert "needs_manual_grade" in tab.locator("#center").get_attribute("class")
    assert "needs_manual_grade" not in tab.locator("#scale").get_attribute("class")
    assert tab.locator("#center-solution-comment").get_attribute("placeholder").startswith("Could not grade: crashed")
    record = json.loads((course_of_three / "autograded" / "killer" / NAME / "record.json").read_text())
    assert [question["score"] for question in record["questions"]] == [30, None, 40]
