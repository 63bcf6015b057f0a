"""One attack, graded between two honest submissions, and what came of it."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import nbformat
import psutil

from bnlab.grading.grade import Grader
from bnlab.grading.material import Material
from bnlab.grading.record import GRADED, Graded
from bnlab.grading.sandbox import Limits, Sandbox

from .attack import Attack
from .scene import Scene
from .victims import NAMES, make_course
from .watch import Watch, new_secret

CASES = 2
RECORD_LIMIT = 200_000  # characters of a record
NOTEBOOK_LIMIT = 8 * 2**20  # characters of an executed notebook, beyond the one handed in
QUICK = 1.0  # seconds; what takes less is graded twice, and must come out the same
SECONDS_LIMIT = 60.0  # for one submission, whatever it does
LIMITS = Limits(
    cell_seconds=2.5,
    question_seconds=4.0,
    submission_seconds=30.0,
    memory=400 * 2**20,
    processes=48,
    file_bytes=16 * 2**20,
    output_bytes=2**20,
)

# The honest neighbors show what of their surroundings could differ after an attack. What they show must be the same.
SURROUNDINGS = """\
import builtins, gc, locale, os, resource, sys, warnings
print(sorted(os.listdir(".")), sorted(os.listdir("/dev/shm")), sorted(os.listdir(os.path.expanduser("~"))))
print(sorted(os.environ.items()), os.getcwd(), oct(os.umask(0o022)), os.nice(0), len(os.sched_getaffinity(0)))
limits = sorted(name for name in dir(resource) if name.startswith("RLIMIT_") and name != "RLIMIT_DATA")
print([(name, resource.getrlimit(getattr(resource, name))) for name in limits])
print(sys.path, sys.getrecursionlimit(), sys.getswitchinterval(), gc.isenabled(), gc.get_threshold(), sys.gettrace())
print(sorted(sys.modules), sorted(vars(builtins)), len(warnings.filters), locale.getlocale())
print(np.geterr(), np.geterrcall())
print(np.random.rand(2), [open(f"/proc/sysvipc/{name}").read() for name in ("shm", "sem", "msg")])
print(sorted(p for p in os.listdir("/proc") if p.isdigit() and int(p) != os.getpid()), os.listdir("/proc/self/fd"))
"""


@dataclass
class Trial:
    """What came of an attack.

    Attributes
    ----------
    attack : Attack
    statuses : dict of str to str
        By question.
    score : float
    seconds : float
        That grading it took.
    problems : list of str
        Everything that should not have happened.
    neighbors : bool
        Whether the submissions before and after it were graded the same as without it.
    """

    attack: Attack
    statuses: dict[str, str] = field(default_factory=dict)
    score: float = 0.0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    neighbors: bool = True

    def row(self) -> dict[str, str]:
        """As a row of the table."""
        counted = {status: [*self.statuses.values()].count(status) for status in self.statuses.values()}
        return {
            "theme": self.attack.theme,
            "attack": self.attack.name,
            "status": ", ".join(f"{n} {status}" for status, n in counted.items()),
            "score": f"{self.score:g}",
            "neighbors": "unharmed" if self.neighbors else "HARMED",
            "seconds": f"{self.seconds:.1f}",
            "held off": "no" if self.problems else "yes",
        }


class Bench:
    """Grades attacks on one problem set, all by one grader.

    Parameters
    ----------
    victim : str
    watch : Watch
    """

    def __init__(self, victim: str, watch: Watch):
        self.victim, self.watch = victim, watch
        self.material = replace(Material.of_course(watch.course, NAMES[victim]), cases=CASES)
        self.grader: Grader | None = None
        self.scene = Scene(
            victim=victim,
            released=self.material.notebook,
            course=watch.course,
            files=tuple(watch.files),
            port=watch.port,
            socket=watch.socket,
            abstract=watch.abstract,
            mark=watch.mark,
            grader=psutil.Process().pid,
        )
        self.secrets = {name: new_secret() for name in ("before", "after")}
        self.honest = {name: self._honest(secret) for name, secret in self.secrets.items()}
        self.expected = self._reference()

    def _honest(self, secret: str) -> bytes:
        notebook = self.scene.honest(secret)
        notebook.cells.insert(2, nbformat.v4.new_code_cell(SURROUNDINGS, id="surroundings"))
        return nbformat.writes(notebook).encode()

    def _reference(self) -> dict[str, Graded]:
        """The honest submissions, graded by a grader that has seen nothing else; it stays open."""
        self.grader = Grader(self.material, Sandbox(limits=LIMITS))
        found = {name: self.grader.grade(data, name) for name, data in self.honest.items()}
        for name, graded in found.items():
            if graded.record.score != graded.record.points:
                raise AssertionError(f"honest work did not get full points:\n{graded.record.to_json()}")
            cell = next(cell for cell in json.loads(graded.notebook)["cells"] if cell.get("id") == "surroundings")
            if any(output["output_type"] != "stream" for output in cell["outputs"]):
                raise AssertionError(f"{name} could not look around: {cell['outputs']}")
        return found

    def run(self, attack: Attack) -> Trial:
        """Grade an attack between two honest submissions and look what came of it."""
        if self.grader is None:
            self.grader = Grader(self.material, Sandbox(limits=LIMITS))
        trial = Trial(attack)
        self._check_neighbor("before", trial)
        data = attack.data(self.scene)
        before, counts, memory = self.watch.state(), self.watch.counts(), psutil.Process().memory_info().rss
        started = time.monotonic()
        try:
            graded = self.grader.grade(data, attack.student)
            trial.seconds = time.monotonic() - started
            again = self.grader.grade(data, attack.student) if trial.seconds < QUICK else graded
        except Exception as error:
            trial.problems.append(f"the grader raised {type(error).__name__}: {error}"[:500])
        else:
            self._judge(graded, data, trial)
            if again.record != graded.record:
                trial.problems.append("graded again it has another record")
        if trial.seconds > SECONDS_LIMIT:
            trial.problems.append(f"it took {trial.seconds:.0f} s")
        self._check_neighbor("after", trial)
        trial.problems += self.watch.differences(before, counts, memory)
        if trial.problems:  # the next attack shall not suffer for it
            self.close()
        return trial

    def _check_neighbor(self, name: str, trial: Trial) -> None:
        try:
            graded = self.grader.grade(self.honest[name], name)
        except Exception as error:
            trial.problems.append(f"the neighbor {name} it raised {type(error).__name__}: {error}"[:500])
            trial.neighbors = False
            return
        expected = self.expected[name]
        if graded.record.to_json() != expected.record.to_json():
            statuses = [(result.question, result.status, result.message[:100]) for result in graded.record.needs_an_eye]
            trial.problems.append(f"the neighbor {name} it has another record {statuses}")
            trial.neighbors = False
        if graded.notebook != expected.notebook:
            trial.problems.append(f"the neighbor {name} it shows something else: {_difference(graded, expected)}")
            trial.neighbors = False

    def _judge(self, graded: Graded, data: bytes, trial: Trial) -> None:
        attack, record = trial.attack, graded.record
        trial.statuses = {result.question: result.status for result in record.questions}
        trial.score = record.score
        if list(trial.statuses) != list(self.material.problem_set.questions):
            trial.problems.append(f"the record has the questions {list(trial.statuses)}")
        for result in record.questions:
            expected = attack.expected.get(result.question, attack.others)
            if (result.score is None) == (result.status == GRADED):
                trial.problems.append(f"{result.question} is {result.status} and has the score {result.score}")
            share = (result.score or 0) / result.points
            trial.problems += filter(None, [expected.problem(result.question, result.status, share)])
            if result.status != GRADED and not result.message:
                trial.problems.append(f"{result.question} is {result.status}, and nothing says why")
        text = record.to_json()
        if type(record).from_json(text) != record:
            trial.problems.append("the record is not read back as it was written")
        shown = _shown(graded.notebook)
        for each in (text, shown):
            trial.problems += self.watch.told(each)
            trial.problems += [
                f"the {n} neighbor's secret got out" for n, secret in self.secrets.items() if secret in each
            ]
            trial.problems += [
                f"it tells of a success: {line[:200]}" for line in re.findall('BREACH[^\\n"]*', each)[:3]
            ]
        if re.search("NameError|SyntaxError", text + shown) and attack.theme != "notebooks":
            trial.problems.append("the attack itself has a mistake: it never came to what it tries")
        for pattern in attack.forbidden:
            trial.problems += [f"what is shown has {match[:100]!r}" for match in re.findall(pattern, text + shown)[:1]]
        if len(text) > RECORD_LIMIT:
            trial.problems.append(f"the record has {len(text):,} characters")
        if len(graded.notebook) > NOTEBOOK_LIMIT + len(data):
            trial.problems.append(f"the executed notebook has {len(graded.notebook):,} characters")
        control = re.search(r"\\u00(0[0-8bcef]|1[0-9a-f]|7f|8|9)", text)
        if control:
            trial.problems.append(f"the record has control characters: {text[max(0, control.start() - 40) :][:80]!r}")
        try:
            graded.notebook.encode("utf-8")
            record.student.encode("utf-8")
            if graded.notebook:
                json.loads(graded.notebook, parse_constant=_refuse)
                nbformat.validate(nbformat.reads(graded.notebook, as_version=4))
        except Exception as error:
            trial.problems.append(f"the executed notebook is none: {type(error).__name__}: {error}"[:300])

    def close(self) -> None:
        if self.grader is not None:
            self.grader.close()
            self.grader = None


def _shown(notebook: str) -> str:
    """The outputs of a notebook. What the source says is the student's own."""
    if not notebook:
        return ""
    cells = json.loads(notebook)["cells"]
    return "\n".join(json.dumps(cell["outputs"], ensure_ascii=False) for cell in cells if cell["cell_type"] == "code")


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _difference(graded: Graded, expected: Graded) -> str:
    shown, wanted = _shown(graded.notebook), _shown(expected.notebook)
    place = next(
        (i for i, (a, b) in enumerate(zip(shown, wanted, strict=False)) if a != b), min(len(shown), len(wanted))
    )
    return f"{shown[max(0, place - 60) : place + 60]!r} in the place of {wanted[max(0, place - 60) : place + 60]!r}"


@contextmanager
def benches(directory: Path) -> Iterator[dict[str, Bench]]:
    """A bench for every problem set, in one watched course. They are made when they are asked for."""
    watch = Watch(make_course(directory))
    made = _Benches(watch)
    try:
        yield made
    finally:
        for bench in made.values():
            bench.close()
        watch.close()


class _Benches(dict):
    def __init__(self, watch: Watch):
        super().__init__()
        self.watch = watch

    def __missing__(self, victim: str) -> Bench:
        for bench in self.values():  # one fork server at a time
            bench.close()
        self[victim] = Bench(victim, self.watch)
        return self[victim]
