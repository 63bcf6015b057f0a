"""Puts the Python that runs in the pages into the site: `_build/in_page/python/` under `_static/in_page/python/`.

`make in-page` gets it. Where it isn't there, the site is built without it, its pages say so when a reader asks for
Python, and CI stops.
"""

import os
import shutil
from pathlib import Path

from sphinx.errors import ExtensionError
from sphinx.util import logging

MADE = Path(__file__).parents[2] / "_build" / "in_page" / "python"

logger = logging.getLogger(__name__)


def copy(app, failure):
    """Copy the files once the site is built; without them a copy from an earlier build goes, too."""
    if failure or app.builder.format != "html":
        return
    made, served = Path(app.config.in_page_python), Path(app.outdir) / "_static" / "in_page" / "python"
    shutil.rmtree(served, ignore_errors=True)
    if (made / "contents.json").is_file():
        shutil.copytree(made, served)
    elif os.environ.get("CI"):
        raise ExtensionError(f"{made} holds no Python for the pages: run `make in-page`")
    else:
        logger.info("This site has no Python in its pages: %s is not there. `make in-page` gets it.", made)


def setup(app):
    """Register the folder and the copying."""
    app.add_config_value("in_page_python", str(MADE), "")
    app.connect("build-finished", copy)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
