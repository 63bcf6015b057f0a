"""Is a course directory ready for grading? What is missing is named, by `preflight` and by nbgrader's own commands."""

import os
import shutil
import stat

import pytest
from conftest import NAME, hand_in
from nbgrader.api import Gradebook

from bnlab.grading.course import (
    GRADING_CASES,
    CourseError,
    assignments_in,
    grading_environment,
    load_course,
    preflight,
    run_nbgrader,
)


@pytest.fixture
def ready(course, answered):
    hand_in(course, "amara", answered())
    return course


def test_ready_course(ready):
    preflight(ready, NAME)
    assert assignments_in(load_course(ready).db_url) == [NAME]


def without_config(course):
    (course / "nbgrader_config.py").unlink()


def without_source(course):
    shutil.rmtree(course / "source")


def without_release(course):
    shutil.rmtree(course / "release")


def without_gradebook(course):
    (course / "gradebook.db").unlink()


def with_empty_gradebook(course):
    (course / "gradebook.db").write_bytes(b"")


def with_nonsense_as_gradebook(course):
    (course / "gradebook.db").write_bytes(b"this is no database" * 100)


def with_another_courses_gradebook(course):
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        gradebook.remove_assignment(NAME)
        gradebook.add_assignment("ps9_other")


def without_submissions(course):
    shutil.rmtree(course / "submitted")


def with_unknown_driver(course):
    os.environ["BNLAB_DB_URL"] = "postgresql+nodriver://user:secret@host/grades"


MISSING = [
    (without_config, ["has no nbgrader_config.py", "name another"]),
    (without_source, ["has no problem set 'ps1_tiny', it has none", "bnlab exercises release ps1_tiny"]),
    (without_release, ["has no notebook", "nbgrader generate_assignment ps1_tiny"]),
    (without_gradebook, ["there is no gradebook", "gradebook.db", "nbgrader generate_assignment"]),
    (with_empty_gradebook, ["gradebook.db is empty", "nbgrader generate_assignment"]),
    (with_nonsense_as_gradebook, ["cannot be read (file is not a database)", "BNLAB_DB_URL"]),
    (
        with_another_courses_gradebook,
        ["does not know ps1_tiny, only ps9_other", "nbgrader generate_assignment ps1_tiny"],
    ),
    (without_submissions, ["nobody has handed in ps1_tiny", "submitted/*/ps1_tiny", "nbgrader zip_collect ps1_tiny"]),
    (with_unknown_driver, ["cannot be read", "nodriver", "BNLAB_DB_URL"]),
]


@pytest.mark.parametrize(("damage", "phrases"), MISSING, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_missing_is_named(ready, damage, phrases):
    damage(ready)
    with pytest.raises(CourseError) as caught:
        preflight(ready, NAME)
    assert all(phrase in str(caught.value) for phrase in phrases), str(caught.value)
    assert "secret" not in str(caught.value)


def test_unusable_names_alone_are_refused(ready):
    (ready / "submitted" / "amara").rename(ready / "submitted" / "am\nara")
    with pytest.raises(CourseError, match=r"'am\\nara' in submitted: .* a line break .*: rename the folder"):
        preflight(ready, NAME)


def test_unknown_name_gets_a_suggestion(ready):
    with pytest.raises(CourseError, match="it has ps1_tiny: did you mean ps1_tiny"):
        preflight(ready, "ps1_tinny")


@pytest.mark.parametrize(("damage", "phrases"), MISSING[1:7], ids=lambda value: getattr(value, "__name__", ""))
def test_autograde_says_it_too_and_makes_no_gradebook(ready, damage, phrases):
    damage(ready)
    before = (ready / "gradebook.db").exists()
    status, log = run_nbgrader(ready, "autograde", NAME)
    assert status == 1
    assert all(phrase in log for phrase in phrases), log
    assert not (ready / "autograded").exists()
    assert (ready / "gradebook.db").exists() == before


def test_export_without_gradebook(ready):
    without_gradebook(ready)
    status, log = run_nbgrader(ready, "export")
    assert status == 1 and "there is no gradebook" in log
    assert not (ready / "gradebook.db").exists() and not (ready / "grades.csv").exists()


def test_another_database_is_used_where_it_is_named(ready, tmp_path):
    shutil.move(ready / "gradebook.db", tmp_path / "shared.db")
    os.environ["BNLAB_DB_URL"] = f"sqlite:///{tmp_path / 'shared.db'}"
    preflight(ready, NAME)
    status, log = run_nbgrader(ready, "export")
    assert status == 0, log
    assert not (ready / "gradebook.db").exists()


def test_commands_leave_this_process_as_it_was(course, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    lines = []
    status, log = run_nbgrader(course, "db", "assignment", "list", line=lines.append)
    assert status == 0 and f"1 assignments in the database:\n{NAME}" in log and any(NAME in line for line in lines)
    assert run_nbgrader(course, "autograde")[0] == 1
    assert os.getcwd() == str(tmp_path) and dict(os.environ) == before


def test_grading_seed_is_made_once_and_kept(tmp_path):
    first = grading_environment(tmp_path)
    assert first["BNLAB_CASES"] == str(GRADING_CASES) and first["BNLAB_SEED"].isdigit()
    assert grading_environment(tmp_path) == first
    assert stat.S_IMODE((tmp_path / "grading_seed").stat().st_mode) == 0o600
    (tmp_path / "other").mkdir()
    assert grading_environment(tmp_path / "other")["BNLAB_SEED"] != first["BNLAB_SEED"]


def test_seed_in_the_environment_goes_first(tmp_path, monkeypatch):
    monkeypatch.setenv("BNLAB_SEED", "5")
    assert grading_environment(tmp_path) == {"BNLAB_CASES": str(GRADING_CASES)}
    assert not (tmp_path / "grading_seed").exists()


@pytest.mark.parametrize("text", ["", "seven", "-3", "1 2"])
def test_file_without_a_seed(tmp_path, text):
    (tmp_path / "grading_seed").write_text(text)
    with pytest.raises(CourseError, match="expected one whole number: delete the file"):
        grading_environment(tmp_path)
