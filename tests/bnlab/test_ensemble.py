"""The stack of networks computes what R ordinary torch networks compute, one by one."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bnlab.datasets import Dataset
from bnlab.ensemble import BatchNorm, Ensemble, best_rate, fit, kaiming, rates

SIZES = [5, 8, 7, 3]


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 5)).astype("float32"), rng.integers(3, size=60)
    return Dataset(x[:40], y[:40], x[40:], y[40:], ("a", "b", "c"))


def twin(ensemble, run):
    """The same network from torch's own layers."""
    layers = []
    hidden = len(ensemble.weights) - 1
    for k, weight in enumerate(ensemble.weights):
        bias = ensemble.biases[k]
        linear = nn.Linear(*weight.shape[1:], bias=bias is not None)
        linear.weight.data = weight[run].detach().T.clone()
        if bias is not None:
            linear.bias.data = bias[run, 0].detach().clone()
        layers.append(linear)
        if k < hidden:
            norm = [nn.BatchNorm1d(weight.shape[2])] if ensemble.norm else []
            if norm:
                norm[0].weight.data = ensemble.gamma[k][run, 0].detach().clone()
                norm[0].bias.data = ensemble.beta[k][run, 0].detach().clone()
            layers += [*norm, nn.ReLU()] if ensemble.order == "norm-activation" else [nn.ReLU(), *norm]
    return nn.Sequential(*layers)


@pytest.mark.parametrize("order", ["norm-activation", "activation-norm"])
@pytest.mark.parametrize("norm", [None, BatchNorm()])
def test_training_steps_are_those_of_torch(data, norm, order):
    """Five steps of SGD with momentum and weight decay, each network with its own learning rate."""
    learning_rates, decay = [0.05, 0.2, 0.05], 0.01
    ensemble = Ensemble(SIZES, [0, 0, 1], norm=norm, order=order)
    twins = [twin(ensemble, run) for run in range(3)]
    fit(ensemble, data, learning_rates, steps=5, momentum=0.9, weight_decay=decay)
    x, y = torch.tensor(data.x_train), torch.tensor(data.y_train)
    for run, network in enumerate(twins):
        decayed = [p for p in network.parameters() if p.dim() == 2]
        others = [p for p in network.parameters() if p.dim() == 1]
        groups = [{"params": decayed, "weight_decay": decay}, {"params": others}]
        optimizer = torch.optim.SGD(groups, lr=learning_rates[run], momentum=0.9)
        for _ in range(5):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x), y).backward()
            optimizer.step()
        torch.testing.assert_close(ensemble(x)[run], network(x), rtol=1e-4, atol=1e-5)


def test_a_diverged_network_disturbs_no_other(data):
    alone, together = Ensemble(SIZES, [0]), Ensemble(SIZES, [0, 0])
    one = fit(alone, data, [0.1], steps=30, batch_size=10, every=10)
    two = fit(together, data, [0.1, 1e30], steps=30, batch_size=10, every=10)
    np.testing.assert_allclose(two.train_loss[:, 0], one.train_loss[:, 0], rtol=1e-5)
    assert np.isnan(two.test_error[-1, 1])
    assert np.isinf(two.steps_to(0.99)[1]) or two.steps_to(0.99)[1] <= 10


def test_evaluation_uses_the_statistics_of_the_whole_training_set(data):
    """Layer by layer, as torch's layers do with momentum=None and the whole set as one batch (biased variance)."""
    ensemble = Ensemble(SIZES, [3], norm=BatchNorm())
    x, test = torch.tensor(data.x_train), torch.tensor(data.x_test)
    ensemble.calibrate(x)
    network = twin(ensemble, 0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.momentum = None
    network(x)
    m = len(x)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_var *= (m - 1) / m
    network.eval()
    torch.testing.assert_close(ensemble(test, training=False)[0], network(test), rtol=1e-4, atol=1e-5)
    # and so one example's output doesn't depend on the others
    torch.testing.assert_close(ensemble(test[:1], training=False), ensemble(test, training=False)[:, :1])


def test_calibration_sees_the_plain_statistics_whatever_training_does(data):
    class Noisy(BatchNorm):
        def normalize(self, z, mu, var, layer):
            return super().normalize(z, mu, var, layer) + 100

    noisy, plain = Ensemble(SIZES, [0], norm=Noisy()), Ensemble(SIZES, [0], norm=BatchNorm())
    x = torch.tensor(data.x_train)
    for ensemble in (noisy, plain):
        ensemble.calibrate(x)
    torch.testing.assert_close(noisy(x, training=False), plain(x, training=False))
    assert (noisy(x) - plain(x)).abs().max() > 1


def test_taps_see_and_replace_values(data):
    ensemble = Ensemble(SIZES, [0], norm=BatchNorm())
    x, seen = torch.tensor(data.x_train), {}
    ensemble(x, tap=lambda place, layer, value: seen.update({(place, layer): value}))
    assert sorted(seen) == [("h", 0), ("h", 1), ("y", 0), ("y", 1), ("z", 0), ("z", 1)]
    assert seen["y", 0].mean(dim=1).abs().max() < 1e-5 and (seen["h", 1] >= 0).all()
    silent = ensemble(
        x, tap=lambda place, layer, value: torch.zeros_like(value) if (place, layer) == ("h", 1) else None
    )
    torch.testing.assert_close(silent, ensemble.biases[-1].expand_as(silent))


def test_gain_scales_hidden_weights_only():
    small, large = (Ensemble(SIZES, [0], gain=gain) for gain in (1.0, 10.0))
    for k, (a, b) in enumerate(zip(small.weights, large.weights, strict=True)):
        torch.testing.assert_close(b, a * (10 if k < 2 else 1))


def test_initial_weights_have_the_variance_of_he():
    draw = kaiming(400, 500, torch.Generator().manual_seed(0))
    assert draw.var().item() == pytest.approx(2 / 400, rel=0.02)


def test_same_seed_same_batches_in_every_arm(data):
    seen = {None: [], "norm": []}
    for key, norm in ((None, None), ("norm", BatchNorm())):
        record = seen[key]
        ensemble = Ensemble(SIZES, [0, 1], norm=norm)
        fit(
            ensemble,
            data,
            [0.0, 0.0],
            steps=4,
            batch_size=15,
            tap=lambda p, k, v, r=record: r.append(v) if p == "z" else None,
        )
    for a, b in zip(seen[None][::2], seen["norm"][::2], strict=True):
        torch.testing.assert_close(a, b)
    assert not torch.equal(seen[None][0][0], seen[None][0][1])


def test_an_epoch_shows_every_example_once(data):
    from bnlab.ensemble import _Batches

    batches = _Batches([0, 5], 40, 10)
    epoch = torch.cat([batches.draw() for _ in range(4)], dim=1)
    for row in epoch:
        assert sorted(row.tolist()) == list(range(40))


def test_steps_to_is_the_first_evaluation_that_is_good_enough(data):
    history = fit(Ensemble(SIZES, [0]), data, [0.1], steps=10, every=5)
    history.test_error = np.array([[0.9], [0.4], [0.5]])
    assert history.steps.tolist() == [0, 5, 10]
    assert history.steps_to(0.4) == 5 and history.steps_to(0.1) == math.inf


@settings(max_examples=30)
@given(st.floats(1e-4, 1e-1), st.integers(1, 5), st.integers(1, 6))
def test_rates_are_evenly_spaced_in_their_logarithm(low, decades, per_decade):
    grid = np.array(rates(low, low * 10**decades, per_decade))
    assert len(grid) == decades * per_decade + 1
    assert np.allclose(np.diff(np.log10(grid)), 1 / per_decade, atol=0.01)


def test_best_rate_minds_the_edge_and_divergence():
    grid = [0.1, 1.0, 10.0]
    assert best_rate(grid, [[3, 3, 3], [1, 1, 9], [np.nan, 0, np.nan]]) == (1.0, True)
    assert best_rate(grid, [[3, 3], [2, 2], [1, 1]]) == (10.0, False)
    with pytest.raises(ValueError, match="2 rows for 3 learning rates"):
        best_rate(grid, [[1], [2]])


@pytest.mark.parametrize("size", [0, 41])
def test_impossible_batches_are_refused(data, size):
    with pytest.raises(ValueError, match="give 1 to 40 examples"):
        fit(Ensemble(SIZES, [0]), data, [0.1], steps=1, batch_size=size)


def test_one_learning_rate_for_each_network(data):
    with pytest.raises(ValueError, match="2 learning rates for 1 networks"):
        fit(Ensemble(SIZES, [0]), data, [0.1, 0.2], steps=1)


def test_unknown_order_is_refused():
    with pytest.raises(ValueError, match="'norm-activation' or 'activation-norm'"):
        Ensemble(SIZES, [0], order="before")
