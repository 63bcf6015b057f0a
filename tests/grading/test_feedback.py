"""Feedback pages: all that the student is to see, nothing that they aren't, and nothing that does anything."""

import base64
import json
import os
import re
import shutil
import struct
import zlib
from html.parser import HTMLParser

import nbformat
import pytest
from conftest import NAME, cell, hand_in
from hypothesis import given
from hypothesis import strategies as st
from made_up_class import HINT, people, put, record, result, stuck, unanswered

from bnlab.grading import pages
from bnlab.grading.anonymous import Pseudonyms
from bnlab.grading.course import CourseError, load_course, run_nbgrader
from bnlab.grading.feedback import feedback_page, write_feedback
from bnlab.grading.grade import Grader
from bnlab.grading.marks import Mark, Person, StudentMarks, read_marks
from bnlab.grading.material import Material
from bnlab.grading.record import WrittenAnswer
from bnlab.grading.sandbox import Sandbox

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")

HOSTILE = "</pre></style><script>alert(1)</script><img src=http://example.org/x onerror=alert(2)>&lt;\x1b[31m\u202e"
VOID = {"meta", "img", "br", "wbr", "hr", "input"}
ALLOWED = (
    "html head meta title style body header main footer section div p h1 h2 h3 table caption thead tbody tr th td "
    "ul ol li a b code pre span details summary figure img br wbr em strong blockquote hr"
).split()


def png(width=1, height=1):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")


def output(data):
    return nbformat.from_dict({"output_type": "display_data", "metadata": {}, "data": data})


class Page(HTMLParser):
    """A page taken apart. Raises where it has what no page of ours may have."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.text, self.open, self.ids, self.images, self.links, self.headings = "", [], [], [], [], []
        self.words, self.policy = "", ""  # words: the text with space between its blocks
        self.feed(html)
        self.close()
        assert self.open == [], "not every tag is closed"
        assert len(set(self.ids)) == len(self.ids), "an id is there twice"

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        assert tag in ALLOWED, f"<{tag}>"
        assert not any(name.startswith("on") or name == "style" for name in found), attrs
        if tag not in VOID:
            self.open.append(tag)
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "img":
            assert found["alt"] and found["src"].startswith("data:image/png;base64,")
            self.images.append(found["src"])
        if tag == "a":
            assert found["href"].startswith("#")
            self.links.append(found["href"][1:])
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policy = found["content"]

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag
        if tag not in ("a", "b", "code", "span", "em", "strong"):
            self.words += " "

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data
            self.words += data


def page_of(course, student, *, name=None):
    (marks,) = read_marks(load_course(course), NAME, [student]).students
    path = course / "autograded" / student / NAME / f"{NAME}.ipynb"
    notebook = path.read_text() if path.exists() else ""
    released = nbformat.read(course / "release" / NAME / f"{NAME}.ipynb", 4)
    return Page(feedback_page(marks, notebook, released, name))


def test_what_a_student_reads(course, answered):
    notebook = answered(center="def center(x):\n    return x - 4  # a guess")
    cell(notebook, "center-solution").outputs = [nbformat.v4.new_output("stream", text="center is here\n")]
    people(course, ann=("Ann <b>", "O'Lee"))
    made = record(
        "ann",
        result("center", "values", printed="x is 4", warned=("overflow",)),
        unanswered("scale"),
        findings=["Answer cell copied (center): all copies run."],
    )
    comments = {"center-solution": "Look at <i>axis</i>.\n\nThen try again.", "mean_of-solution": "Neat."}
    put(course, made, notebook=notebook, comments=comments)
    page = page_of(course, "ann")
    text = re.sub(r"\s+", " ", page.words)
    for said in (
        f"Feedback on {NAME}",
        "Ann <b> O'Lee",
        "37.5 of 100 points",
        "About the file that you handed in",
        "Answer cell copied (center): all copies run.",
        "mean_of right 30 of 30 points",
        "center partly right 7.5 of 30 points",
        f"values (failed) x = 4, expected 3 Hint. {HINT}",
        "What was tried f(x)",
        "Python warned (this costs nothing): overflow",
        "What your code printed here x is 4",
        "Your grader writes: Look at <i>axis</i>. Then try again.",
        "scale not answered 0 of 40 points",
        "return x - 4 # a guess",
        "center is here",
    ):
        assert said in text, said
    assert text.index("return x - 4") < text.index("values (failed)") < text.index("Look at <i>axis</i>")
    assert set(page.links) <= set(page.ids)
    assert page.headings[0] == 1 and all(b <= a + 1 for a, b in zip(page.headings, page.headings[1:], strict=False))
    assert "so far" not in text and "late" not in text


def test_what_is_not_graded_is_not_zero(course, answered):
    put(course, record("ann", stuck("scale", "timeout", "longer than 10 s")), notebook=answered())
    text = re.sub(r"\s+", " ", page_of(course, "ann").text)
    assert "60 of 100 points so far" in text and "They don't count as 0" in text
    assert "scale took too long no points yet This is not 0 points" in text and "longer than 10 s" in text
    put(course, record("ann", stuck("scale", "timeout", "")), notebook=answered(), by_hand={"scale": 25})
    text = re.sub(r"\s+", " ", page_of(course, "ann").text)
    assert "85 of 100 points" in text and "A person gave these points." in text and "so far" not in text


def test_a_file_that_cannot_be_read_gets_one_message(course):
    made = record("ann", *(stuck(q, "unreadable", "it is a <PDF>") for q in ("mean_of", "center", "scale")))
    put(course, made)
    text = page_of(course, "ann").text
    assert "Not graded yet" in text and text.count("it is a <PDF>") == 1 and "0 of 100" not in text
    put(course, made, comments={"center-solution": "Send me the file."})
    assert "Send me the file." in page_of(course, "ann").text


def test_penalty_and_words(course, answered, handed_out):
    notebook = answered()
    notebook.cells.append(
        nbformat.v4.new_markdown_cell("My **own** words, $x$, [a](javascript:alert(1)), ![b](http://example.org/x.png)")
    )
    put(course, record("ann"), notebook=notebook)
    (marks,) = read_marks(load_course(course), NAME).students
    marks = StudentMarks(
        marks.person,
        "needs manual grade",
        (*marks.marks, Mark("why", 5.0, None, waits=True)),
        "",
        7.5,
        record("ann", written=[WrittenAnswer("why", 5.0, True)]),
    )
    page = Page(feedback_page(marks, json.dumps(notebook), handed_out))
    text = re.sub(r"\s+", " ", page.text)
    assert "92.5 of 105 points so far" in text and "deduction for handing in late: 7.5 points" in text
    assert "Still to be read by a person: why." in text and "Questions without a cell in your notebook" in text
    assert "My own words, $x$, [a](javascript:alert(1)), ![b](http://example.org/x.png)" in text
    assert page.images == []


def test_nothing_hidden_is_shown(course, answered):
    """Neither solutions nor test code that was not handed out, even where the executed notebook has some."""
    notebook = answered()
    cell(notebook, "center").source += "\nassert center(SECRET) == HIDDEN"
    test = cell(notebook, "scale")
    test.outputs = [output({"text/plain": "0", "text/html": "<p>HIDDEN</p>"})]
    put(course, record("ann"), notebook=notebook)
    text = page_of(course, "ann").text
    assert "HIDDEN" not in text and "SECRET" not in text
    source = nbformat.read(course / "source" / NAME / f"{NAME}.ipynb", 4)
    released = "\n".join(c.source for c in nbformat.read(course / "release" / NAME / f"{NAME}.ipynb", 4).cells)
    shutil.rmtree(course / "source")
    put(course, record("bo"), notebook=answered(mean_of=None, center=None, scale=None))
    text = page_of(course, "bo").text
    lines = {line.strip() for c in source.cells for line in c.source.splitlines()}
    hidden = {line for line in lines if line and line not in released}
    assert "return x - x.mean(axis=0)" in hidden and not any(line in text for line in hidden)


def test_hostile_outputs_are_text_or_gone(course, answered):
    notebook = answered()
    cell(notebook, "center-solution").outputs = [
        output({"text/html": HOSTILE}),
        output({"application/javascript": "alert(3)", "text/plain": "<Javascript object>"}),
        output({"image/svg+xml": "<svg onload=alert(4)>"}),
        output({"image/png": base64.b64encode(png()).decode(), "text/plain": "<Figure>"}),
        output({"image/png": base64.b64encode(b"<svg>").decode(), "text/plain": "no picture"}),
        output({"image/png": ["bm8", 3], "text/plain": ["a ", "list"]}),
        nbformat.v4.new_output("stream", text="\x1b[31mred\x1b[0m \x1b]0;title\x07end\n0 %\r50 %\r100 %\n"),
        nbformat.v4.new_output("error", ename="E", evalue=HOSTILE, traceback=["\x1b[1mTraceback\x1b[0m", HOSTILE]),
        nbformat.from_dict({"output_type": "stream", "name": "stdout", "text": "a" * 1_000_000}),
    ]
    cell(notebook, "scale-solution").source = f"# {HOSTILE}\nx = 1"
    people(course, ann=(HOSTILE.replace("\x1b", ""), ""))
    made = record("ann", result("center", "values", message=HOSTILE, hint=HOSTILE, tried=HOSTILE, printed=HOSTILE))
    put(course, made, notebook=notebook, comments={"center-solution": HOSTILE})
    page = page_of(course, "ann")
    assert len(page.images) == 1 and base64.b64decode(page.images[0].partition(",")[2]) == png()
    assert page.text.count("An output of this cell is not shown") == 2
    for said in ("<Javascript object>", "no picture", "a list", "red end\n100 %\n", "980,000 more characters"):
        assert said in page.text, said
    assert "alert(3)" not in page.text and "svg onload" not in page.text
    assert "\x1b" not in page.text and "\u202e" not in page.text
    assert page.text.count("alert(1)") >= 6  # as text


def test_policy_and_style(course, answered):
    put(course, record("ann"), notebook=answered())
    (marks,) = read_marks(load_course(course), NAME).students
    html = feedback_page(marks, json.dumps(answered()), answered())
    policy = Page(html).policy
    assert "default-src 'none'" in policy and "img-src data:" in policy and "unsafe" not in policy
    assert "http://" not in html and "https://" not in html and "@import" not in html and "url(" not in html
    assert html == feedback_page(marks, json.dumps(answered()), answered())
    assert '<html lang="en">' in html and "width=device-width" in html


@pytest.mark.parametrize(
    "data",
    [
        None,
        "",
        "no base64!",
        3,
        base64.b64encode(b"\x89PNG\r\n\x1a\n").decode(),
        base64.b64encode(b"GIF89a" + bytes(100)).decode(),
        base64.b64encode(png(width=6001)).decode(),
        base64.b64encode(png(height=0)).decode(),
        base64.b64encode(png() + bytes(pages.IMAGE_LIMIT)).decode(),
    ],
)
def test_what_is_no_picture_is_not_shown(data):
    assert pages.image(data) == ("", 0)


def test_a_page_has_room_for_so_many_pictures():
    one = base64.b64encode(png()).decode()
    address, size = pages.image([one[:10], "\n" + one[10:]])
    assert address.endswith(one) and size == len(png())
    assert pages.image(one, room=size - 1) == ("", 0)


@given(st.text())
def test_code_and_text_lose_nothing_that_can_be_shown(text):
    shown = Page(f"<pre>{pages.code(text)}</pre>").text
    assert shown == pages.plain(text)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", shown)
    Page(str(pages.words(text)))


@pytest.mark.parametrize(
    "source",
    [
        "def f(x):\n\treturn f'{x!r:>{3}} {{}}' + \"ü\"  # 'a'\n",
        "x = '''\n",
        "if x:\n  y\n z",
        "%time x\n!ls",
        "\f1",
        "a\r\nb",
    ],
)
def test_code_is_marked(source):
    html = pages.code(source)
    assert Page(f"<pre>{html}</pre>").text == pages.plain(source)
    if source.startswith("def"):
        assert '<span class="kw">def</span>' in html and "co" in html


@pytest.mark.parametrize(
    "unit",
    [
        "(",
        "> ",
        "*a ",
        "a**",
        "`",
        "`a``b",
        "- ",
        "|a",
        "_a__b",
        "x\n-\n",
        "(\n",
        "\n if x:",
        "\x1b]",
        "\r",
        "[",
        "&#",
        "\\",
    ],
)
def test_long_or_deep_text_comes_to_an_end(unit):
    text = unit * 10**5
    pages.words(text)
    pages.code(text)
    assert len(pages.printed(text)) <= pages.TEXT_LIMIT + 100


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
CELLS = st.fixed_dictionaries(
    {"cell_type": st.sampled_from(["code", "markdown", "raw", "odd"])},
    optional={"source": st.text() | JSON, "outputs": st.lists(JSON) | JSON, "metadata": JSON},
)


@given(st.lists(CELLS, max_size=6) | JSON)
def test_any_notebook_makes_a_sound_page(handed_out, cells):
    marks = StudentMarks(Person("ann"), "graded", (Mark("mean_of", 30.0, 30.0),), "", 0.0, record("ann"))
    page = Page(feedback_page(marks, json.dumps({"cells": cells}), handed_out))
    assert "mean_of" in page.text


def absent(what):
    """Skip the test because `what` is missing, or fail it in CI."""
    if os.environ.get("CI"):
        pytest.fail(what, pytrace=False)
    pytest.skip(what)


# --- files -----------------------------------------------------------------------------------------------------------


def test_pages_lie_where_nbgrader_looks(course, answered):
    coursedir = load_course(course)
    for student in ("ann", "bo"):
        put(course, record(student), notebook=answered())
        hand_in(course, student, answered())
    (course / "autograded" / "ann" / NAME / "timestamp.txt").write_text("2026-10-05 16:00:00 UTC")
    (course / "submitted" / "ann" / NAME / "submission_secret.txt").write_text("s3cret")
    (course / "submitted" / "bo" / NAME / "submission_secret.txt").symlink_to("/etc/passwd")
    people(course, cy=())
    done = {student.person.id: path for student, path in write_feedback(coursedir, read_marks(coursedir, NAME))}
    place = course / "feedback" / "ann" / NAME
    assert done == {"ann": place / f"{NAME}.html", "bo": course / "feedback" / "bo" / NAME / f"{NAME}.html", "cy": None}
    assert sorted(path.name for path in place.iterdir()) == [f"{NAME}.html", "submission_secret.txt", "timestamp.txt"]
    assert [path.name for path in (course / "feedback" / "bo" / NAME).iterdir()] == [f"{NAME}.html"]
    assert (place / f"{NAME}.html").stat().st_mode & 0o777 == 0o644


def test_anonymous_pages_go_elsewhere(course, answered):
    coursedir, hide = load_course(course), Pseudonyms(course)
    people(course, ann=("Annabel", "Lee"))
    put(course, record("ann"), notebook=answered())
    ((_, path),) = write_feedback(coursedir, read_marks(coursedir, NAME), hide)
    assert path == course / "feedback_anonymous" / hide("ann") / NAME / f"{NAME}.html"
    text = path.read_text()
    assert hide("ann") in text and "Annabel" not in text
    assert not (course / "feedback").exists()


def test_without_the_released_notebook_it_says_so(course, answered):
    put(course, record("ann"), notebook=answered())
    shutil.rmtree(course / "release")
    coursedir = load_course(course)
    with pytest.raises(CourseError, match=f"nbgrader generate_assignment {NAME}"):
        list(write_feedback(coursedir, read_marks(coursedir, NAME)))


@pytest.mark.nbgrader
def test_nbgrader_makes_the_same_pages(course, answered):
    config = course / "nbgrader_config.py"
    line = 'c.GenerateFeedback.exporter_class = "bnlab.grading.feedback.FeedbackExporter"\n'
    config.write_text(config.read_text() + line)
    coursedir = load_course(course)
    put(course, record("ann", result("scale", "values")), notebook=answered(), comments={"scale-solution": "Look!"})
    put(course, record("bo"), notebook=answered())
    (course / "autograded" / "bo" / NAME / "record.json").unlink()
    status, log = run_nbgrader(course, "generate_feedback", NAME)
    assert status != 0 and "has no record.json beside it" in log  # bo's; ann's is there
    place = course / "feedback" / "ann" / NAME
    assert [path.name for path in place.iterdir()] == [f"{NAME}.html"]
    ours = (place / f"{NAME}.html").read_text()
    marks = read_marks(coursedir, NAME, ["ann"])
    ((_, path),) = write_feedback(coursedir, marks)
    assert path.read_text() == ours and "Look!" in ours


def test_what_the_real_grader_writes(course, released, answered):
    """From a submission to its page: the student's outputs, the checks' words, and no solution."""
    if shutil.which("bwrap") is None:
        absent("bubblewrap is not installed: apt-get install bubblewrap")
    right, wrong = answered(), answered(center="print('centered')\n\n\ndef center(x):\n    return x - 1", scale=None)
    data = {"ann": right, "bo": wrong, "cy": answered(scale="import os\n\n\ndef scale(x):\n    os._exit(3)")}
    material = Material.of_course(released, NAME)
    with Grader(material, Sandbox()) as grader:
        for student, notebook in data.items():
            graded = grader.grade(json.dumps(notebook).encode(), student)
            put(course, graded.record, notebook=graded.notebook)
        graded = grader.grade(b"%PDF", "di")
        put(course, graded.record)
    words = {student: re.sub(r"\s+", " ", page_of(course, student).words) for student in (*data, "di")}
    assert "100 of 100 points" in words["ann"]
    assert "centered" in words["bo"] and "values (failed)" in words["bo"] and "scale not answered" in words["bo"]
    assert "scale ended the program that ran it no points yet" in words["cy"] and "60 of 100" in words["cy"]
    assert "Not graded yet" in words["di"] and "PDF" in words["di"]
    assert "x.std(axis=0)" in words["ann"] and "x.std(axis=0)" not in words["bo"]
    assert str(material.seed) not in "".join(words.values())


# --- in a browser ----------------------------------------------------------------------------------------------------


@pytest.mark.browser
def test_a_browser_runs_and_asks_for_nothing(course, answered, tmp_path):
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        absent("no Chromium on PATH: install your system's package `chromium`")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        absent("playwright is not installed: make test installs it")
    notebook = answered(center=f"def center(x):\n    return x - 4  # {'long ' * 60}")
    solution = cell(notebook, "center-solution")
    solution.outputs = [output({"text/html": HOSTILE, "text/plain": HOSTILE})]
    solution.outputs += [output({"image/png": base64.b64encode(png()).decode()})]
    put(course, record("ann", result("center", "values", message=HOSTILE)), notebook=notebook)
    ((_, path),) = write_feedback(load_course(course), read_marks(load_course(course), NAME))
    # Were anything of the student's to slip through, the policy would still stop it.
    slipped = tmp_path / "slipped.html"
    body = "<body><script>document.title='run'</script><img src='http://127.0.0.1:9/x' onerror='document.title=1'>"
    slipped.write_text(path.read_text().replace("<body>", body))
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        for width in (360, 1200):
            for scheme in ("light", "dark"):
                tab = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme).new_page()
                asked, said = [], []
                tab.on("request", lambda request, asked=asked: asked.append(request.url))
                tab.on("console", lambda message, said=said: said.append(message.text))
                tab.goto(path.as_uri())
                assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()] and said == []
                assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
                style = "getComputedStyle(document.body).backgroundColor"
                assert (tab.evaluate(style) == "rgb(21, 24, 27)") == (scheme == "dark")
                assert tab.evaluate("document.querySelector('figure img').naturalWidth") == 1
                tab.on("requestfailed", lambda request, asked=asked: asked.append(request.failure))
                asked.clear()
                tab.goto(slipped.as_uri())
                assert tab.title() == f"Feedback on {NAME}"
                sent = [what for what in asked if not what.startswith("data:")]
                assert sent == [slipped.as_uri(), "http://127.0.0.1:9/x", "csp"]  # stopped before it left
        chromium.close()
