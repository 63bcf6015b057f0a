"""What BN hides it hides exactly; sizes of the disturbances; additivity; every verdict reachable."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from bnlab.ensemble import BatchNorm, Ensemble  # noqa: E402
from bnlab.experiments import Result  # noqa: E402
from bnlab.experiments import layer_independence as layers  # noqa: E402
from bnlab.experiments.internal_shift import losses  # noqa: E402


def small(norm=None, activation=torch.relu):
    networks = Ensemble([6, 12, 12, 12, 4], [0, 1], norm=norm, activation=activation)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(60, 6, generator=generator), torch.randint(4, (60,), generator=generator)
    (gradient,) = torch.autograd.grad(losses(networks, x, y).sum(), [networks.weights[0]])
    return networks, x, y, 0.3 * gradient


@pytest.mark.parametrize("kind", ["scale", "shift"])
def test_bn_hides_scale_and_shift(kind):
    networks, x, y, step = small(BatchNorm(eps=1e-12))
    found = layers.notice(networks, kind, x, y, step, seed=0)
    assert found["input"].max() < 1e-4 and found["gradient"].max() < 1e-3
    networks, x, y, step = small()
    assert layers.notice(networks, kind, x, y, step, seed=0)["input"].min() > 0.05


@pytest.mark.parametrize("kind", ["mixing", "random", "downhill", "step"])
@pytest.mark.parametrize("norm", [None, BatchNorm()])
def test_the_rest_gets_through_and_leaves_no_trace(kind, norm):
    networks, x, y, step = small(norm)
    saved = [p.detach().clone() for p in networks.parameters]
    found = layers.notice(networks, kind, x, y, step, seed=0)
    assert found["input"].min() > 1e-3 and found["angle"].min() > 0.05
    assert all(torch.equal(p, q) for p, q in zip(networks.parameters, saved, strict=True))
    assert found["input"].shape == found["gradient"].shape == (3, 2)


@pytest.mark.parametrize("kind", ["mixing", "random", "downhill"])
def test_disturbances_have_the_same_size(kind):
    networks, x, _, step = small()
    before = networks.weights[0].detach().clone()
    assert layers.disturb(networks, kind, x, step, seed=3) is None
    moved = (networks.weights[0] - before).norm(dim=(1, 2)) / before.norm(dim=(1, 2))
    assert torch.allclose(moved, torch.full_like(moved, layers.SIZE), rtol=0.2 if kind == "mixing" else 1e-4)


def test_mixing_is_a_rotation():
    rotation = layers._rotation(30, torch.Generator().manual_seed(0)).double()
    one = torch.eye(30, dtype=torch.float64)
    assert torch.allclose(rotation @ rotation.T, one, atol=1e-6)
    assert float((rotation - one).norm() / one.norm()) == pytest.approx(layers.SIZE, rel=1e-3)


def test_unknown_kind():
    networks, x, _, step = small()
    with pytest.raises(ValueError, match="twist"):
        layers.disturb(networks, "twist", x, step, seed=0)


def test_interaction_vanishes_with_the_step():
    networks, x, y, _ = small(BatchNorm(), activation=torch.tanh)
    small_step, large_step = (layers.interaction(networks, x, y, rate) for rate in (0.01, 0.3))
    assert (small_step < 0.05).all() and (large_step > 2 * small_step).all()


def test_interaction_of_a_product_by_hand():
    """A linear net of two layers: the loss after both steps has a mixed term that single steps lack."""
    networks, x, y, _ = small()
    rate = 0.2
    start = losses(networks, x, y)
    gradients = torch.autograd.grad(start.sum(), networks.parameters)
    names = [id(p) for p in networks.parameters]

    def stepped(chosen):
        saved = [p.detach().clone() for p in networks.parameters]
        with torch.no_grad():
            for p, g in zip(networks.parameters, gradients, strict=True):
                if id(p) in chosen:
                    p.sub_(rate * g)
            value = losses(networks, x, y)
            for p, old in zip(networks.parameters, saved, strict=True):
                p.copy_(old)
        return value - start.detach()

    by_layer = [{id(w), id(b)} for w, b in zip(networks.weights, networks.biases, strict=True)]
    alone = sum(stepped(chosen) for chosen in by_layer)
    expected = (stepped(set(names)) - alone).abs() / alone.abs()
    assert torch.allclose(layers.interaction(networks, x, y, rate), expected, rtol=1e-3)


def test_miniature_run(monkeypatch):
    monkeypatch.setitem(layers.BUDGETS, "small", {"steps": 10, "watched": 4, "probe": 40})
    monkeypatch.setattr(layers, "HIDDEN", [8] * 3)
    monkeypatch.setattr(layers, "RATES", [0.03, 0.1, 0.3])
    result = layers.run(seeds=[0, 1])
    assert len(result.select(part="perturb")) == 2 * len(layers.KINDS) * 2
    assert len(result.select(part="together")) == 2 * len(layers.MULTIPLES) * 2
    assert all(np.shape(row["input"]) == (3,) for row in result.select(part="perturb"))
    assert (
        layers.felt(result, "bn", "scale", "input").max() < 0.01 < layers.felt(result, "plain", "scale", "input").min()
    )
    layers.plot(result)
    layers.plot_together(result)
    assert [v.claim for v in layers.verdicts(result)] == ["C05"]


def made_up(softened, together):
    rows = []
    for arm in layers.ARMS:
        for kind in layers.KINDS:
            value = 0.5 if arm == "bn" and kind in softened else 1.0
            rows += [
                {"part": "perturb", "arm": arm, "kind": kind, "seed": s} | {m: [value] * 3 for m in layers.MEASURES}
                for s in range(3)
            ]
        value = together if arm == "bn" else 1.0
        rows += [{"part": "together", "arm": arm, "multiple": 1.0, "seed": s, "interaction": value} for s in range(3)]
    return Result("layer_independence", "small", "cpu", [0, 1, 2], {}, rows, 0.0)


@pytest.mark.parametrize(
    ("softened", "together", "verdict"),
    [
        (layers.KINDS, 0.5, "holds"),
        (layers.KINDS, 1.5, "conditions"),
        (("scale", "shift"), 2.0, "conditions"),
        ((), 0.5, "conditions"),
        ((), 1.0, "refuted"),
    ],
)
def test_verdicts(softened, together, verdict):
    (found,) = layers.verdicts(made_up(softened, together))
    assert found.verdict == verdict
