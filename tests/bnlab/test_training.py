"""The training loop: reproducible, honest about time and divergence, and no trace on what it doesn't own."""

import numpy as np
import pytest
import torch
from torch import nn

from bnlab.datasets import Dataset
from bnlab.training import evaluate, seeded, sgd, train


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 4)).astype("float32")
    y = (x[:, 0] > 0).astype("int64")
    return Dataset(x[:60], y[:60], x[60:], y[60:], ("no", "yes"))


def network(seed=0, norm=True):
    return seeded(
        seed,
        lambda: nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8) if norm else nn.Identity(), nn.ReLU(), nn.Linear(8, 2)
        ),
    )


def test_it_takes_the_steps_of_a_loop_written_by_hand(data):
    ours, theirs = network(), network()
    history = train(ours, data, sgd(ours, 0.1, 0.9, 0.01), steps=3, batch_size=60, seed=0)
    decayed = [p for p in theirs.parameters() if p.dim() == 2]
    others = [p for p in theirs.parameters() if p.dim() == 1]
    optimizer = torch.optim.SGD([{"params": decayed, "weight_decay": 0.01}, {"params": others}], lr=0.1, momentum=0.9)
    order = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(3):
        batch = torch.randperm(60, generator=order)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(theirs(torch.tensor(data.x_train)[batch]), torch.tensor(data.y_train)[batch])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    np.testing.assert_allclose(history.train_loss, losses, rtol=1e-6)
    for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b)


def test_it_learns_and_records_time_and_targets(data):
    model = network()
    history = train(model, data, sgd(model, 0.1), steps=60, batch_size=20, seed=0, every=20)
    assert history.steps.tolist() == [20, 40, 60]
    assert history.test_error[-1] < 0.2
    assert (np.diff(history.seconds) > 0).all()
    assert history.steps_to(0.2) in (20, 40, 60) and history.seconds_to(-1) == np.inf
    assert not model.training


def test_divergence_ends_training_and_is_told(data):
    model = network(norm=False)
    history = train(model, data, sgd(model, 1e20), steps=50, batch_size=20, seed=0)
    assert history.diverged and len(history.train_loss) < 50
    assert history.test_error[-1] == 1 and history.test_loss[-1] == np.inf


def test_schedule_multiplies_the_optimizers_rates(data):
    model = network()
    seen = []
    optimizer = sgd(model, 0.1)
    train(
        model, data, optimizer, steps=4, batch_size=20, seed=0,
        schedule=lambda progress: 1 - progress, on_step=lambda step, loss: seen.append(optimizer.param_groups[0]["lr"]),
    )  # fmt: skip
    np.testing.assert_allclose(seen, [0.1, 0.075, 0.05, 0.025])


def test_transform_sees_training_batches_only(data):
    model, shapes = network(), []
    train(model, data, sgd(model, 0.1), steps=2, batch_size=15, seed=0, transform=lambda x: shapes.append(x.shape) or x)
    assert shapes == [(15, 4), (15, 4)]


def test_seeds_decide_weights_and_leave_torchs_own_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    a, b, c = network(1), network(1), network(2)
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(a[0].weight, b[0].weight) and not torch.equal(a[0].weight, c[0].weight)


def test_evaluate_puts_every_modules_mode_back(data):
    model = network().train()
    model[1].eval()
    before = model[1].running_mean.clone()
    loss, error = evaluate(model, data.x_test, data.y_test, batch_size=7)
    assert model.training and not model[1].training and model[0].training
    assert torch.equal(model[1].running_mean, before)
    model.eval()
    logits = model(torch.tensor(data.x_test))
    labels = torch.tensor(data.y_test)
    assert loss == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)
    assert error == pytest.approx((logits.argmax(1) != labels).double().mean().item())


@pytest.mark.parametrize(
    "options", [{"steps": 0, "batch_size": 10}, {"steps": 1, "batch_size": 61}, {"steps": 1, "batch_size": 0}]
)
def test_impossible_calls_are_refused(data, options):
    model = network()
    with pytest.raises(ValueError, match="with 60 training examples: give at least one step"):
        train(model, data, sgd(model, 0.1), seed=0, **options)
