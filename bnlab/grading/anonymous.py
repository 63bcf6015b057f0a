"""Pseudonyms for students: the same for a student in every problem set, and no way back without the course's key."""

import base64
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from bnlab.grading.course import CourseError

KEY_FILE = "pseudonym_key"
BITS = 50  # two of 10,000 students share a pseudonym in one of 20 million courses


class Pseudonyms:
    """Names that hide who someone is.

    A pseudonym is a keyed hash (HMAC with SHA-256) of the student's id. Who has the key can tell who is behind it, by
    trying all ids of the class; who has not, can't.

    Parameters
    ----------
    course : Path
        Its file ``pseudonym_key`` keeps the key. It is made when it is missing, readable for its owner alone. Without
        the file all pseudonyms are new.

    Raises
    ------
    CourseError
        The file holds no key.
    """

    def __init__(self, course: Path):
        path = course / KEY_FILE
        try:
            with open(path, "x", encoding="ascii", opener=lambda name, flags: os.open(name, flags, 0o600)) as made:
                made.write(f"{secrets.token_hex(32)}\n")
        except FileExistsError:
            pass
        text = path.read_text(encoding="ascii", errors="replace").strip()
        try:
            self._key = bytes.fromhex(text)
        except ValueError:
            self._key = b""
        if len(self._key) != 32:
            raise CourseError(
                f"{path} holds no key, expected 64 hexadecimal digits: put the old file back, "
                "or delete it for new pseudonyms"
            )

    def __call__(self, student: str) -> str:
        """The pseudonym of a student, such as ``anon-k3v7qhx2mp``."""
        digest = hmac.digest(self._key, student.encode("utf-8", "surrogateescape"), hashlib.sha256)
        return "anon-" + base64.b32encode(digest)[: BITS // 5].decode("ascii").lower()
