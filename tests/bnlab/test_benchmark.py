"""The benchmark: its lists are the networks', it refuses wrong results, and its figures add up. No time is tested."""

import json
import statistics
from collections import Counter

import pytest
import torch
from typer.testing import CliRunner

import bnlab
from bnlab import models
from bnlab.benchmark import layers, measure, report, shapes, steps
from bnlab.cli import app

SMALL = ["--suite", "awkward", "--turns", "3", "--seconds", "0", "--quiet"]

CORRECT = """
import torch


class Mine(torch.nn.BatchNorm2d):
    def __init__(self, channels):
        super().__init__(channels)

    def _check_input_dim(self, x):
        pass


class Biased(Mine):
    def forward(self, x):
        return super().forward(x) * 1.01


class Raises(Mine):
    def forward(self, x):
        raise RuntimeError("not today")
"""


@pytest.fixture
def solution(tmp_path):
    path = tmp_path / "solution.py"
    path.write_text(CORRECT)
    return path


def shapes_in(network, x):
    """The shapes (C, H, W) that reach the batch normalization layers of a network, and how often."""
    found = Counter()
    hooks = [
        module.register_forward_pre_hook(lambda module, inputs: found.update([tuple(inputs[0].shape[1:])]))
        for module in network.modules()
        if isinstance(module, torch.nn.BatchNorm2d)
    ]
    with torch.no_grad():
        network.eval()(x)
    for hook in hooks:
        hook.remove()
    return found


def test_vgg16_has_these_inputs():
    listed = Counter({(s.channels, *s.positions): s.layers for s in shapes.SUITES["vgg16"]})
    with torch.device("meta"):  # shapes alone
        found = shapes_in(models.VGG(16, torch.nn.BatchNorm2d), torch.zeros(1, 3, 224, 224))
    assert found == listed


def test_resnet50_has_these_inputs():
    """Counted from its plan: [3, 4, 6, 3] bottlenecks, the stride in the 3x3 convolution, as torchvision has it."""
    found, width, side, inside = Counter({(64, 112, 112): 1}), 64, 56, 56
    for stage, blocks in enumerate((3, 4, 6, 3)):
        for block in range(blocks):
            before, side = side, inside // 2 if stage and not block else side
            found[width, before, before] += 1
            found[width, side, side] += 1
            found[4 * width, side, side] += 1 + (block == 0)
        inside, width = side, 2 * width
    listed = Counter({(s.channels, *s.positions): s.layers for s in shapes.SUITES["resnet50"]})
    assert listed == found and sum(found.values()) == 53


@pytest.mark.parametrize("layout", measure.LAYOUTS)
@pytest.mark.parametrize("operation", measure.OPERATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_everybody_here_is_right(operation, layout, dtype):
    case = measure.Case("awkward", (6, 5, 9, 7), 1, operation, layout, dtype, "cpu")
    timings = measure.measure(case, layers.contenders("cpu"), measure.Plan(turns=3, seconds=0))
    assert {"torch", "bnlab eager", "copy"} <= {timing.name for timing in timings}
    for timing in timings:
        assert not timing.problem and timing.milliseconds > 0 and timing.turns == 3
        assert timing.first_milliseconds > 0
        assert timing.error <= measure.TOLERANCE[getattr(torch, dtype)]


@pytest.mark.parametrize("then", ["relu", "add_relu"])
@pytest.mark.parametrize("operation", measure.OPERATIONS)
def test_everybody_is_right_with_what_follows(operation, then):
    case = measure.Case("awkward", (6, 5, 9, 7), 1, operation, "NCHW", "float32", "cpu", then)
    plan = measure.Plan(turns=3, seconds=0, then=then)
    for timing in measure.measure(case, layers.contenders("cpu"), plan):
        assert not timing.problem and timing.error <= 1e-5
    added = then == "add_relu"
    assert case.floor == {"forward": 2 + added, "backward": 3 + 2 * added, "evaluation": 2 + added}[operation]


def test_who_forgets_the_relu_is_wrong():
    """The judge knows what follows: a layer that claims to fuse and doesn't gets no time."""
    case = measure.Case("awkward", (6, 5, 9, 7), 1, "forward", "NCHW", "float32", "cpu", "relu")

    class Forgets(torch.nn.BatchNorm2d):
        def forward(self, x, residual=None, relu=False):
            return super().forward(x)

    taker = layers.Contender("forgets", lambda channels, *_: Forgets(channels), fuses=True)
    found = measure.measure(case, [taker], measure.Plan(turns=3, seconds=0))
    assert "wrong" in found[0].problem


def test_a_wrong_result_gets_no_time(solution):
    case = measure.Case("awkward", (6, 5, 9, 7), 1, "forward", "NCHW", "float32", "cpu")
    takers = [layers.from_file(f"{solution}:{name}") for name in ("Mine", "Biased", "Raises")]
    found = {timing.name: timing for timing in measure.measure(case, takers, measure.Plan(turns=3, seconds=0))}
    assert found["Mine"].milliseconds and not found["Mine"].problem
    assert found["Biased"].milliseconds is None and "wrong: error 1.0e-02, allowed 1e-03" in found["Biased"].problem
    assert found["Raises"].milliseconds is None and found["Raises"].problem == "RuntimeError: not today"


def test_torch_is_refused_where_it_loses_the_variance():
    """channels_last on a CPU, at a mean of 10,000 standard deviations: torch 2.13 sums in float32."""
    case = measure.Case("awkward", (8, 16, 40, 40), 1, "forward", "channels_last", "float32", "cpu")
    plan = measure.Plan(turns=3, seconds=0, mean=1e4)
    found = {timing.name: timing for timing in measure.measure(case, layers.contenders("cpu"), plan)}
    assert "wrong" in found["torch"].problem
    assert not any(timing.problem for name, timing in found.items() if name.startswith("bnlab"))


def timing(name, milliseconds, shape=(2, 3, 4, 4), operation="forward", **fields):
    case = measure.Case("awkward", shape, 1, operation, "NCHW", "float32", "cpu")
    first = None if milliseconds is None else 2.0 + milliseconds  # caches are cold
    return measure.Timing(case, name, milliseconds, first, **fields)


def test_ratios_and_their_mean():
    timings = [timing("torch", 8.0), timing("ours", 2.0), timing("copy", 1.0)]
    timings += [timing("torch", 3.0, (5, 3, 4, 4)), timing("ours", 3.0, (5, 3, 4, 4))]
    timings += [timing("torch", None, (6, 3, 4, 4), problem="wrong"), timing("ours", 1.0, (6, 3, 4, 4))]
    (row,) = report.summary(timings)
    assert (row["implementation"], row["shapes"], row["worst"]) == ("ours", 2, 1.0)
    assert row["geometric_mean"] == pytest.approx(statistics.geometric_mean([4, 1]))
    assert row["first_geometric_mean"] == pytest.approx(statistics.geometric_mean([10 / 4, 1]))


def test_the_second_call_of_a_turn_counts_and_the_first_is_kept_apart(monkeypatch):
    """A call here takes 2 seconds after somebody else's, and 1 after its own."""
    before = []

    def call(name):
        def one():
            taken = 1.0 if before[-1:] == [name] else 2.0
            before.append(name)
            return taken

        return layers.Contender(name, None), one

    monkeypatch.setattr(measure, "_time", lambda call, device: call())
    seconds = measure.in_turns({name: call(name) for name in "abc"}, measure.Plan(turns=5), "cpu")
    assert all(len(its) == 5 and {again for _, again in its} == {1.0} for its in seconds.values())
    assert statistics.median(first for its in seconds.values() for first, _ in its) == 2.0
    assert len(before) == 2 * 3 * (5 + measure.Plan().warm_up)


def test_floors_count_the_bytes():
    case = measure.Case("awkward", (64, 32, 32, 32), 1, "backward", "NCHW", "float32", "cpu")
    timings = {t.name: t for t in measure.measure(case, layers.contenders("cpu"), measure.Plan(turns=3, seconds=0))}
    copy, torchs = timings["copy"], timings["torch"]
    assert case.bytes == 64 * 32**3 * 4
    # dy and x are read, dx is written: three times the bytes, where a copy moves them twice.
    assert torchs.of_floor == pytest.approx(1.5 * copy.milliseconds / torchs.milliseconds)
    assert torchs.of_streaming == pytest.approx(2.5 * copy.milliseconds / torchs.milliseconds)
    assert torchs.peak is None or 0.5 < torchs.peak < 4


def test_command(tmp_path, solution):
    output, plots = tmp_path / "out" / "bench.json", tmp_path / "plots"
    arguments = ["bench", *SMALL, "--module", f"{solution}:Mine", "--output", str(output), "--plots", str(plots)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    record = json.loads(output.read_text())
    assert {"torch", "bnlab eager", "Mine", "copy"} <= {row["name"] for row in record["timings"]}
    assert record["provenance"]["threads"] == torch.get_num_threads() and record["plan"]["fresh_memory"] is False
    assert len({tuple(row["shape"]) for row in record["timings"]}) == len(shapes.SUITES["awkward"])
    assert sorted(path.name for path in plots.iterdir()) == ["ratios.svg", "roofline.svg"]


def test_what_is_saved_can_be_loaded(tmp_path):
    timings = [timing("torch", 8.0), timing("ours", 2.0, error=1e-7), timing("worse", None, problem="wrong")]
    report.save(tmp_path / "file.json", timings, measure.Plan(), {}, [])
    assert report.load(tmp_path / "file.json") == timings


def test_whole_steps(tmp_path):
    output = tmp_path / "steps.json"
    arguments = ["--whole-steps", "--batch-size", "2", "--turns", "3", "--seconds", "0", "--layout", "channels_last"]
    done = CliRunner().invoke(app, ["bench", *arguments, "--output", str(output)])
    assert done.exit_code == 0, done.output
    rows = json.loads(output.read_text())["steps"]
    assert {row["network"] for row in rows} == {"small VGG", "ResNet-20"}
    for row in rows:
        assert row["images_per_second"] == pytest.approx(2000 / row["milliseconds"])
        assert (row["share"] == 0) == (row["implementation"] == steps.WITHOUT)


def test_resnet20_is_the_same_network_fused_or_not():
    """20 weighted layers, 0.27 million parameters (He et al. 2016, table 6), and the same output either way."""
    networks = []
    for fused in (False, True):
        torch.manual_seed(0)
        networks.append(steps.ResNet20(bnlab.BatchNorm2d, fused))
    weighted = [m for m in networks[0].modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(weighted) == 20
    assert round(sum(p.numel() for p in networks[0].parameters()) / 1e6, 2) == 0.27
    x = torch.randn(4, 3, 32, 32)
    assert torch.allclose(networks[0](x), networks[1](x), atol=1e-4)


def test_a_wrong_layer_makes_the_command_fail(solution):
    done = CliRunner().invoke(app, ["bench", *SMALL, "--layout", "NCHW", "--module", f"{solution}:Biased"])
    assert done.exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--suite", "vgg61"], "there is no suite vgg61: give some of vgg16, resnet50"),
        (["--dtype", "float8"], "there is no dtype float8"),
        (["--then", "tanh"], "there is no continuation tanh: give some of nothing, relu, add_relu"),
        (["--layout", ""], "there is no layout '': give some of NCHW, channels_last"),
        (["--device", "cuda:99"], "the device 'cuda:99' can't be used here"),
        (["--module", "nowhere.py:Mine"], "there is no file nowhere.py"),
        (["--module", "solution"], "expected FILE.py:CLASS"),
    ],
)
def test_a_wrong_call_says_what_to_give(arguments, complaint):
    done = CliRunner().invoke(app, ["bench", *arguments])
    assert done.exit_code == 2 and complaint in " ".join(done.output.split())


def test_a_file_without_the_class_names_those_it_has(solution):
    with pytest.raises(layers.UnusableLayer, match="has no class 'Yours', it has Mine, Biased, Raises"):
        layers.from_file(f"{solution}:Yours")
    solution.write_text("1 / 0")
    with pytest.raises(layers.UnusableLayer, match="raised ZeroDivisionError when it was imported"):
        layers.from_file(f"{solution}:Mine")
