"""Get the Python that runs in the pages, and pack what it needs of the course: `make in-page`.

    python scripts/fetch_in_page.py [--if-possible]

Two archives are downloaded by npm and pip, once, and checked against the sums below. What a page needs of them goes to
`_build/in_page/python/`, from where the site serves it, with a list of the files, `contents.json`:

    pyodide.js  pyodide.asm.js  pyodide.asm.wasm.gz     CPython 3.11.3 for WebAssembly
    python_stdlib.zip.gz                                its standard library
    numpy.tar.gz                                        NumPy 1.25.2, without its tests and build tools
    bnlab.tar.gz                                        the NumPy core of bnlab, and the checks of ps1 to ps3

Static hosts don't compress such files by themselves, so they are stored compressed, and the page's worker unpacks them.
With --if-possible, archives that can't be had are no error: the site is built without Python in its pages.
"""

import gzip
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLACE = ROOT / "_build" / "in_page"
SETS = ("ps1_scaling", "ps2_forward", "ps3_backward")

PYODIDE = "pyodide-0.24.1.tgz", "028563a8ecf77e48a520e54fff5b7d6c955f2f8a69387f42ca38969cdbf67eae"
XEUS_PYTHON = (
    "jupyterlite_xeus_python-1.0.0-py3-none-any.whl",
    "0be2393d3f738ecc920c6b5ec261c83d0ff2a1d79cdf5b8167dcdb95464b7e86",
)
NUMPY = "xeus-python-kernel/static/numpy-1.25.2-py311he9a3d86_2.tar.gz"  # the end of its name in the wheel
SITE_PACKAGES = "lib/python3.11/site-packages/"

# Of NumPy, what `import numpy` never asks for: tests, tools for building extensions, types for editors, and a second
# LAPACK beside the one that numpy.linalg uses.
NOT_NEEDED = (
    "numpy/array_api/",
    "numpy/distutils/",
    "numpy/f2py/",
    "numpy/_pyinstaller/",
    "numpy/random/_examples/",
    "numpy/typing/",
    "numpy/core/_operand_flag_tests.",
    "numpy/core/_rational_tests.",
    "numpy/core/_simd.",
    "numpy/core/_struct_ufunc_tests.",
    "numpy/core/_umath_tests.",
    "numpy/linalg/lapack_lite.",
)
OF_BNLAB = ("__init__.py", "moments.py", "reference.py", "checks/*.py", "in_page/*.py")


class Unavailable(Exception):
    """An archive can't be had: no client, or no network."""


class WrongSum(Exception):
    """An archive isn't the one that was tried."""


def download(name, sha256, command):
    """Return the bytes of an archive: of the one that is there, or else of the one that `command` gets."""
    path = PLACE / "downloads" / name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        print(f"downloading {name} ...", file=sys.stderr)
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            try:
                run = subprocess.run([*command, scratch], cwd=scratch, capture_output=True, text=True)
            except FileNotFoundError:
                raise Unavailable(f"{name} is fetched by {command[0]}, which is not on PATH: install it") from None
            got = Path(scratch) / name
            if run.returncode or not got.is_file():
                words = (run.stderr.strip() or run.stdout.strip() or "it said nothing").splitlines()
                raise Unavailable(f"{name} could not be fetched by `{' '.join(command[:-1])}`: {words[-1]}")
            got.replace(path)
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise WrongSum(
            f"{path} has the SHA-256 sum {found}, expected {sha256}: it is not the archive that was tried with the "
            "course. Delete it and try again. If it comes back the same, don't use it."
        )
    return data


def fetch():
    """Return the files of the two archives that a page needs, by name."""
    npm = ("npm", "pack", "pyodide@0.24.1", "--silent", "--pack-destination")
    pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "jupyterlite-xeus-python==1.0.0", "--dest")
    with tarfile.open(fileobj=io.BytesIO(download(*PYODIDE, npm))) as archive:
        names = ("pyodide.js", "pyodide.asm.js", "pyodide.asm.wasm", "python_stdlib.zip")
        files = {name: archive.extractfile(f"package/{name}").read() for name in names}
    with zipfile.ZipFile(io.BytesIO(download(*XEUS_PYTHON, pip))) as wheel:
        inner = next(name for name in wheel.namelist() if name.endswith(NUMPY))
        files["numpy.tar"] = pack(needed_of_numpy(wheel.read(inner)))
    return files


def needed_of_numpy(data):
    """Give the files of NumPy that a page needs: (path in site-packages, bytes)."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            name = member.name.removeprefix(SITE_PACKAGES)
            unwanted = name.startswith(NOT_NEEDED) or "/tests/" in name or name.endswith((".pyi", "setup.py"))
            if member.isfile() and name.startswith("numpy/") and not unwanted:
                yield name, archive.extractfile(member).read()


def of_the_course():
    """Give the files of the course that a page needs: bnlab's, and each set's checks in a folder of its own."""
    bnlab = ROOT / "bnlab"
    for path in sorted(path for pattern in OF_BNLAB for path in bnlab.glob(pattern)):
        yield f"bnlab/{path.relative_to(bnlab).as_posix()}", path.read_bytes()
    for name in SETS:
        yield f"problem_sets/{name}/checks.py", (ROOT / "exercises" / name / "checks.py").read_bytes()


def pack(files):
    """Return a tar of (path, bytes) pairs; the same files give the same tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in sorted(files):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def write(files):
    """Write what the site serves to _build/in_page/python, with the list of it."""
    new = PLACE / "python.new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    listed = {}
    for name, data in files.items():
        if not name.endswith(".js"):  # scripts are loaded by the browser itself
            name, data = f"{name}.gz", gzip.compress(data, 9, mtime=0)
        (new / name).write_bytes(data)
        listed[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (new / "contents.json").write_text(json.dumps({"files": listed}, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(PLACE / "python", ignore_errors=True)
    new.rename(PLACE / "python")
    total = sum(entry["bytes"] for entry in listed.values())
    print(f"Python for the pages: {PLACE / 'python'}, {total / 1e6:.1f} MB")


def main(arguments):
    """Return the exit status."""
    try:
        write(fetch() | {"bnlab.tar": pack(of_the_course())})
    except WrongSum as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Unavailable as error:
        if "--if-possible" not in arguments:
            print(f"error: {error}", file=sys.stderr)
            return 1
        print(f"note: {error}\nThe site is built without Python in its pages.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
