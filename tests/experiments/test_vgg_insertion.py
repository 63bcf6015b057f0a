"""The insertion experiment: its numbers are those that a calculation by hand gives, and every verdict can come out."""

import pytest
import torch

from bnlab.experiments import Result
from bnlab.experiments import vgg_insertion as experiment
from bnlab.models import small_vgg
from bnlab.training import seeded


@pytest.fixture(scope="module")
def tiny():
    patch = pytest.MonkeyPatch()
    size = {"n": 200, "side": 14, "width": 2, "pretraining": 4, "further": 2, "batch": 20}
    patch.setattr(experiment, "SIZES", {"small": size})
    patch.setattr(experiment, "LEARNING_RATES", (0.01, 0.03))
    yield experiment.run(seeds=[0, 1])
    patch.undo()


def test_rows_cover_choices_sweep_and_seeds(tiny):
    assert len(tiny.rows) == 2 * 4 + 3 * 2 + 3 * 2
    assert len(experiment.finals(tiny, "as it was")) == 2


def test_only_the_exact_choice_leaves_the_outputs(tiny):
    errors = {choice: tiny.column("relative_error", choice=choice).max() for choice in experiment.CHOICES}
    assert errors["sqrt(var + eps)"] < 1e-5 < errors["sqrt(var)"] < errors["var"]
    assert tiny.column("round_trip", choice="sqrt(var + eps)").max() < 1e-5
    assert tiny.column("loss", choice="sqrt(var + eps)") == pytest.approx(
        tiny.column("loss_before", choice="sqrt(var + eps)"), rel=1e-4
    )


def test_wrong_choices_multiply_the_deviation_from_the_mean_by_what_theory_says():
    """Behind one layer, gamma = var gives mean + (z - mean) * var / sqrt(var + eps)."""
    first, _ = experiment.split(200, 14)
    images = torch.tensor(first.x_train)
    model = seeded(0, lambda: small_vgg(None, 2, size=14)).eval()
    inserted = experiment.insert(model, images, "var")
    conv = next(m for m in model.modules() if isinstance(m, torch.nn.Conv2d))
    bn = next(m for m in inserted.modules() if isinstance(m, torch.nn.BatchNorm2d))
    z = conv(images).double()
    mean, var = z.mean((0, 2, 3), keepdim=True), z.var((0, 2, 3), keepdim=True, correction=0)
    expected = mean + (z - mean) * var / (var + experiment.EPS).sqrt()
    torch.testing.assert_close(bn(conv(images)).double(), expected, rtol=2e-3, atol=2e-3)


def test_it_draws(tiny):
    assert experiment.plot(tiny).axes[0].get_xscale() == "log"


@pytest.mark.parametrize(
    "exact, without, verdict", [(1e-7, 0.8, "holds"), (1e-7, 0.01, "conditions"), (1e-3, 0.8, "refuted")]
)
def test_every_verdict_can_come_out(exact, without, verdict):
    errors = {"sqrt(var + eps)": exact, "1 (and beta = 0)": without, "var": 0.9}
    rows = [{"choice": choice, "seed": k, "relative_error": e} for choice, e in errors.items() for k in range(5)]
    (judged,) = experiment.verdicts(Result("vgg_insertion", "small", "cpu", list(range(5)), {}, rows, 0.0))
    assert (judged.claim, judged.verdict, judged.number.median) == ("C20", verdict, exact)
