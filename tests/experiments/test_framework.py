"""Results, journals, the cache, the command line: what every experiment relies on."""

import json
import math
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from time import sleep
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from bnlab.experiments import (
    CLAIMS,
    Estimate,
    Experiment,
    Journal,
    Result,
    Verdict,
    cli,
    conduct,
    expect,
    find,
    holds,
    names,
    verdicts,
)
from bnlab.experiments.conduct import Share
from bnlab.experiments.verdicts import Evidence, Judgment

conduct_module = import_module("bnlab.experiments.conduct")  # the package has a function of that name
TOY = Experiment(name="toy", title="A toy", claims=("C01",), section="sec-toy", fair="Nothing is compared.")


def toy_run(seeds=range(5), device="cpu", budget="small", *, journal=None, measure=None):
    units = [{"arm": arm, "seed": seed} for arm in "ab" for seed in seeds]
    measure = measure or (lambda unit: {"value": unit["seed"] ** 2, "array": np.arange(2.0), "bad": math.nan})
    return conduct(TOY, units, measure, seeds=seeds, device=device, budget=budget, settings={"k": 1}, journal=journal)


# --- estimates -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [5, 6, 8, 11, 15, 20])
def test_interval_covers_the_median_as_often_as_it_says(n):
    """Exact coverage, by counting how many of 2**n equally likely sign patterns put the median inside."""
    e = Estimate.of(range(n))
    cut = int(e.low)  # this many values lie below the lower end
    below = sum(math.comb(n, k) for k in range(cut + 1, n - cut)) / 2**n  # number of values under the true median
    assert below >= 0.9375
    narrower = sum(math.comb(n, k) for k in range(cut + 2, n - cut - 1)) / 2**n
    assert narrower < 0.9375  # no narrower symmetric interval would do
    assert e.high == n - 1 - cut and e.median == np.median(range(n))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
def test_estimate_is_ordered_and_blind_to_order(values):
    e = Estimate.of(values)
    assert e == Estimate.of(values[::-1])
    assert e.low <= e.median <= e.high
    assert e.median == pytest.approx(np.median(values))
    assert e.low in values and e.high in values


def test_what_never_happened_counts_as_infinite():
    e = Estimate.of([1, 2, math.inf, math.nan, 3])
    assert (e.median, e.low, e.high) == (3, 1, math.inf)
    assert Estimate.of([math.inf, math.inf]).median == math.inf
    assert str(e) == "3 (1 to never)"
    assert format(Estimate.of([12345.6] * 5, "steps"), "") == "12,346 (12,346 to 12,346) steps"


def test_no_values_is_an_error():
    with pytest.raises(ValueError, match="no values"):
        Estimate.of([])


# --- verdicts --------------------------------------------------------------------------------------------------------


def test_a_verdict_needs_a_known_word_and_a_number():
    with pytest.raises(ValueError, match="'maybe': give one of"):
        Verdict("C01", "maybe", Estimate.of([1]), "", "")
    with pytest.raises(ValueError, match="has no number"):
        Verdict("C01", "holds", None, "", "")
    assert Verdict("C01", "conditions", Estimate.of([1]), "", "").words == "holds with conditions"


def test_an_experiment_can_only_judge_known_claims():
    with pytest.raises(ValueError, match="C99"):
        Experiment(name="x", title="", claims=("C99",), section="", fair="")


def _judgment(*words):
    verdicts_ = [Verdict("C01", word, Estimate.of([1.5]), "times", "Why.") for word in words]
    return Judgment("C01", tuple(Evidence(TOY, toy_run(), verdict) for verdict in verdicts_))


@pytest.mark.parametrize(
    "words, verdict, mixed",
    [
        ((), "open", False),
        (("holds",), "holds", False),
        (("holds", "holds"), "holds", False),
        (("holds", "refuted"), "conditions", True),
        (("open", "refuted"), "refuted", False),
    ],
)
def test_evidence_is_combined(words, verdict, mixed):
    judgment = _judgment(*words)
    assert (judgment.verdict, judgment.mixed) == (verdict, mixed)


def test_table_names_claim_verdict_number_section_and_exercise():
    table = verdicts.as_markdown([_judgment("holds", "refuted")])
    row = table.splitlines()[4]
    assert CLAIMS["C01"] in row and "holds with conditions" in row and "1.5 (1.5 to 1.5)" in row
    assert "{ref}`sec-toy`" in row and "{ref}`ch-ps1`" in row and "mixed" in row
    assert "not measured yet" in verdicts.as_markdown([_judgment()])


def test_problem_sets_are_linked_to_claims_that_exist_and_to_pages_that_exist():
    assert {claim for claims in verdicts.SETS.values() for claim in claims} <= set(CLAIMS)
    pages = "".join(path.read_text() for path in (Path(__file__).parents[2] / "book").glob("ps*.md"))
    assert all(f"({label})=" in pages for label in verdicts.SETS)


# --- results ---------------------------------------------------------------------------------------------------------


def test_saving_and_loading_changes_nothing(tmp_path):
    result = toy_run()
    again = Result.load(result.save(tmp_path / "new" / "toy.json"))
    assert math.isnan(again.rows[0]["bad"])
    for mine, theirs in zip(result.rows, again.rows, strict=True):
        assert {k: v for k, v in mine.items() if k != "bad"} == {k: v for k, v in theirs.items() if k != "bad"}
    assert (again.seeds, again.settings, again.provenance) == (result.seeds, result.settings, result.provenance)
    json.loads((tmp_path / "new" / "toy.json").read_text(), parse_constant=lambda c: pytest.fail(f"not JSON: {c}"))
    assert list((tmp_path / "new").iterdir()) == [tmp_path / "new" / "toy.json"]  # no draft is left behind


def test_a_file_that_is_no_result_is_refused_with_advice(tmp_path):
    for content in ("{", "[]", '{"a": 1}', ""):
        (tmp_path / "x.json").write_text(content)
        with pytest.raises(ValueError, match=r"x\.json isn't a saved result .* run the experiment again"):
            Result.load(tmp_path / "x.json")


def test_select_and_column():
    result = toy_run()
    assert result.column("value", arm="b").tolist() == [0, 1, 4, 9, 16]
    assert len(result.select(arm="a", seed=3)) == 1
    with pytest.raises(KeyError, match="no row of toy has"):
        result.column("value", arm="c")
    with pytest.raises(KeyError, match="10 of 10 rows have no 'speed'"):
        result.column("speed")


def test_a_result_holds_plain_values_only():
    with pytest.raises(TypeError, match="can't hold"):
        toy_run(measure=lambda unit: {"value": object()})


# --- conducting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, message",
    [
        ({"budget": "huge"}, "'huge': give 'small'"),
        ({"seeds": []}, "at least one"),
        ({"seeds": [1, 1]}, "each once"),
        ({"device": "cuda:99"}, "can't be used here"),
        ({"device": "bogus"}, "the device 'bogus' can't be used here: give 'cpu'"),
        ({"device": "meta"}, "can't be used here"),
    ],
)
def test_bad_calls_say_what_to_give(options, message):
    with pytest.raises(ValueError, match=message):
        toy_run(**options)


def test_an_experiment_on_the_cpu_alone_says_so():
    with pytest.raises(ValueError, match="the device is 'cuda', but toy computes on the CPU only: give 'cpu'"):
        replace(TOY, cpu_only=True).check_device("cuda")
    replace(TOY, cpu_only=True).check_device("cpu")


def test_a_run_that_was_cut_off_goes_on_where_it_stopped(tmp_path):
    path, measured = tmp_path / "toy.jsonl", []

    def measure(unit):
        measured.append((unit["arm"], unit["seed"]))
        if len(measured) == 4:
            raise KeyboardInterrupt
        return {"value": len(measured)}

    with pytest.raises(KeyboardInterrupt):
        toy_run(journal=Journal(path), measure=measure)
    with path.open("a") as file:
        file.write('{"unit": "half a li')  # as a killed process leaves it
    progress = []
    journal = Journal(path, advance=lambda done, total: progress.append((done, total)))
    result = toy_run(journal=journal, measure=measure)
    assert len(measured) == 11 and measured[3] == measured[4]  # the fourth was measured twice, no other
    assert len(set(measured)) == 10
    assert result.column("value").tolist()[:3] == [1, 2, 3]
    assert progress[0] == (0, 10) and progress[-1] == (10, 10)


def test_processes_that_share_a_run_measure_each_unit_once_and_get_the_same_result(tmp_path):
    path, taken, measured, progress = tmp_path / "toy.jsonl", {}, [], {}

    def measure(unit):
        measured.append((unit["arm"], unit["seed"]))
        sleep(0.002)
        return {"value": unit["seed"] ** 2}

    def share(number):
        def advance(done, total):
            progress[number] = done

        return toy_run(journal=Journal(path, advance, Share(taken, number, 3)), measure=measure)

    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(share, range(3)))
    assert len(measured) == 10 == len(set(measured))
    alone = toy_run(measure=lambda unit: {"value": unit["seed"] ** 2})
    assert all(result.rows == alone.rows for result in results)
    assert sum(progress.values()) == 10


def test_a_unit_that_fails_in_one_process_is_left_to_the_others(tmp_path):
    path, taken, failing = tmp_path / "toy.jsonl", {}, threading.Event()

    def broken(unit):
        failing.set()
        raise MemoryError("not enough here")

    def patient(unit):
        failing.wait(5)
        return {"value": 1}

    with ThreadPoolExecutor(2) as pool:
        shares = [
            pool.submit(toy_run, journal=Journal(path, share=Share(taken, number, 2)), measure=measure)
            for number, measure in enumerate((broken, patient))
        ]
        with pytest.raises(MemoryError, match="not enough here"):
            shares[0].result()
        assert len(shares[1].result().rows) == 10


def test_neighbors_stay_together_where_processes_share_a_run():
    keys = list("abcdef")
    assert [Share({}, number, 3).order(keys)[:2] for number in range(3)] == [["a", "b"], ["c", "d"], ["e", "f"]]
    assert all(sorted(Share({}, number, 4).order(keys)) == keys for number in range(4))


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_a_shared_run_leaves_the_result_and_nothing_else(tmp_path, monkeypatch, jobs):
    monkeypatch.setenv("BNLAB_CACHE", str(tmp_path))
    shown = CliRunner().invoke(cli.app, ["run", "transform_anatomy", "--seeds", "2", "--jobs", jobs])
    assert shown.exit_code == 0 and "C12 holds" in shown.output
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]


@pytest.mark.parametrize("line", [b"5\n", b"null\n", b"\xff\xfe\n", b'{"unit": "{}"}\n', b"cut in the mid"])
def test_a_journal_with_a_line_that_is_none_of_ours_is_read_around(tmp_path, line):
    path = tmp_path / "toy.jsonl"
    toy_run(journal=Journal(path))
    path.write_bytes(line + b"".join(path.read_bytes().splitlines(keepends=True)[:4]) + line)
    measured = []
    toy_run(journal=Journal(path), measure=lambda unit: measured.append(unit) or {"value": 1})
    expected = 7 if line.startswith(b"cut") else 6  # the cut line takes the one it runs into with it
    assert len(measured) == expected
    toy_run(journal=Journal(path), measure=lambda unit: pytest.fail("everything had been measured"))


@pytest.mark.parametrize("content", ["{", "[]", ""])
def test_a_broken_result_in_the_cache_is_measured_again(tmp_path, monkeypatch, content):
    monkeypatch.setenv("BNLAB_CACHE", str(tmp_path))
    conduct_module.cached("transform_anatomy", "small", range(1)).write_text(content)
    shown = CliRunner().invoke(cli.app, ["run", "transform_anatomy", "--seeds", "1"])
    assert shown.exit_code == 0 and "C12 holds" in shown.output


def test_a_place_that_cannot_hold_results_is_refused_before_measuring(tmp_path):
    (tmp_path / "file").write_text("")
    shown = CliRunner().invoke(cli.app, ["run", "transform_anatomy", "--output", str(tmp_path / "file")])
    assert shown.exit_code == 2 and "give another one" in " ".join(shown.output.split())


def test_rows_may_come_as_a_list_or_from_a_generator():
    result = toy_run(measure=lambda unit: ({"k": k} for k in range(3)))
    assert len(result.rows) == 30 and result.rows[2] == {"arm": "a", "seed": 0, "k": 2}


def test_provenance_says_how_to_repeat_the_run():
    result = toy_run(seeds=range(6))
    assert result.provenance["command"].endswith("run toy --seeds 6 --device cpu --budget small")
    assert {"commit", "date", "machine", "python", "numpy"} <= set(result.provenance)


# --- the cache -------------------------------------------------------------------------------------------------------


def test_cache_is_keyed_by_code_seeds_device_and_budget(monkeypatch, tmp_path):
    monkeypatch.setenv("BNLAB_CACHE", str(tmp_path))
    paths = {
        conduct_module.cached("feature_scaling", "small"),
        conduct_module.cached("feature_scaling", "full"),
        conduct_module.cached("feature_scaling", "small", range(6)),
        conduct_module.cached("feature_scaling", "small", device="cuda"),
    }
    before = conduct_module.cached("feature_scaling", "small")
    monkeypatch.setattr(conduct_module, "versions", lambda further: {"numpy": "0.0"})
    paths.add(conduct_module.cached("feature_scaling", "small"))
    assert len(paths) == 5 and before in paths
    assert all(path.parent == tmp_path for path in paths)


def test_fingerprint_follows_what_an_experiment_imports(tmp_path, monkeypatch):
    package = tmp_path / "bnlab"
    (package / "experiments").mkdir(parents=True)
    (package / "experiments" / "toy.py").write_text("from bnlab.lab import thing\n")
    (package / "lab.py").write_text("import bnlab.deep\n")
    (package / "deep.py").write_text("x = 1\n")
    (package / "other.py").write_text("x = 1\n")
    monkeypatch.setattr(conduct_module, "PACKAGE", package)
    monkeypatch.setattr(conduct_module, "find", lambda name: SimpleNamespace(EXPERIMENT=TOY))
    first = conduct_module.fingerprint("toy")
    (package / "other.py").write_text("x = 2\n")
    assert conduct_module.fingerprint("toy") == first
    (package / "deep.py").write_text("x = 2\n")
    assert conduct_module.fingerprint("toy") != first


def test_recall_runs_once(monkeypatch, tmp_path):
    monkeypatch.setenv("BNLAB_CACHE", str(tmp_path))
    module, runs = find("transform_anatomy"), []
    run = module.run
    monkeypatch.setattr(module, "run", lambda **options: runs.append(options) or run(**options, seeds=range(5)))
    first, second = (conduct_module.recall("transform_anatomy") for _ in range(2))
    assert len(runs) == 1 and first.rows == second.rows
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]  # the journal is gone


def test_expect_stops_a_page_whose_verdict_drifted(monkeypatch):
    monkeypatch.setenv("CI", "true")
    result = find("transform_anatomy").run(seeds=range(2))
    expect(result, C12="holds", C14="holds")
    with pytest.raises(AssertionError, match=r"the page says C12 'refuted'.*measured 'holds'"):
        expect(result, C12="refuted")
    with pytest.raises(AssertionError, match="says nothing about C07"):
        expect(result, C07="holds")


def test_a_readers_build_goes_on_and_says_what_came_out(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    result = find("transform_anatomy").run(seeds=range(2))
    expect(result, C12="holds")
    assert not shown
    expect(result, C12="refuted")
    assert "C12 came out as **holds**" in shown[0].data


def test_words_that_do_not_fit_stop_the_build_in_ci(monkeypatch):
    monkeypatch.setenv("CI", "true")
    error = {"bn": 2.0, "plain": 1.0}
    holds(error["bn"] > error["plain"], error)
    with pytest.raises(AssertionError, match=r'holds\(error\["bn"\] < error\["plain"\], error\) .*2\.0.*Look at the'):
        holds(error["bn"] < error["plain"], error)


def test_words_that_do_not_fit_are_noted_on_a_readers_page(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    holds(np.array([1, 2]).max() == 2)
    assert not shown
    holds(np.array([1, 2]).max() == 3)
    assert "one number isn't as the text says: `holds(np.array([1, 2]).max() == 3)`" in shown[0].data


def test_no_page_can_stop_a_readers_build():
    """Hidden cells check the text by `holds` and `expect`, never by assert, and where their notes can be seen.

    The pages of the problem sets are left out: they quote what a check says, and no number.
    """
    book = Path(__file__).parents[2] / "book"
    for page in set(book.glob("*.md")) - set(book.glob("ps[0-9]*.md")):
        for cell in re.findall(r"^```\{code-cell\}[^\n]*\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE):
            if ":tags: [remove-cell]" in cell:
                assert not re.search(r"^\s*(assert|holds|expect)\b", cell, re.MULTILINE), (page.name, cell)


# --- every experiment, without running it ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", names())
def test_experiment_keeps_the_contract(name):
    module = find(name)
    assert module.EXPERIMENT.name == name
    assert module.EXPERIMENT.title and len(module.EXPERIMENT.fair) > 20
    for part in ("run", "plot", "verdicts"):
        assert callable(getattr(module, part)), part
        assert getattr(module, part).__doc__, f"{name}.{part} has no docstring"


def test_every_claim_has_an_experiment():
    judged = {claim for name in names() for claim in find(name).EXPERIMENT.claims}
    assert judged == set(CLAIMS)


def test_ids_of_claims_are_those_of_the_course():
    assert list(CLAIMS) == [f"C{k:02}" for k in range(1, 25)]


# --- the command line ------------------------------------------------------------------------------------------------


def test_list_names_every_experiment(monkeypatch):
    monkeypatch.setattr(cli, "console", Console(width=200))
    shown = CliRunner().invoke(cli.app, ["list"])
    assert shown.exit_code == 0, shown.output
    assert all(name in shown.output for name in names())


def test_run_saves_draws_and_prints_verdicts(tmp_path, monkeypatch):
    monkeypatch.setenv("BNLAB_CACHE", str(tmp_path / "cache"))
    call = ["run", "transform_anatomy", "--seeds", "2", "--output", str(tmp_path), "--plots", str(tmp_path / "plots")]
    shown = CliRunner().invoke(cli.app, call)
    assert shown.exit_code == 0, shown.output
    assert "C12 holds" in shown.output
    assert Result.load(tmp_path / "transform_anatomy.json").seeds == [0, 1]
    assert (tmp_path / "plots" / "transform_anatomy.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(
    "call, message",
    [
        (["run"], "No experiment was named"),
        (["run", "nonsense"], "There is no experiment nonsense"),
        (["run", "feature_scaling", "--budget", "huge"], "give small or full"),
        (["run", "smoothness", "--device", "bogus"], "the device 'bogus' can't be used here"),
        (["run", "smoothness", "weight_decay", "--device", "cuda:0"], "give 'cpu'"),
    ],
)
def test_bad_calls_exit_2_and_say_what_to_give(call, message):
    shown = CliRunner().invoke(cli.app, call)
    assert shown.exit_code == 2
    assert message in " ".join(shown.output.split())


def test_full_runs_want_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(cli.app, ["run", "feature_scaling", "--budget", "full"])
    assert shown.exit_code == 2 and "give --output" in " ".join(shown.output.split())


def test_a_failed_experiment_exits_1_and_stops_no_other(tmp_path, monkeypatch):
    monkeypatch.setenv("BNLAB_CACHE", str(tmp_path))
    path = conduct_module.cached("transform_anatomy", "small", range(1))
    path.with_suffix(".jsonl").mkdir()  # where the journal wants to be a file
    call = ["run", "transform_anatomy", "scaling_choice", "--seeds", "1"]
    shown = CliRunner().invoke(cli.app, call)
    assert shown.exit_code == 1
    assert "transform_anatomy failed" in shown.output and "C02" in shown.output
