"""`bnlab doctor`: it finds what is here, names what isn't and what to type, and its verdict is about what one needs."""

from importlib import metadata

import pytest
from typer.testing import CliRunner

from bnlab import doctor
from bnlab.cli import app


def test_everything_found_here_has_its_version():
    for finding in doctor.examine():
        if finding.name == "numpy":
            assert finding.ok and finding.version == metadata.version("numpy")


def test_missing_and_old_packages_are_named_with_a_remedy(monkeypatch):
    packages = [
        ("a part", "no-such-package", "1", "pip install it"),
        ("NumPy problem sets", "numpy", "999", "newer numpy"),
    ]
    monkeypatch.setattr(doctor, "PACKAGES", packages)
    monkeypatch.setattr(doctor, "PROGRAMS", [("grading", ("no-such-program",), "apt-get install it")])
    findings = {finding.name: finding for finding in doctor.examine()}
    assert not findings["no-such-package"].ok and findings["no-such-package"].version == ""
    assert not findings["numpy"].ok and findings["numpy"].version
    assert not findings["no-such-program"].ok
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 1
    for text in ("no-such-package", "missing", "pip install it", "newer numpy", "apt-get install it"):
        assert text in done.stdout


def test_what_one_may_do_without_does_not_fail_it(monkeypatch):
    monkeypatch.setattr(doctor, "PACKAGES", [("grading", "no-such-package", "1", "pip install it")])
    assert CliRunner().invoke(app, ["doctor"]).exit_code == 0


def test_versions_compare_as_numbers():
    assert doctor._numbers("1.10") > doctor._numbers("1.9.3")
    assert doctor._numbers("2.13.0+cpu") == (2, 13, 0)
    assert doctor._numbers("1.0.4.post1") == (1, 0, 4)


def test_it_says_which_code_normalizes(monkeypatch):
    pytest.importorskip("numba")
    backends = pytest.importorskip("bnlab.backends")
    finding = doctor._backends()[0]
    assert finding.ok and finding.version == "numba"
    monkeypatch.setattr(backends, "_loaded", {"numba": None})
    without = doctor._backends()[0]
    assert not without.ok and without.version == "torch's own" and "bnlab[fast]" in without.remedy
