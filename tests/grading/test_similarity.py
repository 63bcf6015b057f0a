"""Similar code: found through renaming, not found where there is only the same exercise."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnlab.grading.similarity import COMMON_AT_LEAST, PASSAGE, boilerplate_of, compare, fingerprints, tokens

HANDED_OUT = [
    "import numpy as np\n\n\ndef solve(x, y, z):\n    '''Do it.'''\n    raise NotImplementedError('write it')\n"
]
OPERATIONS = ("+", "-", "*", "/", "**", "//", "%", "<", ">", "<=", "==", "@")


def program(seed, lines=25):
    """Some code that nobody else writes."""
    rng = random.Random(seed)
    body = []
    for _ in range(lines):
        call = rng.choice(("np.sqrt", "np.mean", "abs", "len", "np.exp", "max", "sum", "np.log", "min", "np.where"))
        body.append(
            f"    a{rng.randrange(5)} = {call}(x {rng.choice(OPERATIONS)} {rng.randrange(1000)}) "
            f"{rng.choice(OPERATIONS)} y[{rng.randrange(1000)}]"
        )
    return "def solve(x, y, z):\n    '''Do it.'''\n" + "\n".join(body) + "\n    return a0\n"


def prints(**cells):
    boilerplate = boilerplate_of(HANDED_OUT)
    return {name: fingerprints([text] if isinstance(text, str) else text, boilerplate) for name, text in cells.items()}


def renamed(text):
    text = (
        text.replace("(x", "(first").replace("y[", "second[").replace("def solve(first, y", "def solve(first, second")
    )
    text = "".join(f"{line}  # my own idea\n" if "=" in line else f"{line}\n\n" for line in text.splitlines())
    return text.replace("'''Do it.'''", '"""Something else."""').replace("a0", "total")


def test_tokens_say_what_code_does():
    assert tokens("# note\ndef f(x, *, axis=0):\n    '''Doc.'''\n    return np.sum(x.mean(axis=1), 'a')\n") == (
        "def name ( name , * , axis = 0 ) : return np . sum ( name . mean ( axis = 1 ) , text )".split()
    )
    assert tokens("%matplotlib inline\n!ls\nx = 1") == ["name", "=", "1"]
    assert tokens("x = (1, 2") == ["name", "=", "(", "1", ",", "2"]
    assert tokens("") == [] and isinstance(tokens("if True:\n  x\n y"), list)


def test_renaming_comments_and_layout_hide_nothing():
    likeness = compare(prints(ann=program(1), bo=renamed(program(1)), cy=program(2), di=program(3)))
    assert likeness.groups == (("ann", "bo"),) and likeness.pairs == () and likeness.compared == 4


def test_a_copied_half_is_a_pair():
    half = program(1).splitlines()[:15]
    mixed = "\n".join([*half, *program(9).splitlines()[15:]])
    likeness = compare(prints(ann=program(1), bo=mixed, cy=program(2), di=program(3)))
    (pair,) = likeness.pairs
    assert (pair.first, pair.second) == ("ann", "bo") and 0.4 < pair.share < 0.8 and pair.shared >= 4


def test_moved_functions_are_found():
    first, second = program(1, 20), program(2, 20)
    likeness = compare(prints(ann=[first, second], bo=[second, "x = 1", first]))
    assert likeness.groups == (("ann", "bo"),)


def test_what_was_handed_out_and_what_all_have_does_not_count():
    assert len(prints(ann=HANDED_OUT)["ann"]) == 0
    shared = program(0)
    likeness = compare(prints(**{f"s{i}": [shared, program(i + 1)] for i in range(COMMON_AT_LEAST + 1)}))
    assert likeness.pairs == () and likeness.groups == ()


def test_a_large_group_with_the_same_code_is_still_named():
    same = {f"ring{i}": program(0) for i in range(30)}
    likeness = compare(prints(**same, **{f"s{i}": program(i + 1) for i in range(30)}))
    assert likeness.groups == (tuple(sorted(same)),) and likeness.pairs == ()


def test_nothing_to_compare():
    likeness = compare({})
    assert (likeness.pairs, likeness.groups, likeness.compared) == ((), (), 0)
    assert compare(prints(ann="x = 1", bo="x = 1")).compared == 0


@given(st.integers(0, 10**6), st.integers(0, 20))
def test_what_is_shared_and_long_enough_shares_a_fingerprint(seed, at):
    passage = program(seed, 6).splitlines()[2:8]
    lines = program(seed + 1, 20).splitlines()
    found = prints(a="\n".join(passage), b="\n".join([*lines[: 2 + at], *passage, *lines[2 + at :]]))
    assert np.intersect1d(found["a"], found["b"]).size


@given(st.lists(st.text(max_size=60), max_size=4))
def test_any_text_has_fingerprints_or_none(cells):
    found = fingerprints(cells, boilerplate_of([]))
    assert found.dtype == np.uint64 and (np.diff(found.astype(object)) > 0).all()


def test_fingerprints_are_the_same_everywhere():
    # Python's own hash of a text differs from run to run.
    assert fingerprints(["x = (y + z) * 2 - w / 3\nprint(x, y, z)"], boilerplate_of([])).tolist() == [
        684738743613347098
    ]


@pytest.mark.parametrize("size", [PASSAGE - 1, PASSAGE])
def test_short_code_is_not_compared(size):
    words = " ".join(["x"] + ["+ 1"] * ((size - 1) // 2) + (["+"] if size % 2 == 0 else []))
    assert len(tokens(words)) == size
    assert len(fingerprints([words], boilerplate_of([]))) == (size >= PASSAGE)
