"""The VGG experiment: what is tuned isn't what is reported, and every verdict can come out."""

import numpy as np
import pytest

from bnlab.experiments import Result
from bnlab.experiments import vgg_from_scratch as experiment


@pytest.fixture(scope="module")
def tiny():
    patch = pytest.MonkeyPatch()
    size = {"n": 100, "side": 14, "width": 2, "steps": 4, "batch": 20, "every": 2}
    patch.setattr(experiment, "SIZES", {"small": size})
    patch.setattr(experiment, "LEARNING_RATES", {"plain": (0.01, 0.03), "bn": (0.01, 0.03)})
    yield experiment.run(seeds=[0, 1])
    patch.undo()


def test_rows_are_the_sweep_and_then_one_per_arm_and_seed(tiny):
    assert len(tiny.rows) == 4 + 4
    for arm in experiment.ARMS:
        sweep = [row for row in tiny.select(arm=arm) if "rate" in row]
        best = min(sweep, key=lambda row: row["tuning_loss"])["rate"]
        assert set(experiment.finals(tiny, "learning_rate", arm)) == {best}
        assert experiment.finals(tiny, "steps", arm).tolist() == [[2, 4]] * 2


def test_it_draws(tiny):
    assert len(experiment.plot(tiny).axes[0].lines) == 2 * 3  # two seeds and a median, for each arm


def test_learning_rates_are_chosen_on_other_images():
    test, validation = (experiment.clothes(100, 14, part) for part in ("test", "validation"))
    assert np.array_equal(test.x_train, validation.x_train)
    seen = {image.tobytes() for image in test.x_test}
    assert sum(image.tobytes() in seen for image in validation.x_test) < 5  # twins that the data themselves have
    assert abs(test.x_train.mean()) < 1e-5 and abs(test.x_train.std() - 1) < 1e-5


@pytest.mark.parametrize(
    "plain, bn, verdict",
    [
        ([0.3, 0.3, 0.3, 0.3, 0.3], [0.2, 0.2, 0.2, 0.2, 0.2], "holds"),
        ([0.3, 0.3, 0.3, 0.3, 0.3], [0.2, 0.2, 0.2, 0.2, 0.4], "conditions"),
        ([0.2, 0.2, 0.2, 0.2, 0.2], [0.3, 0.3, 0.3, 0.1, 0.1], "refuted"),
    ],
)
def test_every_verdict_can_come_out(plain, bn, verdict):
    rows = [{"arm": "plain", "rate": 0.1, "tuning_loss": 1.0}]
    for arm, errors in (("plain", plain), ("bn", bn)):
        rows += [{"arm": arm, "seed": k, "final_error": error} for k, error in enumerate(errors)]
    (judged,) = experiment.verdicts(Result("vgg_from_scratch", "small", "cpu", list(range(5)), {}, rows, 0.0))
    assert (judged.claim, judged.verdict) == ("C19", verdict)
    assert judged.number.median == pytest.approx(100 * (np.median(plain) - np.median(bn)))
