"""The two small problem sets that are attacked: one of NumPy functions, one of torch's kinds of answers."""

import json
import re
import secrets
import shutil
from pathlib import Path

from bnlab.exercises.build import build
from bnlab.exercises.source import find_sources
from bnlab.grading.course import run_nbgrader

CONFIG = Path(__file__).parents[2] / "exercises" / "nbgrader_config.py"
ANSWER = {"grade": False, "locked": False, "schema_version": 3, "solution": True, "task": False}
TEST = {"grade": True, "locked": True, "schema_version": 3, "solution": False, "task": False}
SECONDS = 1.5  # time limit of one call

OPENING = {
    "arrays": "import numpy as np\nfrom checks import check",
    "tensors": "import numpy as np\nimport torch\nfrom torch import nn\nfrom checks import check",
}

# The honest answers. Of each question: its points, its first lines, the rest.
ANSWERS = {
    "arrays": {
        "mean_of": (30, "def mean_of(x):", "    return x.mean(axis=0)"),
        "center": (30, "def center(x):", "    return x - x.mean(axis=0)"),
        "scale": (40, "def scale(x):", "    return x / x.std(axis=0)"),
    },
    "tensors": {
        "normalize": (20, "def normalize(x):", "    return (x - x.mean(0)) / x.std(0)"),
        "Affine": (
            30,
            "class Affine(nn.Module):",
            "    def __init__(self, c):\n"
            "        super().__init__()\n"
            "        self.weight = nn.Parameter(torch.full((c,), 2.0))\n\n"
            "    def forward(self, x):\n"
            "        return self.weight * x",
        ),
        "Cube": (
            30,
            "class Cube(torch.autograd.Function):",
            "    @staticmethod\n"
            "    def forward(ctx, x):\n"
            "        ctx.save_for_backward(x)\n"
            "        return x**3\n\n"
            "    @staticmethod\n"
            "    def backward(ctx, dy):\n"
            "        return 3 * ctx.saved_tensors[0] ** 2 * dy",
        ),
        "count_weights": (
            20,
            "def count_weights(model):",
            "    return sum(p.numel() for p in model.parameters())",
        ),
    },
}

CHECKS = {
    "arrays": f"""\
from bnlab.checks import ProblemSet, agree

problem_set = ProblemSet("ps1_arrays")


def declare(signature, points, right):
    question = problem_set.question(signature, points=points, seconds={SECONDS})

    @question.part("the values", weight=3)
    def _(student, rng):
        x = rng.normal(2, 3, size=(5, 3))
        agree(question.returns[0], student(x), right(x))

    question.keeps_its_inputs(lambda rng: (rng.normal(size=(4, 2)),))


declare("mean_of(x) -> mean", 30, lambda x: x.mean(axis=0))
declare("center(x) -> x_centered", 30, lambda x: x - x.mean(axis=0))
declare("scale(x) -> x_scaled", 40, lambda x: x / x.std(axis=0))
check = problem_set.check
""",
    "tensors": f"""\
import torch

from bnlab.checks import ProblemSet, agree, holds

problem_set = ProblemSet("ps2_tensors")


def draw(rng, *shape):
    return torch.from_numpy(rng.normal(2, 3, size=shape))


normalize = problem_set.question("normalize(x) -> y", points=20, seconds={SECONDS})


@normalize.part("the values", weight=3)
def _(student, rng):
    x = draw(rng, 6, 3)
    agree("y", student(x), (x - x.mean(0)) / x.std(0))


normalize.keeps_its_inputs(lambda rng: (draw(rng, 4, 2),))

affine = problem_set.question("Affine(c) -> layer", points=30, seconds={SECONDS})


@affine.part("the output")
def _(student, rng):
    x = draw(rng, 4, 3)
    agree("y", student(3).call("__call__", x), 2 * x, tolerance=1e-6)


@affine.part("the weight's gradient", weight=2)
def _(student, rng):
    x, dy = draw(rng, 4, 3), draw(rng, 4, 3)
    _, gradients = student(3).vjp((x,), dy)
    holds("weight" in gradients, "There is no parameter called weight.")
    agree("dweight", gradients["weight"], (x * dy).sum(0), tolerance=1e-5)


cube = problem_set.question("Cube(x) -> y", points=30, seconds={SECONDS})


@cube.part("forward")
def _(student, rng):
    x = draw(rng, 5)
    agree("y", student(x), x**3)


@cube.part("backward", weight=2)
def _(student, rng):
    x, dy = draw(rng, 5), draw(rng, 5)
    _, (dx,) = student.vjp((x,), dy)
    agree("dx", dx, 3 * x**2 * dy)


count_weights = problem_set.question("count_weights(model) -> count", points=20, seconds={SECONDS})


@count_weights.part("dense layers")
def _(student, rng):
    sizes = tuple(int(size) for size in rng.integers(3, 40, size=3))
    model = student.make("bnlab.models:MLP", sizes)
    agree("count", student(model), sum((a + 1) * b for a, b in zip(sizes, sizes[1:])))


check = problem_set.check
""",
}

NAMES = {"arrays": "ps1_arrays", "tensors": "ps2_tensors"}


def questions(victim: str) -> dict[str, float]:
    """The victim's questions with their points."""
    return {name: points for name, (points, *_) in ANSWERS[victim].items()}


def honest_answer(victim: str, question: str) -> str:
    """The source of a right answer."""
    _, head, body = ANSWERS[victim][question]
    return f"{head}\n{body}"


def notebook_source(victim: str) -> str:
    """The instructor's notebook in py:percent."""
    cells = [f"# %% [markdown]\n# # {NAMES[victim]}", f"# %%\n{OPENING[victim]}"]
    for name, (points, head, body) in ANSWERS[victim].items():
        marked = "\n".join(["    ### BEGIN SOLUTION", *(body.splitlines()), "    ### END SOLUTION"])
        cells.append(f"# %% nbgrader={json.dumps({'grade_id': f'{name}-solution'} | ANSWER)}\n{head}\n{marked}")
        cells.append(
            f'# %% nbgrader={json.dumps({"grade_id": name, "points": points} | TEST)}\ncheck("{name}", {name})'
        )
    return "\n\n".join(cells) + "\n"


def make_course(directory: Path) -> Path:
    """A course directory with both problem sets, released and recorded in its gradebook."""
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copy(CONFIG, directory)
    (directory / "grading_seed").write_text(str(2**62 + secrets.randbits(62)))  # long enough to be told from any number
    for victim, name in NAMES.items():
        room = directory / name
        room.mkdir()
        (room / "notebook.py").write_text(notebook_source(victim), encoding="utf-8")
        (room / "checks.py").write_text(CHECKS[victim], encoding="utf-8")
    for source in find_sources(directory):
        build(source, directory)
        status, log = run_nbgrader(directory, "generate_assignment", source.name)
        if status:
            raise RuntimeError(f"nbgrader could not release {source.name}:\n{re.sub('^', '    ', log, flags=re.M)}")
    return directory
