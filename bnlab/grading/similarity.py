"""How much code two submissions share that few others have: a hint where to look, and never a proof.

This is winnowing (Schleimer, Wilkerson & Aiken 2003), the method behind MOSS. The code of a submission is read as
tokens; comments, docstrings and layout don't count, and names that the student chose are all the same, so renaming
hides nothing. Every passage of `PASSAGE` tokens is hashed, and of every `WINDOW` hashes in a row the smallest is kept
as a fingerprint: whatever two submissions share of `PASSAGE + WINDOW - 1` tokens or more, they share a fingerprint of.
Passages of the notebook that was handed out are left out, and so are those that many in the class have: they are how
one writes it.

All this is linear in the number of submissions, but for counting what pairs share, which goes through an index from
fingerprints to submissions and never looks at pairs that share nothing.
"""

import builtins
import hashlib
import keyword
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np

PASSAGE = 14  # tokens
WINDOW = 8  # hashes
COMMON_SHARE = 0.05  # of the class: what more have in common says nothing about two of them
COMMON_AT_LEAST, COMMON_AT_MOST = 4, 40  # submissions; the upper one bounds the number of pairs per fingerprint
FEWEST_SHARED = 4  # fingerprints
SMALLEST_SHARE = 0.5
CELL_LIMIT = 200_000  # characters of a cell that are looked at
TOKENS_LIMIT = 50_000  # tokens of a submission that are looked at

_MAGIC = re.compile(r"^[%!?].*", re.MULTILINE)  # IPython's own lines
# Every alternative ends somewhere, be it at the end of the text: no code makes it look at anything twice.
_TOKEN = re.compile(
    r"""
    (?P<comment> \#[^\n]* | \\\n )
    | (?P<string> (?:\b[rbfuRBFU]{1,2})? (?:
        \"{3} (?> \\. | [^\\] | \\\Z )*? (?: \"{3} | \Z )
        | '{3} (?> \\. | [^\\] | \\\Z )*? (?: '{3} | \Z )
        | " (?> \\. | [^"\\\n] )*+ "?
        | ' (?> \\. | [^'\\\n] )*+ '?
    ) )
    | (?P<number> \.?\d (?: [eE][-+]\d | [\w.] )*+ )
    | (?P<name> \w++ )
    | (?P<line> \n )
    | (?P<sign> \*\*=? | //=? | >>=? | <<=? | -> | := | [!=<>]= | [-+*/%@&|^]= | [^\s] )
    """,
    re.VERBOSE | re.DOTALL,
)
_BREAK = ("line", "\n")
_KNOWN = frozenset((*keyword.kwlist, *dir(builtins), "np", "torch", "self"))
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Pair:
    """Two submissions that share uncommon passages.

    Attributes
    ----------
    first, second : str
        Ids of the students.
    shared : int
        Fingerprints that both have.
    share : float
        That number by the fingerprints of the one that has fewer; 1 where everything uncommon in it is in the other.
    """

    first: str
    second: str
    shared: int
    share: float


@dataclass(frozen=True)
class Likeness:
    """What a class has in common.

    Attributes
    ----------
    pairs : tuple of Pair
        Those worth a look, the closest first.
    groups : tuple of tuple of str
        Students whose code is the same token by token, but for names, comments and layout. They are in no pair among
        themselves; one stands for all.
    compared : int
        Submissions with code of their own.
    """

    pairs: tuple[Pair, ...]
    groups: tuple[tuple[str, ...], ...]
    compared: int


def boilerplate_of(handed_out: Iterable[str]) -> np.ndarray:
    """Hashes of all passages of the notebook that was handed out, sorted. Code like that is nobody's own."""
    found = list(_passages(handed_out))
    return np.unique(np.concatenate(found)) if found else np.empty(0, np.uint64)


def fingerprints(cells: Iterable[str], boilerplate: np.ndarray) -> np.ndarray:
    """The fingerprints of one submission's code.

    Parameters
    ----------
    cells : iterable of str
    boilerplate : ndarray of uint64
        From `boilerplate_of`.

    Returns
    -------
    ndarray of uint64
        Sorted, each once.
    """
    kept = [_winnow(hashes) for hashes in _passages(cells)]
    kept = np.unique(np.concatenate(kept)) if kept else np.empty(0, np.uint64)
    return kept[~np.isin(kept, boilerplate)]


def compare(prints: Mapping[str, np.ndarray]) -> Likeness:
    """Compare a class by the fingerprints of its submissions, as :func:`fingerprints` gives them."""
    prints = {student: found for student, found in prints.items() if len(found)}
    same: dict[bytes, list[str]] = defaultdict(list)
    for student in sorted(prints):
        if len(prints[student]) >= FEWEST_SHARED:
            same[prints[student].tobytes()].append(student)
    groups = tuple(tuple(students) for students in same.values() if len(students) > 1)
    standing_for = {student for students in groups for student in students[1:]}
    students = [student for student in sorted(prints) if student not in standing_for]

    limit = min(max(COMMON_AT_LEAST, math.ceil(COMMON_SHARE * len(prints))), COMMON_AT_MOST)
    holders: dict[int, list[int]] = defaultdict(list)
    for place, student in enumerate(students):
        for fingerprint in prints[student].tolist():
            holders[fingerprint].append(place)
    own: Counter[int] = Counter()  # uncommon fingerprints of each
    shared: Counter[tuple[int, int]] = Counter()
    for places in holders.values():
        if len(places) <= limit:
            own.update(places)
            shared.update(combinations(places, 2))
    pairs = []
    for (a, b), count in shared.items():
        share = count / min(own[a], own[b])
        if count >= FEWEST_SHARED and share >= SMALLEST_SHARE:
            pairs.append(Pair(students[a], students[b], count, share))
    pairs.sort(key=lambda pair: (-pair.share, -pair.shared, pair.first, pair.second))
    return Likeness(tuple(pairs), groups, len(prints))


def _passages(cells: Iterable[str]) -> Iterator[np.ndarray]:
    """The hashes of all passages of each cell, in their order. No passage goes beyond its cell."""
    room = TOKENS_LIMIT
    for cell in cells:
        words = tokens(cell)[:room]
        room -= len(words)
        if len(words) >= PASSAGE:
            numbers = np.array([_number(word) for word in words], np.uint64)
            hashes = np.zeros(len(numbers) - PASSAGE + 1, np.uint64)
            for place in range(PASSAGE):
                hashes = hashes * _MULTIPLIER + numbers[place : place + len(hashes)]
            yield _mixed(hashes)


def _mixed(hashes: np.ndarray) -> np.ndarray:
    """Spread them over all 64 bits, so that the smallest of a window is as good as drawn (the end of splitmix64)."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))


def _winnow(hashes: np.ndarray) -> np.ndarray:
    """The smallest hash of every window; of a short cell, of the whole."""
    if len(hashes) <= WINDOW:
        return hashes.min(keepdims=True)
    return np.unique(np.lib.stride_tricks.sliding_window_view(hashes, WINDOW).min(axis=1))


@lru_cache(maxsize=100_000)
def _number(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest(), "little")


def tokens(source: str) -> list[str]:
    """Code as a list of words that say what it does.

    A name that the student chose becomes "name", text "text". Attributes (``x.mean``), keyword arguments (``axis=``),
    functions of Python's own and what is called on a module (``np.sqrt``) stay as they are; comments, docstrings and
    line breaks go.

    Parameters
    ----------
    source : str
        Of one cell. It need not be Python.

    Returns
    -------
    list of str
    """
    # Python's own tokenizer takes ten times as long, and gives up where code is broken.
    found = [(match.lastgroup, match.group()) for match in _TOKEN.finditer(_MAGIC.sub("", source[:CELL_LIMIT]))]
    found = [(kind, text) for kind, text in found if kind != "comment"]
    words, depth = [], 0
    for place, (kind, text) in enumerate(found):
        before = found[place - 1] if place else _BREAK
        after = found[place + 1] if place + 1 < len(found) else _BREAK
        if kind == "name":
            words.append(_word(text, before[1], after[1], depth))
        elif kind == "string":
            alone = depth == 0 and before[0] == after[0] == "line"  # a docstring
            words += [] if alone else ["text"]
        elif kind != "line":
            depth = max(0, depth + (text in "([{") - (text in ")]}"))
            words.append(text)
    return words


def _word(name: str, before: str, after: str, depth: int) -> str:
    keyword_argument = depth > 0 and after == "=" and before in ("(", ",")
    return name if before == "." or keyword_argument or name in _KNOWN else "name"
