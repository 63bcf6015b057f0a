"""What may lie in a course's ``submitted/`` beside an honest notebook: links, devices, bombs, names."""

import io
import os
import socket
import stat
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .scene import Scene

FOLDERS: dict[str, Callable[[Path, Scene, str], None]] = {}


def folder(build: Callable[[Path, Scene, str], None]) -> Callable:
    """Declare a hostile folder: a function of the student's folder (not made yet), the scene, the problem set's name.

    Its docstring says what it tries.
    """
    FOLDERS[build.__name__] = build
    return build


def _room(student: Path, name: str) -> Path:
    room = student / name
    room.mkdir(parents=True)
    return room


@folder
def link_to_the_seed(student, scene, name):
    """Hands in a link to the grading seed."""
    (_room(student, name) / f"{name}.ipynb").symlink_to(scene.course / "grading_seed")


@folder
def link_to_an_honest_notebook(student, scene, name):
    """Hands in a link to somebody else's notebook."""
    (_room(student, name) / f"{name}.ipynb").symlink_to(f"../../honest_first/{name}/{name}.ipynb")


@folder
def link_to_an_honest_folder(student, scene, name):
    """Hands in a link to somebody else's folder."""
    student.mkdir()
    (student / name).symlink_to(f"../honest_first/{name}")


@folder
def link_to_the_whole_disk(student, scene, name):
    """Is a link to the root directory."""
    student.symlink_to("/")


@folder
def link_to_an_endless_device(student, scene, name):
    """Hands in a link to a device that never ends."""
    (_room(student, name) / f"{name}.ipynb").symlink_to("/dev/zero")


@folder
def link_to_itself(student, scene, name):
    """Hands in a link that leads to itself, in a folder with a link to its parent."""
    room = _room(student, name)
    (room / f"{name}.ipynb").symlink_to(f"{name}.ipynb")
    (room / "up").symlink_to("..")


@folder
def hard_link_to_the_seed(student, scene, name):
    """Hands in the file of the grading seed itself, under another name."""
    os.link(scene.course / "grading_seed", _room(student, name) / f"{name}.ipynb")


@folder
def named_pipe(student, scene, name):
    """Hands in a pipe on which nobody ever writes."""
    os.mkfifo(_room(student, name) / f"{name}.ipynb")


@folder
def unix_socket(student, scene, name):
    """Hands in a socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        place = os.open(_room(student, name), os.O_DIRECTORY)  # a socket's path must be short
        sock.bind(f"/proc/self/fd/{place}/{name}.ipynb")
        os.close(place)


@folder
def device_file(student, scene, name):
    """Hands in a device of its own that never ends."""
    with suppress(PermissionError):  # only root can make one
        os.mknod(_room(student, name) / f"{name}.ipynb", 0o666 | stat.S_IFCHR, os.makedev(1, 5))


@folder
def directory_for_a_file(student, scene, name):
    """Hands in a directory that is called like the notebook."""
    (_room(student, name) / f"{name}.ipynb").mkdir()


@folder
def sparse_terabyte(student, scene, name):
    """Hands in a file that says it is a terabyte long."""
    with open(_room(student, name) / f"{name}.ipynb", "wb") as file:
        file.truncate(2**40)


@folder
def zip_bomb(student, scene, name):
    """Hands in an archive that unpacks to gigabytes, called a notebook, and the same as an archive."""
    room, packed = _room(student, name), io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        zeros = bytes(2**24)
        for number in range(4):
            archive.writestr(f"{name}-{number}.ipynb", zeros)
    (room / f"{name}.ipynb").write_bytes(packed.getvalue())
    (room / f"{name}.zip").write_bytes(packed.getvalue())


@folder
def archive_of_other_places(student, scene, name):
    """Hands in an archive whose names lead out of its folder, beside an honest notebook."""
    room, packed = _room(student, name), io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in (f"../../honest_first/{name}/{name}.ipynb", f"/tmp/{scene.mark}-archive", "../../../gradebook.db"):
            archive.writestr(path, "{}")
    (room / f"{name}.zip").write_bytes(packed.getvalue())
    (room / f"{name}.ipynb").write_bytes(scene.data())


@folder
def modules_beside_the_notebook(student, scene, name):
    """Brings checks.py, numpy.py, sitecustomize.py and settings of Jupyter, which must not be imported or kept."""
    room = _room(student, name)
    code = f"open('/tmp/{scene.mark}-module', 'w')\ncheck = problem_set = lambda *args: 1000\n"
    for other in ("checks.py", "numpy.py", "sitecustomize.py", "conftest.py", "nbgrader_config.py", "json.py",
                  "ipython_config.py", "jupyter_config.py", "record.json", "gradebook.db"):  # fmt: skip
        (room / other).write_text(code)
    (room / "start.pth").write_text(f"import os; os.system('touch /tmp/{scene.mark}-pth')")
    (room / "checks").mkdir()
    (room / "checks" / "__init__.py").write_text(code)
    (room / f"{name}.ipynb").write_bytes(scene.data(mean_of="def mean_of(x):\n    return np.zeros(3)"))


@folder
def strange_timestamp(student, scene, name):
    """Brings a timestamp that is a link to a secret, beside an honest notebook."""
    room = _room(student, name)
    (room / "timestamp.txt").symlink_to(scene.files[0])
    (room / f"{name}.ipynb").write_bytes(scene.data())


@folder
def ten_thousand_files(student, scene, name):
    """Brings ten thousand other files, and folders nested a hundred deep."""
    room = _room(student, name)
    for number in range(10_000):
        (room / f"file-{number}").touch()
    Path(room, *["d"] * 100).mkdir(parents=True)
    (room / f"{name}.ipynb").write_bytes(scene.data())


# Names of students: what a shell, a page, a spreadsheet, a pattern or a path could take for something else.
NAMES = (
    "<script>alert(1)</script>".replace("/", "\u2215"),
    "=cmd|' \u2215c calc'!A1",
    "-rf",
    "$(touch x)",
    "`id`; id | id",
    "..\u2215..\u2215x",
    "...",
    "*",
    "[a-z]",
    "line\nbreak",
    "\x1b[31mred\x1b]0;title\x07",
    "\u202egnp.exe",
    "%s%n{0}",
    "'; DROP TABLE student; --",
    "n" * 200,
    "LaTeX $\\input{x}$",
)


@contextmanager
def swapping(student: Path, scene: Scene, name: str) -> Iterator[None]:
    """While it lasts, what a student has handed in is an honest file, a link to a secret and a pipe, by turns."""
    path = _room(student, name) / f"{name}.ipynb"
    other, over = path.with_name("other"), threading.Event()

    def swap() -> None:
        makers = (
            lambda: other.write_bytes(scene.data()),
            lambda: other.symlink_to(scene.files[0]),
            lambda: os.mkfifo(other),
        )
        while not over.is_set():
            for make in makers:
                make()
                os.replace(other, path)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
