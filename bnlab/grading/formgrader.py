"""What formgrader shows: as nbgrader shows it, but nothing in it is a program, and no submission can stop it.

Whoever looks at a submission in formgrader may change every grade. nbgrader puts the HTML that a student typed into a
text cell on that page as it is, scripts included, and loads a script of its own from a network; a ``timestamp.txt``
that holds no time ends its list of the whole class. In ``nbgrader_config.py``::

    bear_bad_timestamps()
    c.HTMLExporter.filters = {"markdown2html": "bnlab.grading.formgrader.markdown"}
    c.HTMLExporter.sanitize_html = True  # outputs, too; the grader keeps none that are HTML but its own
    c.HTMLExporter.extra_template_basedirs = template_directories()

formgrader reads this when the Jupyter server starts, so start the server in the course directory.
"""

from collections.abc import Callable
from datetime import datetime
from functools import wraps
from html import escape
from pathlib import Path
from typing import Any

import bleach
from jinja2 import pass_context
from jinja2.runtime import Context
from nbconvert.filters.markdown_mistune import InvalidNotebook, IPythonRenderer, MarkdownWithMath
from nbgrader.apps.api import NbGraderAPI
from nbgrader.coursedir import CourseDirectory
from nbgrader.server_extensions.formgrader import handlers

TAGS = frozenset(
    "a abbr b blockquote br code dd del details div dl dt em h1 h2 h3 h4 h5 h6 hr i img kbd li ol p pre s span strong "
    "sub summary sup table tbody td tfoot th thead tr u ul".split()
)
LINKS = ("http://", "https://", "mailto:")
IMAGES = ("data:image/png;", "data:image/jpeg;", "data:image/gif;")  # inside the page: nobody is told who looks at it


def bear_bad_timestamps() -> None:
    """Let nbgrader, in this process, take a ``timestamp.txt`` that holds no time for none.

    Students can write this file. nbgrader has no setting for who reads it, so the methods that do are replaced.
    """
    CourseDirectory.get_existing_timestamp = _none_where_it_fails(CourseDirectory.get_existing_timestamp)
    NbGraderAPI.get_submitted_timestamp = _none_where_it_fails(NbGraderAPI.get_submitted_timestamp)


def _none_where_it_fails(read: Callable[..., datetime | None]) -> Callable[..., datetime | None]:
    @wraps(read)
    def bear(*args: Any, **kwargs: Any) -> datetime | None:
        try:
            return read(*args, **kwargs)
        except Exception:  # whatever comes of a binary file, a wrong date, a year 99999
            return None

    return read if hasattr(read, "__wrapped__") else bear  # it is called whenever a configuration is read


def template_directories() -> list[str]:
    """Where formgrader finds its templates: one of the course's own, then nbgrader's."""
    return [str(Path(__file__).parent / "templates"), handlers.template_path]


@pass_context
def markdown(context: Context, source: str) -> str:
    """A Jinja filter: Markdown as HTML that can do nothing but be read.

    Parameters
    ----------
    context : Context
        The template's. The cell in it may have images attached.
    source : str

    Returns
    -------
    str
        HTML without scripts, styles, forms, and anything that is loaded from elsewhere. What is not allowed is shown
        as text.
    """
    attachments = context.get("cell", {}).get("attachments", {})
    try:
        renderer = IPythonRenderer(escape=False, attachments=attachments, exclude_anchor_links=True)
        html = MarkdownWithMath(renderer=renderer).render(source)
    except (InvalidNotebook, ValueError, TypeError, AttributeError, RecursionError):  # an attachment that is not there
        return f"<pre>{escape(source)}</pre>"
    return bleach.clean(html, TAGS, _is_harmless, {"http", "https", "mailto", "data"})


def _is_harmless(tag: str, name: str, value: str) -> bool:
    """Whether a tag may have an attribute. None may have a name or a class: formgrader's own scripts look for them."""
    if tag == "a" and name == "href":
        return value.lower().startswith(LINKS)
    if tag == "img" and name == "src":
        return value.lower().startswith(IMAGES)
    return name in {"img": ("alt", "title"), "a": ("title",), "abbr": ("title",), "ol": ("start",)}.get(tag, ())
