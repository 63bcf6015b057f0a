"""Run the chapters again when the code they run has changed.

jupyter-cache looks a chapter up by the chapter's own cells, so by itself it would go on showing figures of an older
bnlab. This extension names the cache folder after everything else that a chapter's output depends on: the code of
bnlab, the problem sets, the recorded results, and the versions of Python and of the packages that compute and draw. It
does not look into the chapters: jupyter-cache does.
"""

import hashlib
import os
import platform
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("matplotlib", "numpy", "scikit-learn", "torch")
FILES = ("bnlab/**/*.py", "bnlab/*.mplstyle", "book/results/*.json", "exercises/ps*/*.py")
INSTRUCTORS_TOOLS = {"exercises", "grading"}  # folders of bnlab that no chapter runs
ABOUT_THE_SITE = "website.json"  # measured on the built site: no chapter reads it


def fingerprint(root: Path) -> str:
    """Return a hash of what the chapters under `root` (the repository) run on."""
    digest = hashlib.sha256(platform.python_version().encode())
    for package in PACKAGES:
        digest.update(f"{package}=={version(package)}".encode())
    files = [path for pattern in FILES for path in root.glob(pattern)]
    files = [path for path in files if path.parent.name not in INSTRUCTORS_TOOLS and path.name != ABOUT_THE_SITE]
    for path in sorted(files):
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def choose_cache(app, config):
    """Point myst-nb at the cache of this fingerprint; a new path also makes Sphinx read every page again."""
    folder = Path(app.outdir).parent / ".jupyter_cache" / fingerprint(Path(app.srcdir))
    config.nb_execution_cache_path = str(folder)
    # The kernels inherit it: bnlab.experiments.recall looks there for finished runs.
    os.environ.setdefault("BNLAB_CACHE", str(Path(app.outdir).parent / "experiments"))


def setup(app):
    """Connect to Sphinx."""
    app.connect("config-inited", choose_cache)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
