"""What a reader takes along: notebooks that run, zips, the wheel, and the buttons for Binder and Colab."""

import json
import re
import shutil
import subprocess
import sys
import zipfile

import browsing
import nbformat
import pytest
import small_book
from browsing import ROOT, SITE
from nbclient import NotebookClient

SETTINGS = """
extensions = ["myst_nb", "sphinx_design", "sphinxcontrib.bibtex", "quiz", "reading_paths", "findable", "downloads"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
nb_execution_mode = "cache"
numfig = True
math_numfig = False
bibtex_bibfiles = ["references.bib"]
html_title = "A small book"
mathjax3_config = {"tex": {"macros": {"mub": "\\\\mu_B"}}}
html_theme_options = {"repository_url": REPOSITORY, "repository_branch": "main"}
html_baseurl = ADDRESS
"""
BIB = """
@article{one, author = {Doe, Jane}, title = {T}, journal = {J}, year = {2001}}
@article{three, author = {Doe, Jane and van Dam, Jan and Roe, Richard}, title = {T}, journal = {J}, year = {2003}}
"""
FRONT = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
    format_version: 0.13
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

"""
PAGES = {
    "index": "# The front page\n\n:::{toctree}\nbook/chapter\nbook/words\n:::\n",
    "book/words": """
(ch-words)=
# Words

:::{glossary}
batch
  Some examples.
:::

:::{install-bnlab}
:::

:::{bibliography}
:::
""",
    "book/chapter": FRONT
    + """(ch-chapter)=
# A chapter

:::{admonition} The question
:class: bn-question

Which {term}`batch` is $\\mub$ of? See {ref}`ch-words` and {ref}`this page <ch-chapter>`.
:::

```{code-cell} ipython3
:tags: [remove-cell]

import json
from pathlib import Path
from myst_nb import glue
glue("chapter-third", 1 / 3, display=False)
glue("chapter-word", "seven", display=False)
```

A third is {glue:text}`chapter-third:.2f`, the word is {glue:text}`chapter-word`. As {cite:t}`three` say {cite:p}`one`,
and by {eq}`eq-chapter` too.

```{math}
:label: eq-chapter
a = b
```

```{code-cell} ipython3
json.loads(Path("results/kept.json").read_text())["answer"]
```

## Quiz

:::{quiz}
Really?

- [x] Yes

  It is so.

- [ ] No

  It is.
:::

```python
print("{term}")
```
""",
}


def build(folder, address="", repository=""):
    """Build the book of two pages, for `address`; return the site."""
    (folder / "references.bib").write_text(BIB, encoding="utf-8")
    (folder / "book" / "results").mkdir(parents=True)
    (folder / "book" / "results" / "kept.json").write_text('{"answer": 42}', encoding="utf-8")
    wheel = folder / "_build" / "wheel" / "bnlab-9.8-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.writestr("bnlab/__init__.py", "")
        packed.writestr("bnlab-9.8.dist-info/METADATA", "Metadata-Version: 2.1\nName: bnlab\nVersion: 9.8\n")
        packed.writestr("bnlab-9.8.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        packed.writestr("bnlab-9.8.dist-info/RECORD", "")
    settings = SETTINGS.replace("ADDRESS", repr(address)).replace("REPOSITORY", repr(repository))
    site, warnings = small_book.build(folder, PAGES, settings=settings)
    assert "WARNING:" not in warnings  # a kernel's own words to the console are none
    return site


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The book without an address, as it is built by default."""
    return build(tmp_path_factory.mktemp("downloads"))


@pytest.fixture(scope="module")
def served_site(tmp_path_factory):
    """The book built for an address on localhost, and served there."""
    root = tmp_path_factory.mktemp("served")
    with browsing.served(root) as address:
        site = build(tmp_path_factory.mktemp("downloads"), f"{address}/deep/path")
        shutil.copytree(site, root / "deep" / "path")
        yield root / "deep" / "path", f"{address}/deep/path/"


def parse(file):
    """Return the HTML in `file`."""
    bs4 = pytest.importorskip("bs4", reason="reading pages needs beautifulsoup4: pip install '.[dev]'")
    return bs4.BeautifulSoup(file.read_text(encoding="utf-8"), "html.parser")


def read(site, page="book/chapter"):
    """Return the notebook of a page."""
    notebook = nbformat.read(site / "_sources" / f"{page}.ipynb", as_version=4)
    nbformat.validate(notebook)
    return notebook


def text_of(notebook):
    """Return the text cells of a notebook in one."""
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


# --- notebooks -------------------------------------------------------------------------------------------------------


def test_the_menu_offers_notebook_source_and_print(site):
    menu = parse(site / "book" / "chapter.html").select_one(".dropdown-download-buttons")
    links = [link["href"] for link in menu.select("a[href]")]
    assert links == ["../_sources/book/chapter.ipynb", "../_sources/book/chapter.md"]
    assert all((site / "book" / link).resolve().is_file() for link in links)
    assert menu.select_one("button[onclick='window.print()']")
    assert not parse(site / "book" / "words.html").select("a[href$='.ipynb']")


def test_a_notebook_has_the_page_s_cells_and_no_output(site):
    notebook = read(site)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) == 3
    assert code[2].source == 'json.loads(Path("results/kept.json").read_text())["answer"]'
    assert code[1].metadata.jupyter.source_hidden
    assert not any(cell.outputs for cell in code)
    assert notebook.metadata.kernelspec.name == "python3"


def test_its_text_needs_no_extension_of_jupyter(site):
    text = text_of(read(site))
    fences = re.compile(r"```python.*?```", re.DOTALL)
    assert not re.search(r"\{[a-z:-]+\}|:::|^\(\w", fences.sub("", text).replace("{\\mu_B}", "").replace("{1}", ""))
    assert "> **The question**\n>\n> Which batch is $\\mub$ of? See *Words* and *this page*." in text
    assert "A third is 0.33, the word is seven. As Doe et al. (2003) say (Doe, 2001),\nand by (1) too." in text
    assert "$$\na = b \\tag{1}\n$$" in text
    assert "\\newcommand{\\mub}{\\mu_B}" in text
    assert "Really?" not in text
    assert 'print("{term}")' not in fences.sub("", text)


def test_what_a_notebook_cannot_show_is_said_or_turned_into_code():
    sys.path.append(str(ROOT / "book" / "_ext"))
    from plain_markdown import PlainMarkdown

    plain = object.__new__(PlainMarkdown)  # directives alone need no book
    cell = ":::{try-it} What if?\n:name: it\n\nx = {1: 2}  # {term}\nprint(x)\n:::"
    assert plain.rewrite(cell) == "**What if?**\n\n```python\nx = {1: 2}  # {term}\nprint(x)\n```"
    figure = ":::{explorable} outlier\n:name: fig-outlier\n\nDrag it.\n:::"
    assert plain.rewrite(figure) == "*A figure that moves is here on the course's site.* Drag it."


def test_two_builds_make_the_same_notebook(site, tmp_path):
    again = build(tmp_path)
    name = "_sources/book/chapter.ipynb"
    assert (again / name).read_bytes() == (site / name).read_bytes()


def test_links_lead_to_the_site_where_its_address_is_known(served_site):
    site, address = served_site
    text = text_of(read(site))
    assert f"See [Words]({address}book/words.html#ch-words)" in text
    assert f"[A small book]({address}book/chapter.html)" in text


def test_a_notebook_runs_away_from_the_book(served_site, tmp_path):
    site, _ = served_site
    notebook = read(site)
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(tmp_path)}}).execute()
    (output,) = [output for cell in notebook.cells for output in cell.get("outputs", ())][-1:]
    assert output.data["text/plain"] == "42"
    assert json.loads((tmp_path / "results" / "kept.json").read_text(encoding="utf-8")) == {"answer": 42}


def preparation(site):
    """Return the code of a notebook's first cell."""
    return next(cell.source for cell in read(site).cells if cell.cell_type == "code")


def test_the_first_cell_installs_the_wheel_where_it_is_absent(served_site):
    from IPython.core.inputtransformer2 import TransformerManager

    site, address = served_site
    calls = []

    class Shell:
        def run_line_magic(self, *call):
            calls.append(call)

    code = TransformerManager().transform_cell(preparation(site).split("from pathlib")[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "bnlab", None)  # import fails
        exec(code, {"get_ipython": Shell})
    assert calls == [("pip", f'install -q "bnlab[lab] @ {address}_downloads/bnlab-9.8-py3-none-any.whl" myst-nb')]


def test_without_an_address_it_says_what_to_do(site, tmp_path, monkeypatch):
    code = preparation(site)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"reads results/kept\.json: copy it there from the folder"):
        exec(code, {})
    monkeypatch.setitem(sys.modules, "bnlab", None)
    with pytest.raises(ImportError, match="Download its wheel from the page 'How to do the exercises'"):
        exec(code, {})


# --- the wheel -------------------------------------------------------------------------------------------------------


def test_pip_installs_the_wheel_from_the_site(served_site, tmp_path):
    site, address = served_site
    shown = parse(site / "book" / "words.html").select_one("article pre").get_text().strip()
    url = f"{address}_downloads/bnlab-9.8-py3-none-any.whl"
    assert shown == f"pip install 'bnlab[lab] @ {url}'"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", tmp_path, url]
    subprocess.run(command, check=True)
    assert (tmp_path / "bnlab" / "__init__.py").is_file()


def test_without_an_address_the_page_links_to_the_wheel(site):
    page = parse(site / "book" / "words.html")
    link = page.select_one("article a[href$='.whl']")
    assert (site / "book" / link["href"]).resolve().is_file()
    assert page.select_one("article pre").get_text().strip() == "pip install 'bnlab-9.8-py3-none-any.whl[lab]'"


def test_without_a_wheel_the_build_says_how_to_make_it(tmp_path):
    pages = {"index": "# Front\n\n:::{install-bnlab}\n:::\n"}
    settings = 'extensions += ["findable", "downloads"]\n'
    _, warnings = small_book.build(tmp_path, pages, settings=settings)
    assert "index.md:3: WARNING: there is no wheel of bnlab in _build/wheel: run `make wheel`" in warnings


# --- Binder and Colab ------------------------------------------------------------------------------------------------


def launchers(site, page="book/chapter"):
    """Return {text: address} of the buttons that run a page elsewhere."""
    links = parse(site / f"{page}.html").select(".dropdown-launch-buttons a[href]")
    return {link.get_text(strip=True): link["href"] for link in links}


def test_without_a_repository_there_are_no_buttons(site):
    assert launchers(site) == {}
    assert "mybinder" not in (site / "book" / "chapter.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("repository", "expected"),
    [
        (
            "https://github.com/jane/course.git",
            {
                "Binder": "https://mybinder.org/v2/gh/jane/course/main?urlpath=lab/tree/book/chapter.md",
                "Colab": "https://colab.research.google.com/github/jane/course/blob/notebooks/book/chapter.ipynb",
            },
        ),
        (
            "https://gitlab.com/group/jane/course/",
            {"Binder": "https://mybinder.org/v2/gl/group%2Fjane%2Fcourse/main?urlpath=lab/tree/book/chapter.md"},
        ),
    ],
)
def test_a_repository_brings_the_buttons_of_its_host(tmp_path, repository, expected):
    site = build(tmp_path, repository=repository)
    assert launchers(site) == expected
    assert launchers(site, "book/words") == {}
    images = [image["src"] for image in parse(site / "book" / "chapter.html").select(".dropdown-launch-buttons img")]
    assert len(images) == len(expected)
    assert all((site / "book" / image).resolve().is_file() for image in images)


# --- the course's own site -------------------------------------------------------------------------------------------


def test_every_page_with_code_comes_as_a_notebook(chapters):
    notebooks = zips = 0
    for path, page in chapters.items():
        links = [link["href"] for link in page.select(".dropdown-download-buttons a[href]")]
        notebooks += sum(link.endswith(".ipynb") for link in links)
        zips += sum(link.endswith(".zip") for link in links)
        if page.select("article div.cell") and not path.name.startswith("ps"):
            assert any(link.endswith(".ipynb") for link in links), path
    assert notebooks >= 18
    assert zips == 8


def test_no_notebook_of_the_course_holds_a_role_or_a_directive(pages):
    code = re.compile(r"^(```+|~~~+).*?^\1|`[^`\n]+`", re.DOTALL | re.MULTILINE)
    notebooks = sorted((SITE / "_sources").rglob("*.ipynb"))
    assert len(notebooks) >= 18
    for path in notebooks:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        text = text_of(notebook)
        assert not re.search(r"\{(term|ref|doc|numref|eq|cite|glue)[:a-z]*\}`", text), path
        assert not re.search(r"^(:::|```)\{", code.sub("", text), re.MULTILINE), path


@pytest.mark.parametrize("name", ["scaling", "vgg_retrofitting"])
def test_notebooks_of_the_course_run_elsewhere(pages, tmp_path, name):
    notebook = nbformat.read(SITE / "_sources" / "book" / f"{name}.ipynb", as_version=4)
    shutil.copytree(ROOT / "book" / "results", tmp_path / "results")
    NotebookClient(notebook, timeout=250, resources={"metadata": {"path": str(tmp_path)}}).execute()


def test_the_site_serves_the_wheel_it_names(chapters):
    page = chapters[SITE / "book" / "how_to_do.html"]
    (wheel,) = (SITE / "_downloads").glob("bnlab-*.whl")
    assert wheel.name in page.get_text()
    with zipfile.ZipFile(wheel) as packed:
        assert "bnlab/reference.py" in packed.namelist()
