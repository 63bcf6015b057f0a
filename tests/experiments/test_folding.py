"""The folding experiment: what it times is the same function, and its formats round as they should."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from bnlab.experiments import Estimate, Result, folding  # noqa: E402
from bnlab.retrofit import fold_batch_norm  # noqa: E402


@pytest.mark.parametrize("network", folding.NETWORKS)
def test_networks_have_moved_statistics_and_fold_to_the_same_function(network):
    torch.manual_seed(0)
    model = folding.build(network)
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert norms and all((n.running_mean != 0).all() and (n.weight != 1).all() and (n.bias != 0).all() for n in norms)
    folded = fold_batch_norm(model)
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in folded.modules())
    x = torch.randn(3, *folding.NETWORKS[network][1])
    with torch.no_grad():
        torch.testing.assert_close(folded(x).double(), model.double()(x.double()), rtol=1e-3, atol=1e-4)


def test_latency_reports_quartiles_in_order_and_leaves_the_number_of_threads_alone():
    threads = torch.get_num_threads()
    row = folding.latency("dense", 2, 0, turns=3)
    assert torch.get_num_threads() == threads
    assert row["bn_ms"] > 0 and row["folded_ms"] > 0
    for name in ("saved", "control"):
        assert 0 < row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]


def test_formats_round_to_what_they_say():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 2)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weight = model[0].weight.detach()

    by_layer = folding.stored(model, "int8 by layer")[0].weight.detach()
    step = weight.abs().max() / 127
    torch.testing.assert_close(by_layer / step, (by_layer / step).round(), rtol=0, atol=1e-3)
    assert (by_layer - weight).abs().max() <= step / 2 * 1.001
    assert len(by_layer.unique()) <= 255

    by_channel = folding.stored(model, "int8 by channel")[0].weight.detach()
    steps = weight.abs().amax((1, 2, 3)) / 127
    assert ((by_channel - weight).abs().amax((1, 2, 3)) <= steps / 2 * 1.001).all()

    x = torch.randn(2, 3, 5, 5)
    half = folding.stored(model, "bfloat16")
    assert torch.equal(half[0].weight, weight.bfloat16().float())
    y = half[0](x)
    assert torch.equal(y, y.bfloat16().float()) and not torch.equal(half[1](y), half[1](y).bfloat16().float())
    assert torch.equal(folding.stored(model, "float32")(x), model(x))
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())


def test_steps_by_channel_commute_with_folding():
    torch.manual_seed(0)
    model = folding.build("small VGG")
    x = torch.randn(4, 1, 28, 28)
    with torch.no_grad():
        rounded = folding.stored(model, "int8 by channel")(x)
        folded = folding.stored(fold_batch_norm(model), "int8 by channel")(x)
        by_layer = folding.stored(fold_batch_norm(model), "int8 by layer")(x)
    torch.testing.assert_close(folded, rounded, rtol=1e-3, atol=1e-4)
    assert (by_layer - rounded).abs().max() > 10 * (folded - rounded).abs().max()


def test_a_miniature_run_has_all_rows_and_draws(monkeypatch):
    import matplotlib

    matplotlib.use("agg")
    monkeypatch.setattr(folding, "NETWORKS", {"dense": folding.NETWORKS["dense"]})
    monkeypatch.setitem(folding.BUDGETS, "small", {"batches": (1, 2), "turns": 3, "examples": 100, "epochs": 1})
    result = folding.run(seeds=range(2))
    assert isinstance(result, Result) and folding.verdicts(result) == []
    assert len(result.select(what="latency")) == 4
    assert len(result.select(what="format")) == 2 * 2 * len(folding.FORMATS)
    exact = result.column("error", arm="bn", format="float32")
    assert (exact < 1e-4).all() and (result.column("error", arm="folded", format="bfloat16") > exact).all()
    assert isinstance(folding.saving(result, "dense", 2), Estimate)
    assert np.isclose(folding.saving(result, "dense", 2, "control").median, 1, atol=0.9)
    for figure in (folding.plot(result), folding.plot_formats(result)):
        assert figure.axes
