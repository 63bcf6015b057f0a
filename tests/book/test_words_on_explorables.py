"""What the chapters say of figures that move, against the figures' own numbers.

Each test quotes the words it is about: whoever changes the words is led here, and whoever changes the numbers there.
Trained networks differ a little from processor to processor, so bounds are wider than what was found on one.
"""

import functools
import sys

import numpy as np
import pytest
from browsing import ROOT

sys.path.append(str(ROOT / "book" / "_ext"))
import explorable


@functools.cache
def data_of(name):
    return explorable.load(name).data()


def says(chapter, *words):
    """Whether a chapter has these words, wherever its lines break."""
    text = " ".join((ROOT / "book" / f"{chapter}.md").read_text(encoding="utf-8").split())
    return all(word in text for word in words)


def test_half_way_to_the_lamp_gives_back_little():
    assert says("covariate_shift", "the first half of the way gives back little, the second half the rest")
    data = data_of("adabn")
    median = {
        shift: np.median(data["accuracy"][shift]["1000"], axis=0) for shift in data["accuracy"]
    }  # by percent moved
    before, half, after = median["lamp"][[0, 5, 10]]
    assert after - before > 20 and half - before < (after - before) / 3


def test_the_channels_come_back_where_it_helps_least():
    assert says("covariate_shift", "do the channels come back to their old place, and for which shift does that help")
    data = data_of("adabn")
    gained = {}
    for shift, runs in data["accuracy"].items():
        new, seen = data["new"][shift]["1000"], data["seen"][shift]
        scale = np.sqrt(np.array(new["var"]) + data["eps"])
        assert np.abs((np.array(seen["mean"]) - new["mean"]) / scale).max() < 0.2
        assert np.abs(np.sqrt(seen["var"]) / scale - 1).max() < 0.2
        median = np.median(runs["1000"], axis=0)
        gained[shift] = median[-1] - median[0]
    assert min(gained, key=gained.get) == "colors"


def test_two_choices_of_gamma_leave_a_standard_deviation_of_one():
    assert says("vgg_retrofitting", "all 224 channels", "which two leave a standard deviation of 1 as it is")
    data = data_of("insertion")
    assert sum(len(layer["var"]) for layer in data["layers"]) == 224
    assert says("vgg_retrofitting", "At which $\\eps$ does the first image change its class?")
    classes = [row["classes"] for row in data["measured"]["root"]]
    assert classes[0] == 0 < classes[-1]
    assert all(row["change"] < 1e-14 for row in data["measured"]["exact"])


def test_the_depth_that_needs_a_smaller_rate():
    assert says("training_speed", "With two layers and a rate of 0.32 the arms can't be told apart")
    data = data_of("learning_rate_depth")
    at = int(np.argmin(np.abs(np.log(np.array(data["rates"]) / 0.32))))

    def median(arm, depth):
        return np.median(data["errors"][arm][str(depth)], axis=1)

    for arm in ("bn", "skip"):
        assert abs(median("he", 2)[at] - median(arm, 2)[at]) < 0.02
    assert says(
        "training_speed", "At which depth would you have blamed the missing BN, where a smaller rate would have"
    )
    assert median("he", 8)[at] > 2 * median("bn", 8)[at] > 2 * median("he", 8).min() / 3
    assert says("training_speed", "which arm is the only one to train at 32 layers?")
    assert [arm for arm in data["arms"] if median(arm, 32).min() <= data["trains"]] == ["skip"]


def test_the_backward_pass_makes_the_difference_to_torch():
    assert says("what_bn_costs", "for whom does that make the larger difference")
    assert says("what_bn_costs", "Where do torch and the compiled loops come closest to each other?")
    timings = data_of("roofline")["devices"]["cpu"]["timings"]

    def share(name, operation, layout):
        took = {
            (t["name"], t["network"], tuple(t["shape"])): t["milliseconds"]
            for t in timings
            if (t["pass"], t["layout"]) == (operation, layout)
        }
        floor = data_of("roofline")["floor"][operation] / 2
        return np.median([floor * took["copy", *key] / ms for (who, *key), ms in took.items() if who == name])

    gain = {name: share(name, "backward", "NCHW") / share(name, "forward", "NCHW") for name in ("torch", "bnlab numba")}
    assert gain["torch"] > 2 and 0.8 < gain["bnlab numba"] < 1.25
    near = {
        (operation, layout): share("bnlab numba", operation, layout) / share("torch", operation, layout)
        for operation in ("forward", "backward")
        for layout in ("NCHW", "channels_last")
    }
    assert min(near, key=lambda case: abs(np.log(near[case])))[0] == "backward"


def test_half_a_standard_deviation_is_reached_and_two_leave_a_sign():
    assert says("small_batches_and_relatives", "At which size is an example half a standard deviation away")
    module, data = explorable.load("ghost"), data_of("ghost")
    x, eps = np.array(data["batches"][0]), data["eps"]
    full = module.normalized(x, len(x), eps)
    error = {m: np.sqrt(np.mean((module.normalized(x, m, eps) - full) ** 2)) for m in (2, 8, 16)}
    assert error[16] < 0.5 < error[8] < error[2]
    assert np.mean(np.abs(np.abs(module.normalized(x, 2, eps)) - 1) < 0.01) > 0.8


@pytest.mark.parametrize("gain", [0.25, 0.5, 1, 2, 4, 8, 16])
def test_no_gain_stops_the_gradient_of_bn(gain):
    assert says("initialization_and_gradients", "try to stop BN's gradient from growing by means of the gain")
    module, data = explorable.load("signal_depth"), data_of("signal_depth")
    _, gradient = module.profile(data, "relu", gain, 50, "bn")
    assert gradient[0] / gradient[-1] > 1e4


def test_some_gain_is_stable_for_the_sigmoid():
    assert says("initialization_and_gradients", "look for the gain at which a net without BN is stable")
    module, data = explorable.load("signal_depth"), data_of("signal_depth")
    change = []
    for exponent in (0, 3.25, 3.5, 4):
        _, gradient = module.profile(data, "sigmoid", 2.0**exponent, 50, "plain")
        change.append(gradient[0] / gradient[-1])
    assert change[0] < 1e-20 and change[1] < 1 < change[2] and change[3] > 1e3


def test_the_best_rate_on_raw_features_and_two_steps_on_standardized_ones():
    assert says("scaling", "about a quarter of a percent is left after 30 steps at the best of these rates")
    assert says("scaling", "a rate a few percent higher is beyond the limit", "two steps at 0.9 leave less")
    data = data_of("descent")

    def left(scaling, rate, steps):
        H, end = np.array(data[scaling]["hessian"]), np.array(data[scaling]["end"])
        error = np.linalg.matrix_power(np.eye(2) - rate * H, steps) @ -end
        return error @ H @ error / 2 / data[scaling]["height"]

    rates = np.arange(0.02, 2.1, 0.02)
    raw = [left("raw", rate, 30) for rate in rates]
    limit = 2 / np.linalg.eigvalsh(data["raw"]["hessian"])[-1]
    assert 0.0022 < min(raw) < 0.0028 and 1.03 < limit / rates[np.argmin(raw)] < 1.1
    assert left("standardized", 0.9, 2) < min(raw) < left("standardized", 0.9, 1)


def test_how_far_the_wrong_value_must_go():
    assert says("scaling", "three times the right value is enough; standardization holds out until between seven and")
    x = np.array(data_of("outlier")["x"])

    def kept(factor, spread):
        return spread(x) / spread(np.r_[factor * x[0], x[1:]])

    assert kept(3, np.ptp) < 0.5 and kept(8, np.std) < 0.5 < kept(7, np.std)


def test_momentum_and_batch_size():
    assert says("training_and_evaluation", "momentum 0.5 is near the new mean after two of them", "takes thirteen")
    assert says("training_and_evaluation", "momentum 0.32 is quieter than that, and near after four")
    data = data_of("running_statistics")
    std = data["var"] ** 0.5

    def follow(m, momentum):
        """How far off it is before the change, and how many batches it takes after it."""
        batches, true = np.array(data["batches"])[:, :m], np.full(100, data["mean"])
        batches[50:], true[50:] = 1.5 * batches[50:] - std, 1.5 * true[50:] - std
        line = [0.0]
        for mean in batches.mean(axis=1):
            line.append((1 - momentum) * line[-1] + momentum * mean)
        off = np.abs(np.array(line[1:]) - true) / std
        return np.sqrt((off[25:50] ** 2).mean()), np.argmax(off[50:] < 0.5) + 1

    a_batch, _ = follow(4, 1.0)
    assert follow(4, 0.5)[0] > a_batch / 2 and follow(4, 0.5)[1] == 2
    assert follow(4, 0.1)[0] < a_batch / 5 and follow(4, 0.1)[1] == 13
    assert follow(64, 0.32)[0] < follow(4, 0.1)[0] and follow(64, 0.32)[1] == 4


def test_gamma_and_beta_keep_their_promise_for_the_batch_alone():
    assert says("batch_norm_transform", "$\\beta = 1$, $\\gamma = 2$ do it for any batch")
    x, past = np.array(explorable.load("live_batch").X), data_of("live_batch")
    batch, other = 2 * (x - x.mean()) / x.std() + 1, 2 * (x - past["mean"]) / past["var"] ** 0.5 + 1
    np.testing.assert_allclose([batch.mean(), batch.std()], [1, 2])
    assert abs(other.mean() - 1) > 0.5 and abs(other.std() - 2) > 0.5


def test_pulling_one_gradient_moves_all_six():
    assert says("backward_pass", "all six change")
    x_hat = np.array(data_of("removed_gradient")["x_hat"])
    follows = np.eye(6) - 1 / 6 - np.outer(x_hat, x_hat) / 6
    assert np.abs(follows).min() > 0.01


def test_lopsided_values_make_the_cloud_lean():
    assert says("regularization", "Four times the batch, half the cloud", "both its mean and its variance came out too")
    module, data = explorable.load("batch_noise"), data_of("batch_noise")
    x = np.array(data["area"]["x"])
    for seed in (1, 2, 3):
        batches = module.draw(x, 16, seed)
        assert np.corrcoef(batches.mean(axis=1), batches.var(axis=1))[0, 1] > 0.5
