"""The color shift experiment: dye and repairs against arithmetic, a miniature run, and every verdict in turn."""

import numpy as np
import pytest
import torch
from torch import nn

from bnlab import datasets
from bnlab.experiments import Result, color_shift
from bnlab.models import SmallConv

RNG = np.random.default_rng(0)
GARMENTS = datasets.fashion(10, 200).x_test[:, 0]


# --- the images ------------------------------------------------------------------------------------------------------


def test_dye_puts_tinted_garments_on_the_background():
    garments = np.array([[[0.0, 0.1, 0.5, 1.0]]])
    images = color_shift.dye(garments, np.array([1.0, 0.5, 0.0]))
    assert images.shape == (1, 3, 1, 4) and images.dtype == np.float32
    # opacity 0, 0.4, 1, 1
    np.testing.assert_allclose(images[0, 0, 0], [0.5, 0.6 * 0.5 + 0.4 * 0.1, 0.5, 1.0], rtol=1e-6)
    np.testing.assert_allclose(images[0, 1, 0], [0.5, 0.6 * 0.5 + 0.4 * 0.05, 0.25, 0.5], rtol=1e-6)
    np.testing.assert_allclose(images[0, 2, 0], [0.5, 0.6 * 0.5, 0.0, 0.0], rtol=1e-6)


def test_hues_go_from_dark_gray_to_pure_colors():
    import colorsys

    assert (color_shift.hues(5, 0.0, 1) == color_shift.GRAY).all()
    pure = color_shift.hues(300, 1.0, 1)
    hue = np.random.default_rng(1).random(300)
    np.testing.assert_allclose(pure, [colorsys.hsv_to_rgb(h, 1, 1) for h in hue], atol=1e-12)
    np.testing.assert_allclose(color_shift.hues(300, 0.25, 1), 0.75 * color_shift.GRAY + 0.25 * pure, atol=1e-12)


def test_the_shift_moves_x_alone():
    """Hues are drawn without a look at the garment, so labels and shapes are what they were."""
    images = color_shift.shifted(GARMENTS, seed=3)
    assert set(images) == {("colors", s) for s in color_shift.STRENGTHS} | {("ginger", 1.0), ("lamp", 1.0)}
    gray = images["colors", 0.0]
    np.testing.assert_array_equal(gray[:, 0], gray[:, 2])
    np.testing.assert_allclose(images["lamp", 1.0], gray * color_shift.ORANGE[:, None, None], rtol=1e-6)
    other = color_shift.shifted(GARMENTS[::-1], seed=3)["colors", 1.0]
    outside = np.broadcast_to((GARMENTS == 0)[:, None], gray.shape)
    for kind in (images["colors", 1.0], other[::-1], images["ginger", 1.0]):
        np.testing.assert_array_equal(kind[outside], np.float32(color_shift.BACKGROUND))


def test_training_tuning_adapting_and_testing_see_different_garments():
    settings = {**color_shift.BUDGETS["small"], "train": 8000}
    made = color_shift.prepare(settings)
    gray = made["train"]["gray"]
    sets = [gray.x_train, gray.x_test, made["new"]["colors", 0.0], made["test"]["colors", 0.0]]
    assert [len(s) for s in sets] == [8000, 1000, 1000, 1000]
    seen = [{image.tobytes() for image in s} for s in sets]
    assert all(len(a & b) <= 2 for i, a in enumerate(seen) for b in seen[:i])  # Fashion-MNIST has a few duplicates
    for y in (gray.y_train, gray.y_test, made["y_new"], made["y_test"]):
        assert np.ptp(np.bincount(y)) == 0


# --- repairs that are exact ------------------------------------------------------------------------------------------


def test_aligning_undoes_a_lamp_exactly():
    images = color_shift.shifted(GARMENTS, seed=3)
    old, new = images["colors", 0.0].astype(float), images["lamp", 1.0].astype(float)
    np.testing.assert_allclose(color_shift.align(new, new, old), old, atol=1e-5)
    ginger = images["ginger", 1.0].astype(float)
    assert np.abs(color_shift.align(ginger, ginger, old) - old).max() > 0.2  # but not a dye


def test_standardizing_each_image_undoes_every_lamp():
    images = color_shift.shifted(GARMENTS, seed=3)
    gray, lamp = (color_shift.standardize(images[kind]) for kind in (("colors", 0.0), ("lamp", 1.0)))
    np.testing.assert_allclose(lamp, gray, atol=0.05)  # up to the constant that guards against a flat image
    np.testing.assert_allclose(gray.mean(axis=(1, 2, 3)), 0, atol=1e-5)
    assert np.isfinite(color_shift.standardize(np.full((1, 3, 4, 4), 0.3))).all()


def test_jitter_turns_contrasts_around_but_leaves_the_background():
    images = torch.from_numpy(color_shift.shifted(GARMENTS, seed=3)["colors", 0.0])
    out = color_shift.jitter(0)(images)
    contrast_in, contrast_out = images - color_shift.BACKGROUND, out - color_shift.BACKGROUND
    at = contrast_in.flatten(2).abs().argmax(2, keepdim=True)
    factors = (contrast_out.flatten(2).gather(2, at) / contrast_in.flatten(2).gather(2, at)).squeeze(2)
    torch.testing.assert_close(contrast_out, factors[..., None, None] * contrast_in, atol=1e-5, rtol=1e-4)
    assert factors.min() < -1.8 and factors.max() > 1.8 and factors.abs().max() <= 2.001
    assert abs(factors.mean()) < 0.2 and factors.std(1).mean() > 0.5  # another one for each channel
    assert torch.equal(color_shift.jitter(0)(images), out) and not torch.equal(color_shift.jitter(1)(images), out)


def test_adabn_replaces_statistics_by_those_of_the_images_and_nothing_else():
    torch.manual_seed(0)
    model = SmallConv(nn.BatchNorm2d, size=14)
    model.features[1].momentum, model.features[5].momentum = 0.3, None
    before = {name: p.clone() for name, p in model.named_parameters()}
    x = torch.rand(32, 1, 14, 14)
    color_shift.adapt(model, x.numpy())
    assert not model.training and (model.features[1].momentum, model.features[5].momentum) == (0.3, None)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) and parameter.grad is None
    hidden = model.features[0](x).double().transpose(0, 1).flatten(1)
    torch.testing.assert_close(model.features[1].running_mean.double(), hidden.mean(1), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(model.features[1].running_var.double(), hidden.var(1), atol=1e-6, rtol=1e-5)


def test_adabn_makes_a_layer_blind_to_a_common_stretch_and_move():
    """BN(a W x + b) = BN(W x) for one a > 0 and b: exactly what AdaBN can repair, here without padding."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, eps=1e-12), nn.ReLU(), nn.Conv2d(4, 2, 3)).double()
    x = torch.rand(20, 3, 8, 8, dtype=torch.float64)
    color_shift.adapt(model, x)
    expected = model(x)
    new = 3.0 * x + 0.7
    assert (model(new) - expected).abs().max() > 0.1
    color_shift.adapt(model, new)
    torch.testing.assert_close(model(new), expected)
    lamp = new * torch.tensor([1.0, 0.5, 0.1], dtype=torch.float64)[:, None, None]
    color_shift.adapt(model, lamp)  # but a stretch that differs between channels is mixed by the convolution
    assert (model(lamp) - expected).abs().max() > 0.1


def test_adabn_without_bn_is_refused_and_an_error_leaves_momenta_alone():
    with pytest.raises(ValueError, match="no batch normalization layer with running statistics"):
        color_shift.adapt(SmallConv(), GARMENTS[:, None])
    model = SmallConv(nn.BatchNorm2d)
    with pytest.raises(RuntimeError):
        color_shift.adapt(model, np.zeros((2, 5, 28, 28), np.float32))
    assert model.features[1].momentum == 0.1 and not model.training


def test_input_scaling_standardizes_its_training_set():
    images = RNG.normal(3, [[[[2.0]], [[0.5]], [[1.0]]]], size=(50, 3, 6, 6)).astype(np.float32)
    out = color_shift.InputScaling(images)(torch.from_numpy(images)).double()
    torch.testing.assert_close(out.mean(dim=(0, 2, 3)), torch.zeros(3, dtype=torch.float64), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.std(dim=(0, 2, 3), correction=0), torch.ones(3, dtype=torch.float64))


# --- search ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("best", [2.0**-7, 0.05, 0.1, 0.3, 25.0])
def test_search_ends_at_a_rate_better_than_both_neighbors(best):
    called = []

    def error(rate):
        called.append(rate)
        return abs(np.log(rate / best))

    found = color_shift.search(error, 0.1)
    assert abs(np.log2(found / best)) <= 0.5 and {found / 2, found, 2 * found} <= set(called)
    assert len(called) == len(set(called))


# --- a miniature run -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def miniature():
    settings = {"size": 7, "plan": (4, "M", 8), "train": 200, "test": 100, "steps": 6, "batch_size": 50}
    settings |= {"first_rate": 0.1, "tuned_on": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(color_shift.BUDGETS, "small", settings)
        yield color_shift.run(seeds=range(2))


def test_a_run_has_every_row_and_survives_its_file(miniature, tmp_path):
    result = Result.load(miniature.save(tmp_path / "result.json"))
    kinds = len(color_shift.STRENGTHS) + 2
    for recipe in color_shift.RECIPES:
        for arm in color_shift.NORMS:
            tests = result.select(arm=arm, recipe=recipe, kind="test")
            assert len(tests) == 2 * kinds and all(0 <= row["error"] <= 1 for row in tests)
            tried = {row["rate"]: row["error"] for row in result.select(arm=arm, recipe=recipe, kind="rate", seed=0)}
            chosen = tests[0]["rate"]
            assert tried[chosen] <= min(tried[chosen / 2], tried[2 * chosen])  # the best isn't at an edge
            aligned = result.select(arm=arm, recipe=recipe, kind="aligned")
            assert len(aligned) == (6 if recipe == "gray" else 0)
    assert len(result.select(kind="adabn")) == 2 * 3 * len(color_shift.ADAPT_SIZES)
    assert {row["arm"] for row in result.select(kind="adabn")} == {"bn"}
    assert len(color_shift.repairs(result, "lamp", "bn")) == len(color_shift.repairs(result, "lamp", "none")) + 1
    assert color_shift.accuracy(result, "bn").n == 2
    (verdict,) = color_shift.verdicts(result)
    assert verdict.claim == "C03"


def test_standardized_networks_cannot_see_the_lamp(miniature):
    """An exact consequence of the preprocessing, up to rounding at the edges between classes."""
    for arm in color_shift.NORMS:
        where = {"arm": arm, "recipe": "standardized", "kind": "test"}
        gray = miniature.column("error", images="colors", strength=0.0, **where)
        np.testing.assert_allclose(miniature.column("error", images="lamp", **where), gray, atol=0.03)


def test_the_same_run_gives_the_same_numbers_and_both_arms_the_same_start(miniature):
    settings = miniature.settings
    made = color_shift.prepare(settings)
    histories = [
        color_shift.fit("bn", "jittered", 0.1, 0, made["train"]["jittered"], settings)[1].train_loss for _ in range(2)
    ]
    np.testing.assert_array_equal(*histories)
    settings = {**settings, "steps": 1}
    models = [color_shift.fit(arm, "gray", 0.0, 5, made["train"]["gray"], settings)[0] for arm in color_shift.NORMS]
    for kind in (nn.Conv2d, nn.Linear):
        weights = [[m.weight for m in model.modules() if isinstance(m, kind)] for model in models]
        assert weights[0] and all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


@pytest.mark.parametrize("draw", [color_shift.plot, color_shift.plot_repairs, color_shift.plot_adapted])
def test_figures(miniature, draw):
    import matplotlib.pyplot as plt

    figure = draw(miniature)
    assert figure.axes[-1].get_xlabel() and figure.get_size_inches()[0] <= 6.4
    plt.close(figure)


# --- verdicts --------------------------------------------------------------------------------------------------------


def result_with(mild, strong, arm_gap=0.0, spread=0.01):
    """Five seeds that lose `mild` at a quarter of the strength and `strong` at full, `arm_gap` more without BN."""
    rows = []
    for arm in color_shift.NORMS:
        for strength in color_shift.STRENGTHS:
            loss = 0.0 if strength == 0 else mild if strength < 1 else strong + (arm_gap if arm == "none" else 0)
            rows += [
                {
                    "arm": arm,
                    "recipe": "gray",
                    "kind": "test",
                    "images": "colors",
                    "strength": strength,
                    "seed": seed,
                    "error": 0.2 + loss + (spread * (seed - 2) if strength else 0.0),
                }
                for seed in range(5)
            ]
    return Result("color_shift", "small", "cpu", list(range(5)), {}, rows, 0.0)


@pytest.mark.parametrize(
    ("losses", "verdict"),
    [
        ({"mild": 0.2, "strong": 0.4}, "holds"),
        ({"mild": 0.01, "strong": 0.4}, "conditions"),
        ({"mild": 0.11, "strong": 0.4}, "conditions"),  # 11 points, but one seed lost only 9
        ({"mild": 0.0, "strong": 0.05}, "refuted"),
        ({"mild": 0.0, "strong": 0.05, "arm_gap": 0.3}, "open"),  # only one arm fails
        ({"mild": 0.0, "strong": 0.1}, "open"),  # the interval straddles the criterion
    ],
)
def test_every_verdict_can_be_reached(losses, verdict):
    (judged,) = color_shift.verdicts(result_with(**losses))
    assert (judged.claim, judged.verdict) == ("C03", verdict)
    assert judged.number.median == pytest.approx(100 * losses["strong"])  # the arm that loses less
    assert "points" in str(judged.number) and f"{100 * losses['mild']:.1f}" in judged.because
