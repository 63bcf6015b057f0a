"""What a reader takes along: each page with code as a notebook, each problem set as a zip, bnlab as a wheel.

The theme's menu *Download* offers the notebook, made here from the page's source, beside the source and the print; on
the page of a problem set it offers the zip. A notebook begins with a cell that installs bnlab where it is absent, and
fetches the recorded results that its cells read. For both it needs the site's address (`findable.py` says how to set
it); without it, the cell says what to do by hand.

Where `repository: url:` of _config.yml is set, there are buttons for Binder and, for a repository on GitHub, for Colab.
Binder runs the repository, set up by the files in binder/; Colab opens the notebooks from the branch `notebooks`, to
which .github/workflows/pages.yml writes them.

The directive `install-bnlab` shows the command that installs the wheel.
"""

import json
import re
import shutil
from pathlib import Path
from urllib.parse import quote, urljoin

import jupytext
import nbformat
from docutils import nodes
from plain_markdown import PlainMarkdown
from reading_paths import kind
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

EXTRAS = "bnlab[lab]"
RESULT = re.compile(r"""["']results/(\w+\.json)["']""")
HIDDEN = {"remove-cell", "remove-input", "hide-input", "hide-cell"}


def wheel(app):
    """Return bnlab's wheel, or None where there is none."""
    return next(iter(Path(app.srcdir, "_build", "wheel").glob("bnlab-*.whl")), None)


def address(app, path):
    """Return the whole address of a file of the site, or None where it isn't known."""
    return urljoin(app.config.html_baseurl, path) if app.config.html_baseurl else None


# --- notebooks -------------------------------------------------------------------------------------------------------


def has_code(app, page):
    """Tell whether a page is a notebook for readers; that of a problem set is in its zip."""
    return "kernelspec" in app.env.metadata[page] and kind(app.env, page) != "bn-set"


def notebook(app, page):
    """Return a page as a notebook that runs outside the book."""
    source = jupytext.read(app.env.doc2path(page), fmt="md:myst")
    plain = PlainMarkdown(app, page, app.config.html_baseurl)
    for cell in source.cells:
        if cell.cell_type == "markdown":
            cell.source = plain.rewrite(cell.source)
        elif HIDDEN & set(cell.metadata.get("tags", ())):
            cell.metadata["jupyter"] = {"source_hidden": True}
        cell.metadata.pop("mystnb", None)
    code = "\n".join(cell.source for cell in source.cells if cell.cell_type == "code")
    cells = [
        nbformat.v4.new_markdown_cell(about(app, page)),
        nbformat.v4.new_code_cell(preparation(app, sorted(set(RESULT.findall(code))))),
        *source.cells,
    ]
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"  # jupytext draws one at random
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": source.metadata.kernelspec})


def about(app, page):
    """Return the text of the first cell, with the macros that formulas use."""
    course = app.config.html_title
    url = address(app, app.builder.get_target_uri(page))
    text = f"*A page of the course [{course}]({url}).*" if url else f"*A page of the course {course}.*"
    macros = (app.config.mathjax3_config or {}).get("tex", {}).get("macros", {})
    definitions = "".join(f"\\newcommand{{\\{name}}}{{{body}}}" for name, body in macros.items())
    return f"{text}\n\n${definitions}$" if definitions else text


def preparation(app, results):
    """Return the code that makes the rest of a notebook run: the package, and the recorded results it reads."""
    file = wheel(app)
    url = address(app, f"_downloads/{file.name}") if file else None
    lines = ["try:", "    import bnlab", "except ImportError:"]
    if url:
        lines += [f'    %pip install -q "{EXTRAS} @ {url}" myst-nb']
    else:
        lines += [
            '    raise ImportError("This notebook uses the package of the course. Download its wheel from the page '
            "'How to do the exercises' and type: pip install 'PATH_OF_THE_WHEEL[lab]' myst-nb\") from None"
        ]
    if results:
        lines += [
            "",
            "from pathlib import Path",
            "",
            f"for name in {results}:",
            '    if not Path("results", name).exists():',
        ]
        folder = address(app, "_downloads/results/")
        if folder:
            lines += [
                "        from urllib.request import urlretrieve",
                "",
                '        Path("results").mkdir(exist_ok=True)',
                f'        urlretrieve("{folder}" + name, Path("results", name))',
            ]
        else:
            lines += [
                '        raise FileNotFoundError(f"This notebook reads results/{name}: copy it there from the folder '
                "_downloads/results of the course's site, or from book/results of its repository\")"
            ]
    return "\n".join(lines)


# --- buttons ---------------------------------------------------------------------------------------------------------


def offer_notebook(app, pagename, templatename, context, doctree):
    """Write the notebook of a page where the theme's menu links to it."""
    if doctree and app.builder.name == "html" and has_code(app, pagename):
        context["ipynb_source"] = f"{pagename}.ipynb"
        file = Path(app.outdir, "_sources", context["ipynb_source"])
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(notebook(app, pagename), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def add_buttons(app, pagename, templatename, context, doctree):
    """Offer the zip of a problem set, and the buttons for Binder and Colab, after the theme has made its menu."""
    if not doctree or "header_buttons" not in context:
        return
    archive = app.env.dlfiles.get(f"_build/exercises/{pagename.rpartition('/')[2]}.zip")
    if archive:
        button = {
            "type": "link",
            "url": context["pathto"](f"_downloads/{archive[1]}", 1),
            "text": ".zip",
            "icon": "fas fa-file-zipper",
            "tooltip": "Download the problem set",
            "label": "download-zip-button",
        }
        groups = [group for group in context["header_buttons"] if group.get("label") == "download-buttons"]
        for group in groups:
            group["buttons"].insert(0, button)
    launchers = list(launch_buttons(app, pagename)) if has_code(app, pagename) else []
    if launchers:
        group = {
            "type": "group",
            "tooltip": "Run this page elsewhere",
            "icon": "fas fa-rocket",
            "buttons": launchers,
            "label": "launch-buttons",
        }
        context["header_buttons"].insert(0, group)


def launch_buttons(app, page):
    """Yield the buttons that the repository's host allows."""
    options = app.config.html_theme_options
    repository = (options.get("repository_url") or "").rstrip("/").removesuffix(".git")
    if not repository:
        return
    branch = options.get("repository_branch") or "main"
    host, _, name = repository.partition("://")[2].partition("/")
    place = {"github.com": f"gh/{name}", "gitlab.com": f"gl/{quote(name, safe='')}"}
    where = place.get(host, f"git/{quote(repository, safe='')}")
    binder = f"https://mybinder.org/v2/{where}/{branch}?urlpath=lab/tree/{page}.md"
    yield {
        "type": "link",
        "url": binder,
        "text": "Binder",
        "icon": "_static/images/logo_binder.svg",
        "tooltip": "Run this page on mybinder.org",
    }
    if host == "github.com":
        yield {
            "type": "link",
            "url": f"https://colab.research.google.com/github/{name}/blob/notebooks/{page}.ipynb",
            "text": "Colab",
            "icon": "_static/images/logo_colab.png",
            "tooltip": "Run this page on Google Colab",
        }


# --- the wheel -------------------------------------------------------------------------------------------------------


class InstallBnlab(SphinxDirective):
    """Show how to install bnlab from this site."""

    def run(self):
        self.env.note_reread()  # the address and the version are no part of the page
        file = wheel(self.env.app)
        if not file:
            what = (
                "there is no wheel of bnlab in _build/wheel: run `make wheel` first, or build the book with `make book`"
            )
            logging.getLogger(__name__).warning(what, location=self.get_location())
            return []
        path = f"_downloads/{file.name}"
        url = address(self.env.app, path)
        command = nodes.literal_block(
            "", f"pip install '{EXTRAS} @ {url}'" if url else f"pip install '{file.name}[lab]'"
        )
        command["language"] = "sh"
        if url:
            return [command]
        link = nodes.reference("", "", nodes.literal("", file.name), refuri="../" * self.env.docname.count("/") + path)
        return [nodes.paragraph("", "", nodes.Text("Download "), link, nodes.Text(" and, beside it, type")), command]


def copy_files(app, error):
    """Put the wheel and the recorded results into the site."""
    if error or app.builder.name != "html":
        return
    folder = Path(app.outdir, "_downloads")
    folder.mkdir(exist_ok=True)
    for old in folder.glob("bnlab-*.whl"):
        old.unlink()
    if file := wheel(app):
        shutil.copyfile(file, folder / file.name)
    results = Path(app.srcdir, "book", "results")
    if results.is_dir():
        shutil.copytree(results, folder / "results", dirs_exist_ok=True)


def setup(app):
    """Connect to Sphinx."""
    app.add_directive("install-bnlab", InstallBnlab)
    app.connect("html-page-context", offer_notebook)  # before the theme's menu, of priority 501
    app.connect("html-page-context", add_buttons, priority=502)
    app.connect("build-finished", copy_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
