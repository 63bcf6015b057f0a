"""What the observers record is what passed, in every step, and they leave nothing behind."""

import numpy as np
import pytest
import torch
from torch import nn

from bnlab.observe import record_activations, record_gradients, record_running_statistics


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(48, 2))


def hooks(model):
    return sum(
        len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules()
    ) + sum(len(p._post_accumulate_grad_hooks or ()) for p in model.parameters())


def test_activations_are_the_moments_of_every_step():
    model, x = network(), [torch.randn(4, 2, 6, 6) + 1e4 for _ in range(3)]
    with record_activations(model) as seen:
        for batch in x:
            model(batch)
        model.eval()
        model(x[0])  # not a step
    assert seen.layers == ["0", "4"] and seen.steps == 3
    assert seen["0", "mean"].shape == (3, 3)
    for step, batch in enumerate(x):
        out = model[0](batch).detach().double()
        np.testing.assert_allclose(seen["0", "mean"][step], out.mean((0, 2, 3)))
        np.testing.assert_allclose(seen["0", "var"][step], out.var((0, 2, 3), correction=0), rtol=1e-9)
    assert hooks(model) == 0


def test_gradients_are_autograds_even_before_an_in_place_activation():
    model, x = network(), torch.randn(4, 2, 6, 6)
    with record_gradients(model, ["0", "1", "4"]) as seen:
        for _ in range(2):
            model.zero_grad()
            model(x).square().sum().backward()
    again = network()
    z = again[0](x)
    z.retain_grad()
    y = again[1](z)
    y.retain_grad()
    again[4](again[3](torch.relu(y))).square().sum().backward()
    np.testing.assert_allclose(seen["0", "output"], [z.grad.norm()] * 2, rtol=1e-4)
    np.testing.assert_allclose(seen["1", "output"], [y.grad.norm()] * 2, rtol=1e-4)
    np.testing.assert_allclose(seen["4", "weight"], [again[4].weight.grad.norm()] * 2, rtol=1e-4)
    np.testing.assert_allclose(seen["1", "weight"], [again[1].weight.grad.norm()] * 2, rtol=1e-4)
    assert hooks(model) == 0


def test_running_statistics_follow_the_batches():
    model = network()
    batches = [torch.randn(4, 2, 6, 6) for _ in range(3)]
    with record_running_statistics(model) as seen:
        for batch in batches:
            model(batch)
    running = np.zeros(3)
    for step, batch in enumerate(batches):
        out = model[0](batch).detach().double()
        before, running = running, 0.9 * running + 0.1 * out.mean((0, 2, 3)).numpy()
        np.testing.assert_allclose(seen["1", "batch_mean"][step], out.mean((0, 2, 3)), atol=1e-12)
        np.testing.assert_allclose(seen["1", "running_mean"][step], running, atol=1e-6)
        std = np.sqrt(seen["1", "running_var"][step] + 1e-5)
        np.testing.assert_allclose(seen["1", "drift"][step], (running - before) / std, atol=1e-6)
    assert hooks(model) == 0


@pytest.mark.parametrize("record", [record_activations, record_gradients, record_running_statistics])
def test_hooks_go_even_after_an_error(record):
    model = network()
    with pytest.raises(ZeroDivisionError), record(model):
        raise ZeroDivisionError
    assert hooks(model) == 0


def test_unknown_layers_and_quantities_are_named():
    model = network()
    with (
        pytest.raises(ValueError, match=r"layers \['nose'\] don't exist: give some of 0, 1, 2, 3, 4"),
        record_activations(model, ["nose"]),
    ):
        pass
    with pytest.raises(ValueError, match="has no layer of the kinds"), record_activations(nn.ReLU()):
        pass
    frozen = nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False))
    with pytest.raises(ValueError, match="track_running_stats=True"), record_running_statistics(frozen):
        pass
    with record_activations(model) as seen:
        model(torch.randn(4, 2, 6, 6))
    with pytest.raises(KeyError, match="nothing was recorded"):
        seen["0", "speed"]


def test_a_parametrized_weight_is_passed_over_and_no_hook_stays():
    model = nn.Sequential(torch.nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)))
    with record_gradients(model) as seen:
        model(torch.randn(4, 3)).sum().backward()
    assert seen["0", "output"].shape == (1,)
    assert hooks(model) == 0


def test_of_a_layer_that_returns_a_tuple_the_first_tensor_counts():
    torch.manual_seed(0)
    lstm, x = nn.LSTM(3, 5, batch_first=True), torch.randn(4, 6, 3)
    model = nn.Sequential(lstm)
    with record_activations(model, ["0"]) as seen, record_gradients(model, ["0"]) as gradients:
        out, _ = model(x)
        out.square().sum().backward()
    expected = out.detach().double()
    np.testing.assert_allclose(seen["0", "mean"][0], expected.transpose(0, 1).flatten(1).mean(1))
    np.testing.assert_allclose(gradients["0", "output"][0], (2 * expected).norm(), rtol=1e-5)
    assert hooks(model) == 0


def test_a_layer_without_tensors_is_refused():
    class Name(nn.Module):
        def forward(self, x):
            return "no tensor"

    model = nn.Sequential(Name())
    with pytest.raises(TypeError, match="a layer passed str"), record_activations(model, ["0"]):
        model(torch.ones(2, 3))
    assert hooks(model) == 0


def test_a_batch_given_by_name_is_recorded_as_any_other():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.bn = nn.BatchNorm1d(3)

        def forward(self, x):
            return self.bn(input=x)

    x = torch.randn(8, 3)
    model = Named()
    with record_running_statistics(model) as seen:
        model(x=x)
    np.testing.assert_allclose(seen["bn", "batch_mean"][0], x.double().mean(0))
    np.testing.assert_allclose(seen["bn", "running_mean"][0], 0.1 * x.mean(0), rtol=1e-5)
    assert seen.steps == 1 and hooks(model) == 0


def test_only_batch_normalization_has_running_statistics():
    with (
        pytest.raises(ValueError, match=r"\['0'\] have no running statistics"),
        record_running_statistics(network(), ["0"]),
    ):
        pass
