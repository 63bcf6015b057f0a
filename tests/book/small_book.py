"""Small books for the tests of book/_ext and its scripts: a few pages in a temporary folder, built in seconds."""

import contextlib
import re
import subprocess
import sys

from browsing import ROOT

CONF = f"""
import sys
sys.path.append({str(ROOT / "book" / "_ext")!r})
project = "A small book"
extensions = ["myst_parser", "accessible", "sphinx_design", "explorable", "quiz", "reading_paths", "in_page", "typeset"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
numfig = True
html_theme = "sphinx_book_theme"
html_static_path = [{str(ROOT / "book" / "_static")!r}]
html_css_files = ["course.css"]
exclude_patterns = ["_build"]
"""


def build(folder, pages, builder="html", settings=""):
    """Build `pages` ({name: Markdown}) in `folder`; return (the folder of the result, the warnings).

    `settings` are more lines of conf.py; a name such as "a/b" makes a folder.
    """
    (folder / "conf.py").write_text(CONF + settings, encoding="utf-8")
    for name, text in pages.items():
        file = folder / f"{name}.md"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    output = folder / "_build" / builder
    command = [sys.executable, "-m", "sphinx", "-q", "--no-color", "-b", builder, "-d", folder / "_build" / "doctrees"]
    run = subprocess.run([*command, folder, output], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return output, run.stderr


@contextlib.contextmanager
def visit(browser, **settings):
    """Give a tab of its own profile; at the end no script of the course may have failed in it (the theme's may)."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | settings)
    tab = context.new_page()
    problems = []
    tab.on("pageerror", lambda error: problems.append(f"{error}\n{error.stack}"))
    yield tab
    context.close()
    assert not [problem for problem in problems if OURS.search(problem)]


OURS = re.compile(r"/(kept|marks|quiz|progress|tooltips|explorables/.*|in_page/\w+)\.js")

FORBIDDEN = """
Object.defineProperty(window, "localStorage", {
    get() { throw new DOMException("The operation is insecure.", "SecurityError"); },
});
"""
FULL = """
Storage.prototype.setItem = () => { throw new DOMException("The quota has been exceeded.", "QuotaExceededError"); };
"""
