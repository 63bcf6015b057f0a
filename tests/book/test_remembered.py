"""Numbers of figures that are measured once: book/_ext/remembered.py."""

import sys

import pytest
from browsing import ROOT

pytest.importorskip("torch", reason="experiments need torch: pip install '.[book]'")
sys.path.append(str(ROOT / "book" / "_ext"))
from remembered import remembered


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Ask for a number as a figure does; what comes back, and how often it was measured."""
    monkeypatch.setenv("BNLAB_CACHE", str(tmp_path / "cache"))
    source, calls = tmp_path / "figure.py", []
    source.write_text("first\n", encoding="utf-8")

    def ask(value=(1, 2), experiment="color_shift"):
        def measure():
            calls.append(1)
            return value

        return remembered(str(source), experiment, measure), len(calls)

    ask.source, ask.cache = source, tmp_path / "cache"
    return ask


def test_it_is_measured_once_and_comes_back_as_json(measured):
    assert measured() == ([1, 2], 1)
    assert measured() == ([1, 2], 1)
    assert [path.suffix for path in measured.cache.iterdir()] == [".json"]


def test_it_is_measured_again_when_code_changes(measured):
    measured()
    assert measured(experiment="vgg_insertion")[1] == 2
    measured.source.write_text("second\n", encoding="utf-8")
    assert measured()[1] == 3


def test_what_json_does_not_know_is_not_kept(measured):
    with pytest.raises(ValueError, match="JSON"):
        measured(value=float("nan"))
    assert measured(value=3.0) == (3.0, 2)
