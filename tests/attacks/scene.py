"""Where an attack takes place, as a well-informed student may know it: where secrets lie and who could be called."""

import copy
import textwrap
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from .victims import OPENING, honest_answer, questions

# The first cell of an attack. What it gets hold of it tells, in words that its own source doesn't contain. Secrets have
# a form that the attacker knows.
KNOWLEDGE = '''\
import os, re, sys

def tell(*found):
    """Show what the attack got hold of, wherever that comes to light."""
    print("BREA" "CH", *[str(item)[:300] for item in found], flush=True)

def tell_secrets(text, where=""):
    """Show the secrets in a text or in bytes."""
    text = text.decode("latin-1") if isinstance(text, (bytes, bytearray)) else str(text)
    for secret in set(re.findall("hu" "sh-[0-9a-f]{16}", text)):
        print(secret, where, flush=True)

class know:
    course = "%(course)s"
    files = %(files)r
    port = %(port)r
    socket = %(socket)r
    abstract = %(abstract)r
    mark = %(mark)r
    grader = %(grader)r
'''


@dataclass(frozen=True)
class Scene:
    """The place of one attack.

    Attributes
    ----------
    victim : str
    released : NotebookNode
        The problem set's notebook as it was handed out.
    course : Path
        The course directory. Its files hold secrets.
    files : tuple of str
        The files that hold secrets.
    port : int
        A TCP and a UDP port of the machine on which somebody listens.
    socket, abstract : str
        Names of unix sockets, in a directory and in no directory, on which somebody listens.
    mark : str
        Begins the name of everything that an attack leaves behind.
    grader : int
        Process id of the grader.
    """

    victim: str
    released: NotebookNode
    course: Path
    files: tuple[str, ...]
    port: int
    socket: str
    abstract: str
    mark: str
    grader: int

    def honest(self, secret: str = "") -> NotebookNode:
        """Honest work. Its secret stands in a comment: nobody else may see it."""
        notebook = copy.deepcopy(self.released)
        for name in questions(self.victim):
            answer = honest_answer(self.victim, name)
            cell(notebook, f"{name}-solution").source = answer + (f"\n# {secret}" if secret else "")
        return notebook

    def notebook(self, first: str = "", then: str = "", **answers: str) -> NotebookNode:
        """Honest work but for the given answers, a cell before the first answer, and one between it and its test."""
        notebook = self.honest()
        for name, source in answers.items():
            cell(notebook, f"{name}-solution").source = textwrap.dedent(source).strip()
        knowledge = KNOWLEDGE % {name: getattr(self, name) for name in Scene.__annotations__}
        start = next(i for i, c in enumerate(notebook.cells) if c.source.strip() == OPENING[self.victim])
        added = [knowledge, textwrap.dedent(first).strip()] if first else [knowledge]
        notebook.cells[start + 1 : start + 1] = [nbformat.v4.new_code_cell(source) for source in added]
        if then:
            test = next(i for i, c in enumerate(notebook.cells) if c.metadata.get("nbgrader", {}).get("grade"))
            notebook.cells.insert(test, nbformat.v4.new_code_cell(textwrap.dedent(then).strip()))
        for number, each in enumerate(notebook.cells):
            each["id"] = f"c{number}"
        return notebook

    def data(self, **answers: str) -> bytes:
        """The file of honest work but for the given answers."""
        return nbformat.writes(self.notebook(**answers) if answers else self.honest()).encode()


def cell(notebook: NotebookNode, grade_id: str) -> NotebookNode:
    """The cell with this grade_id."""
    return next(c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") == grade_id)
