"""`bnlab.relatives` beside torch.nn, the equations of the papers, and, for SyncBatchNorm, two real processes."""

import copy
import doctest
import functools
import io
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import bnlab
from bnlab import relatives
from bnlab.relatives import (
    BatchRenorm1d,
    BatchRenorm2d,
    FrozenBatchNorm2d,
    GhostBatchNorm1d,
    GhostBatchNorm2d,
    RenormSchedule,
    SyncBatchNorm,
    batch_renorm,
    convert_sync_batch_norm,
    freeze_batch_norm,
    ghost_batches,
)

ghost1d = functools.partial(GhostBatchNorm1d, ghost_size=4)
ghost2d = functools.partial(GhostBatchNorm2d, ghost_size=2)
# every layer that is batch normalization in evaluation, beside the layer of torch.nn and a shape
EACH = pytest.mark.parametrize(
    ("ours", "theirs", "shape"),
    [
        (ghost1d, nn.BatchNorm1d, (8, 3)),
        (ghost1d, nn.BatchNorm1d, (8, 3, 5)),
        (ghost2d, nn.BatchNorm2d, (4, 3, 2, 3)),
        (BatchRenorm1d, nn.BatchNorm1d, (6, 3)),
        (BatchRenorm2d, nn.BatchNorm2d, (4, 3, 2, 3)),
        (SyncBatchNorm, nn.BatchNorm2d, (4, 3, 2, 3)),
    ],
    ids=["ghost1d", "ghost1d-signal", "ghost2d", "renorm1d", "renorm2d", "sync"],
)
OPEN = RenormSchedule(start=0, r_end=0, d_end=0)  # the final bounds from the first step on


def draw(shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype) * 2 + 1


def randomize(layer):
    """Parameters that mask nothing by being 0 or 1."""
    with torch.no_grad():
        for i, parameter in enumerate(layer.parameters()):
            parameter.copy_(draw(parameter.shape, seed=100 + i))
    return layer


def statistics(layer):
    return {name: buffer.clone() for name, buffer in layer.named_buffers()}


def test_examples_in_docstrings():
    assert doctest.testmod(relatives).failed == 0


# What all of them share: in evaluation they are batch normalization


@EACH
def test_state_dicts_load_both_ways_and_evaluation_is_that_of_torch(ours, theirs, shape):
    layer = randomize(ours(3, dtype=torch.float64))
    for seed in range(3):
        layer(draw(shape, seed))
    plain = theirs(3, dtype=torch.float64)
    plain.load_state_dict(layer.state_dict(), strict=True)
    again = ours(3, dtype=torch.float64)
    again.load_state_dict(plain.state_dict(), strict=True)
    x = draw(shape, seed=9)
    expected = plain.eval()(x)
    before = statistics(layer)
    torch.testing.assert_close(layer.eval()(x), expected)
    torch.testing.assert_close(again.eval()(x), expected)
    torch.testing.assert_close(statistics(layer), before, rtol=0, atol=0)
    assert not layer.running_mean.eq(0).any() and layer.num_batches_tracked > 0


@EACH
def test_deepcopy_pickle_and_save(ours, theirs, shape):
    layer = randomize(ours(3))
    layer(draw(shape, dtype=torch.float32))
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), torch.load(file, weights_only=False)):
        assert type(other) is type(layer) and repr(other) == repr(layer)
        x = draw(shape, seed=1, dtype=torch.float32)
        torch.testing.assert_close(other(x), copy.deepcopy(layer)(x))


@EACH
def test_gradients_by_finite_differences(ours, theirs, shape):
    """Batch renormalization takes part with closed bounds: finite differences move r and d, its gradient must not."""
    layer = randomize(ours(3, eps=0.1, dtype=torch.float64))
    names = [name for name, _ in layer.named_parameters()]

    def call(x, *parameters):
        fresh = copy.deepcopy(layer)  # each call from the same running statistics
        return torch.func.functional_call(fresh, dict(zip(names, parameters, strict=True)), (x,))

    inputs = [draw(shape).requires_grad_(), *(p.detach().clone().requires_grad_() for p in layer.parameters())]
    assert torch.autograd.gradcheck(call, inputs)


@EACH
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layer_dtype", [None, torch.float32])
def test_half_precision_is_rounded_once(ours, theirs, shape, dtype, layer_dtype):
    layer_dtype = layer_dtype or dtype
    layer = randomize(ours(3)).to(layer_dtype)
    wide = copy.deepcopy(layer).double()
    x = draw(shape, dtype=dtype).requires_grad_()
    y, expected = layer(x), wide(x.detach().double())
    y.sum().backward()
    assert y.dtype == x.grad.dtype == dtype and layer.weight.grad.dtype == layer_dtype
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(y.double(), expected, rtol=2 * eps, atol=2 * eps)
    assert layer.running_var.dtype == layer_dtype


@EACH
def test_empty_batch(ours, theirs, shape):
    layer = randomize(ours(3, dtype=torch.float64))
    before = layer.running_mean.clone(), layer.running_var.clone()
    x = torch.empty(0, *shape[1:], dtype=torch.float64, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert y.shape == x.grad.shape == x.shape
    assert [p.grad.tolist() for p in layer.parameters()] == [[0, 0, 0]] * 2
    torch.testing.assert_close((layer.running_mean, layer.running_var), before, rtol=0, atol=0)


@EACH
def test_a_refused_batch_changes_nothing(ours, theirs, shape):
    layer = ours(3)
    layer(draw(shape, dtype=torch.float32))
    before = statistics(layer)
    lone = torch.ones(1, *shape[1:2], *[1] * (len(shape) - 2))
    for x, error, message in [
        (lone, ValueError, "more than 1 value per channel"),
        (torch.randn(4, 5, *shape[2:]), RuntimeError, "5 channels|should contain 5"),
        (torch.randn(4), ValueError, "got 1D input"),
        (torch.tensor(1.0), ValueError, "got 0D input"),
        (torch.ones(shape, dtype=torch.int64), NotImplementedError, "int64"),
        (draw(shape), RuntimeError, "mixed dtype"),
    ]:
        with pytest.raises(error, match=message):
            layer(x)
    torch.testing.assert_close(statistics(layer), before, rtol=0, atol=0)


@EACH
def test_no_graph_hangs_on_the_running_statistics(ours, theirs, shape):
    layer = ours(3)
    for seed in range(3):
        layer(draw(shape, seed, torch.float32).requires_grad_()).sum().backward()
    assert all(not b.requires_grad and b.grad_fn is None for b in layer.buffers())


@EACH
@pytest.mark.parametrize("momentum", [0.3, None])
def test_affine_momentum_and_channels_last(ours, theirs, shape, momentum):
    layer = ours(3, momentum=momentum, affine=False, dtype=torch.float64)
    assert not list(layer.parameters())
    x = draw(shape)
    if x.dim() == 4:
        last = copy.deepcopy(layer)(x.contiguous(memory_format=torch.channels_last))
        assert last.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(last, copy.deepcopy(layer)(x))
    layer(x)
    if momentum is None:  # the average over what has been seen: the batch itself
        axes = [0, *range(2, x.dim())]
        torch.testing.assert_close(layer.running_mean, x.mean(axes))


# Ghost batch normalization


@given(st.integers(1, 40), st.integers(1, 12))
@settings(derandomize=True)
def test_ghost_batches_are_even_and_never_too_small(n, ghost_size):
    x = torch.arange(n)
    parts = ghost_batches(x, ghost_size)
    sizes = [len(part) for part in parts]
    torch.testing.assert_close(torch.cat(parts), x)
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= min(ghost_size, n) and max(sizes) < 2 * ghost_size
    if n % ghost_size == 0:
        assert set(sizes) == {ghost_size}


@pytest.mark.parametrize(("shape", "norm"), [((12, 3), "1d"), ((11, 3, 4), "1d"), ((9, 3, 2, 2), "2d")])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_ghosts_are_normalized_as_if_each_had_come_alone(shape, norm, momentum):
    ours, theirs = (GhostBatchNorm1d, nn.BatchNorm1d) if norm == "1d" else (GhostBatchNorm2d, nn.BatchNorm2d)
    layer = randomize(ours(3, momentum=momentum, ghost_size=4, dtype=torch.float64))
    plain = randomize(theirs(3, momentum=momentum, dtype=torch.float64))
    for step in range(2):
        x, dy = draw(shape, seed=step).requires_grad_(), draw(shape, seed=7)
        y = layer(x)
        ghosts = [
            x[i : i + len(part)]
            for i, part in zip(
                [0, 4, 8] if shape[0] == 12 else [0, (shape[0] + 1) // 2], ghost_batches(x, 4), strict=True
            )
        ]
        expected = torch.cat([plain(ghost) for ghost in ghosts])
        inputs = [x, *layer.parameters()], [x, *plain.parameters()]
        torch.testing.assert_close(y, expected)
        gradients = [torch.autograd.grad((v * dy).sum(), i) for v, i in zip((y, expected), inputs, strict=True)]
        torch.testing.assert_close(*gradients)
        torch.testing.assert_close(statistics(layer), statistics(plain))


def test_running_mean_of_hoffer_algorithm_1():
    """mu_run = (1 - eta)^G mu_run + sum_l (1 - eta)^(G - l) eta mu_l, with G ghost batches."""
    eta, G, layer = 0.2, 3, GhostBatchNorm1d(2, momentum=0.2, ghost_size=4, dtype=torch.float64)
    layer.running_mean.fill_(5)
    x = draw((12, 2))
    layer(x)
    mus = x.view(G, 4, 2).mean(1)
    expected = (1 - eta) ** G * 5 + sum((1 - eta) ** (G - k) * eta * mus[k - 1] for k in range(1, G + 1))
    torch.testing.assert_close(layer.running_mean, expected)
    assert layer.num_batches_tracked == G


def test_one_ghost_is_batch_normalization():
    x = draw((7, 3, 2, 2))
    torch.testing.assert_close(GhostBatchNorm2d(3, ghost_size=7).double()(x), nn.BatchNorm2d(3).double()(x))
    torch.testing.assert_close(GhostBatchNorm2d(3, ghost_size=1).double()(x), nn.InstanceNorm2d(3).double()(x))


@pytest.mark.parametrize("ghost_size", [0, -1, 2.0, None])
def test_ghost_batches_refuse_a_size_that_is_none(ghost_size):
    with pytest.raises(ValueError, match=f"ghost_size is {ghost_size}: give the number of examples"):
        ghost_batches(torch.zeros(4, 2), ghost_size)


def test_ghost_size_may_be_numpys():
    x = torch.randn(12, 3)
    layer = GhostBatchNorm1d(3, ghost_size=np.int64(4))
    assert type(layer.ghost_size) is int and "ghost_size=4" in repr(layer)
    assert torch.equal(layer(x), GhostBatchNorm1d(3, ghost_size=4)(x))
    assert [len(part) for part in ghost_batches(x, np.int64(5))] == [6, 6]


@pytest.mark.parametrize("given", [(None, None), (torch.zeros(3), None), (None, torch.ones(3))])
def test_renorm_wants_running_statistics(given):
    missing = " and ".join(name for name, v in zip(("running_mean", "running_var"), given, strict=True) if v is None)
    with pytest.raises(ValueError, match=rf"^{missing} not given.*tensors of shape \(3,\)"):
        batch_renorm(torch.randn(4, 3), *given)


@pytest.mark.parametrize("ghost_size", [0, -1, 2.0, None, "8"])
def test_ghost_size_has_to_be_a_number_of_examples(ghost_size):
    with pytest.raises(ValueError, match="number of examples in a ghost batch"):
        GhostBatchNorm1d(3, ghost_size=ghost_size)


# Batch renormalization


def ioffe_algorithm_1(x, dy, gamma, beta, mu, sigma, alpha, eps, r_max, d_max):
    """Algorithm 1 of Ioffe (2017) and the gradients of its section 3, for x of shape (m, C)."""
    m = len(x)
    mu_B = x.mean(0)
    sigma_B = (eps + ((x - mu_B) ** 2).mean(0)).sqrt()
    r = (sigma_B / sigma).clamp(1 / r_max, r_max)
    d = ((mu_B - mu) / sigma).clamp(-d_max, d_max)
    x_hat = (x - mu_B) / sigma_B * r + d
    y = gamma * x_hat + beta
    dx_hat = dy * gamma
    dsigma_B = (dx_hat * (x - mu_B) * -r / sigma_B**2).sum(0)
    dmu_B = (dx_hat * -r / sigma_B).sum(0)
    dx = dx_hat * r / sigma_B + dsigma_B * (x - mu_B) / (m * sigma_B) + dmu_B / m
    updated = mu + alpha * (mu_B - mu), sigma + alpha * (sigma_B - sigma)
    return y, (dx, (dy * x_hat).sum(0), dy.sum(0)), updated


@given(
    m=st.integers(2, 9),
    r_max=st.sampled_from([1.0, 1.2, 3.0]),
    d_max=st.sampled_from([0.0, 0.4, 5.0]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, derandomize=True)
def test_renorm_is_algorithm_1_of_ioffe(m, r_max, d_max, seed):
    x, dy = draw((m, 3), seed).requires_grad_(), draw((m, 3), seed + 1)
    gamma, beta, mu = (draw((3,), seed + k).requires_grad_(k < 4) for k in (2, 3, 4))
    running_var, eps, alpha = draw((3,), seed + 5).square() + 0.1, 1e-3, 0.05
    y_paper, gradients, (mu_new, sigma_new) = ioffe_algorithm_1(
        x.detach(), dy, gamma.detach(), beta.detach(), mu, (running_var + eps).sqrt(), alpha, eps, r_max, d_max
    )
    running_mean = mu.clone()
    y = batch_renorm(x, running_mean, running_var, gamma, beta, alpha, eps, r_max=r_max, d_max=d_max)
    torch.testing.assert_close(y, y_paper, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(torch.autograd.grad(y, (x, gamma, beta), dy), gradients, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close((running_mean, (running_var + eps).sqrt()), (mu_new, sigma_new))


def test_renorm_without_correction_is_batch_normalization():
    layer, plain = (randomize(make(3, dtype=torch.float64)) for make in (BatchRenorm2d, nn.BatchNorm2d))
    layer.running_mean.fill_(4)
    for seed in range(3):  # the schedule's first 5,000 steps
        x = draw((4, 3, 2, 2), seed)
        torch.testing.assert_close(layer(x), plain(x))


def test_unclipped_renorm_trains_on_what_it_evaluates():
    layer = randomize(BatchRenorm1d(3, schedule=RenormSchedule(1e9, 1e9, 0, 0, 0), dtype=torch.float64))
    layer.running_mean.copy_(draw((3,), 1))
    layer.running_var.fill_(2.5)
    x = draw((4, 3))
    expected = copy.deepcopy(layer).eval()(x)
    torch.testing.assert_close(layer(x), expected)


def test_a_constant_channel_keeps_a_nonnegative_running_variance():
    layer = BatchRenorm1d(1, momentum=0.9, schedule=OPEN)
    for _ in range(50):
        assert layer(torch.full((4, 1), 0.1)).isfinite().all()
    assert 0 <= layer.running_var.item() < 1e-4
    assert layer.eval()(torch.full((4, 1), 0.1)).isfinite().all()


def test_schedule_reads_the_counter_so_training_can_be_resumed():
    schedule = RenormSchedule(r_max=2.0, d_max=1.0, start=2, r_end=6, d_end=4)
    assert [schedule(step) for step in (0, 2, 3, 4, 5, 6, 99)] == [
        (1.0, 0.0), (1.0, 0.0), (1.25, 0.5), (1.5, 1.0), (1.75, 1.0), (2.0, 1.0), (2.0, 1.0)
    ]  # fmt: skip
    layer = BatchRenorm1d(3, schedule=schedule, dtype=torch.float64)
    for seed in range(4):
        layer(draw((5, 3), seed))
    resumed = BatchRenorm1d(3, schedule=schedule, dtype=torch.float64)
    resumed.load_state_dict(layer.state_dict())
    fresh = BatchRenorm1d(3, schedule=schedule, dtype=torch.float64)
    fresh.running_mean.copy_(layer.running_mean), fresh.running_var.copy_(layer.running_var)
    x = draw((5, 3), 9) * 5
    expected = layer(x)
    torch.testing.assert_close(resumed(x), expected)
    assert not torch.allclose(fresh(x), expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RenormSchedule(r_max=0.5), "r_max is 0.5"),
        (lambda: RenormSchedule(d_max=-1), "d_max is -1"),
        (lambda: RenormSchedule(start=30_000), "start <= d_end"),
        (lambda: BatchRenorm1d(3, track_running_stats=False), "leave it True"),
        (lambda: batch_renorm(torch.ones(2, 3), torch.zeros(3), torch.ones(3), r_max=0.9), "r_max is 0.9"),
    ],
)
def test_bad_renorm_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# Synchronized batch normalization: two real processes

PROCESS = """
import sys, datetime, torch
from torch import distributed, nn
from bnlab.relatives import SyncBatchNorm, convert_sync_batch_norm, sync_batch_norm
rank, folder = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2,
                               timeout=datetime.timedelta(seconds=60))
cases, results = torch.load(f"{folder}/cases.pt"), []
for case in cases:
    layer = SyncBatchNorm(3, momentum=case["momentum"], affine=case["affine"]).to(case["dtype"])
    for p, value in zip(layer.parameters(), case["parameters"]):
        p.data.copy_(value)
    outputs = []
    for x, dy in zip(case["x"], case["dy"]):
        cut = case["cut"]
        x, dy = (x[:cut], dy[:cut]) if rank == 0 else (x[cut:], dy[cut:])
        x = x.clone().requires_grad_()
        y = layer(x)
        y.backward(dy)
        outputs.append((y.detach(), x.grad))
    layer.eval()
    outputs.append((layer(x).detach(), None))  # no communication: the other process may be elsewhere
    results.append((outputs, [p.grad for p in layer.parameters()], layer.state_dict()))
# both processes learn that there is one value per channel in all, and none of them hangs
try:
    SyncBatchNorm(3)(torch.ones(1 - rank, 3))
except ValueError as error:
    results.append(str(error))
# a group of its own is no group
alone = [distributed.new_group([r]) for r in range(2)][rank]
x = torch.arange(6.0).view(2, 3) * (rank + 1)
results.append(SyncBatchNorm(3, process_group=alone)(x).detach())
try:
    nn.SyncBatchNorm(3)(x)
except ValueError as error:
    results.append(str(error))
# in data-parallel training
torch.manual_seed(0)
network = convert_sync_batch_norm(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2)))
parallel = nn.parallel.DistributedDataParallel(network.double())
inputs = torch.load(f"{folder}/inputs.pt")
nn.functional.cross_entropy(parallel(inputs[rank * 4 : rank * 4 + 4]), torch.tensor([0, 1, 1, 0])).backward()
results.append([p.grad for p in network.parameters()])
torch.save(results, f"{folder}/result{rank}.pt")
distributed.destroy_process_group()
"""

SYNC_CASES = [
    dict(shape=(8, 3), cut=4),
    dict(shape=(7, 3), cut=5),  # uneven
    dict(shape=(3, 3), cut=1),  # a lone example
    dict(shape=(5, 3), cut=5),  # nothing in the second process
    dict(shape=(5, 3, 4), cut=2, momentum=None),
    dict(shape=(6, 3, 2, 3), cut=4, affine=False),
    dict(shape=(3, 3, 2, 1, 2), cut=2, dtype=torch.float32),
    dict(shape=(6, 3, 4, 4), cut=4, dtype=torch.bfloat16),
]


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """What each of two gloo processes computed, and the cases they were given."""
    folder = tmp_path_factory.mktemp("gloo")
    cases = []
    for settings_of_case in SYNC_CASES:
        case = {"momentum": 0.1, "affine": True, "dtype": torch.float64, **settings_of_case}
        case["x"] = [draw(case["shape"], seed, case["dtype"]) for seed in (0, 1)]
        case["dy"] = [draw(case["shape"], seed, case["dtype"]) for seed in (2, 3)]
        case["parameters"] = [draw((3,), seed) for seed in (4, 5)]
        cases.append(case)
    torch.save(cases, folder / "cases.pt")
    torch.save(draw((8, 4)), folder / "inputs.pt")
    command = [sys.executable, "-c", PROCESS]
    processes = [
        subprocess.Popen([*command, str(rank), str(folder)], stderr=subprocess.PIPE, text=True) for rank in (0, 1)
    ]
    try:
        for process in processes:
            _, stderr = process.communicate(timeout=200)
            assert process.returncode == 0, stderr
    finally:
        for process in processes:
            process.kill()
    return cases, [torch.load(folder / f"result{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("index", range(len(SYNC_CASES)), ids=lambda i: str(SYNC_CASES[i]["shape"]))
def test_two_processes_compute_what_one_does_with_the_joined_batch(two_processes, index):
    cases, results = two_processes
    case, (first, second) = cases[index], (result[index] for result in results)
    norm = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[len(case["shape"])]
    joined = norm(3, momentum=case["momentum"], affine=case["affine"]).double()
    for p, value in zip(joined.parameters(), case["parameters"], strict=case["affine"]):
        p.data.copy_(value.to(case["dtype"]))
    eps = torch.finfo(case["dtype"]).eps
    close = functools.partial(torch.testing.assert_close, rtol=50 * eps, atol=50 * eps, check_dtype=False)
    for step in (0, 1):
        x = case["x"][step].double().requires_grad_()
        y = joined(x)
        y.backward(case["dy"][step].double())
        close(torch.cat([first[0][step][0], second[0][step][0]]), y.detach())
        close(torch.cat([first[0][step][1], second[0][step][1]]), x.grad)
    for ours, others, p in zip(first[1], second[1], joined.parameters(), strict=True):
        close(ours + others, p.grad)
    for state in (first[2], second[2]):
        close(dict(state), dict(joined.state_dict()))
    torch.testing.assert_close(dict(first[2]), dict(second[2]), rtol=0, atol=0)
    evaluated = joined.eval()(case["x"][1].double()).detach()
    close(torch.cat([first[0][2][0], second[0][2][0]]), evaluated)


def test_all_processes_refuse_a_joined_batch_of_one_value(two_processes):
    _, results = two_processes
    for result in results:
        assert "the batches of all processes together have one" in result[len(SYNC_CASES)]


def test_a_group_of_one_process_synchronizes_nothing(two_processes):
    _, results = two_processes
    for rank, result in enumerate(results):
        x = torch.arange(6.0).view(2, 3) * (rank + 1)
        torch.testing.assert_close(result[len(SYNC_CASES) + 1], nn.BatchNorm1d(3)(x).detach())


def test_data_parallel_training_gives_the_gradients_of_the_joined_batch(two_processes):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2)).double()
    nn.functional.cross_entropy(network(draw((8, 4))), torch.tensor([0, 1, 1, 0] * 2)).backward()
    for result in two_processes[1]:
        torch.testing.assert_close(result[-1], [p.grad for p in network.parameters()])


def test_torch_has_no_synchronized_layer_for_cpus(two_processes):
    """Why there is one here. If this fails, torch has learned it."""
    for result in two_processes[1]:
        assert "expected input tensor to be on GPU" in result[len(SYNC_CASES) + 2]


def test_without_a_process_group_it_is_batch_normalization_of_any_rank():
    for shape in [(4, 3), (4, 3, 2), (2, 3, 2, 2), (2, 3, 1, 2, 2)]:
        x = draw(shape)
        layer = SyncBatchNorm(3, dtype=torch.float64)
        expected = torch.nn.functional.batch_norm(x, None, None, training=True)
        torch.testing.assert_close(layer(x), expected)
    assert SyncBatchNorm(3, track_running_stats=False).eval()(torch.randn(4, 3)).mean().abs() < 1e-6


def test_convert_keeps_parameters_buffers_and_sharing():
    shared = nn.BatchNorm1d(3, eps=1e-3, momentum=None)
    network = nn.Sequential(
        nn.Linear(3, 3), shared, nn.Sequential(bnlab.BatchNorm1d(3), GhostBatchNorm1d(3, ghost_size=2)), shared,
        nn.BatchNorm1d(3, affine=False, track_running_stats=False), BatchRenorm1d(3), nn.SyncBatchNorm(3),
        nn.GroupNorm(1, 3),
    )  # fmt: skip
    network[2].eval()
    network[0].bias.requires_grad_(False)
    plain, parameters, state = copy.deepcopy(network), list(network.parameters()), network.state_dict()
    assert convert_sync_batch_norm(network) is network
    kinds = [type(network[1]), type(network[2][0]), type(network[4]), type(network[6])]
    assert kinds == [SyncBatchNorm] * 4 and network[1] is network[3]
    assert type(network[2][1]) is GhostBatchNorm1d and type(network[5]) is BatchRenorm1d
    assert all(a is b for a, b in zip(network.parameters(), parameters, strict=True))
    assert list(network.state_dict()) == list(state)
    assert not network[2][0].training and network[1].training
    assert (network[1].eps, network[1].momentum) == (1e-3, None)
    x = draw((4, 3), dtype=torch.float32)
    del plain[6], network[6]  # torch's own refuses CPUs only within a process group, but is beside the point
    torch.testing.assert_close(network(x), plain(x))
    torch.testing.assert_close(dict(network.state_dict()), dict(plain.state_dict()))
    assert type(convert_sync_batch_norm(nn.BatchNorm2d(3))) is SyncBatchNorm


def test_convert_refuses_a_lazy_layer_and_leaves_the_network_alone():
    network = nn.Sequential(nn.BatchNorm1d(3), nn.LazyBatchNorm1d())
    with pytest.raises(ValueError, match=r"1 is LazyBatchNorm1d.*run one through the network"):
        convert_sync_batch_norm(network)
    assert type(network[0]) is nn.BatchNorm1d


# Frozen batch normalization


def trained_network():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, eps=1e-3), nn.ReLU(), nn.BatchNorm2d(3, affine=False))
    randomize(network.double())
    for seed in range(5):
        network(draw((4, 2, 6, 6), seed))
    return network


def test_freezing_keeps_what_evaluation_computes():
    network, x = trained_network(), draw((2, 2, 6, 6), 9)
    expected = copy.deepcopy(network).eval()(x)
    assert freeze_batch_norm(network) is network
    for training in (True, False):
        torch.testing.assert_close(network.train(training)(x), expected)
    before = statistics(network)
    x.requires_grad_()
    network.train()(x).square().sum().backward()
    torch.testing.assert_close(statistics(network), before, rtol=0, atol=0)
    assert [name for name, _ in network.named_parameters()] == ["0.weight", "0.bias"]
    assert x.grad.abs().sum() > 0


def test_frozen_layer_is_algorithm_2_line_11_of_ioffe_and_szegedy():
    layer = FrozenBatchNorm2d(3, eps=1e-3, dtype=torch.float64)
    values = {
        name: draw((3,), seed).abs() for seed, name in enumerate(("weight", "bias", "running_mean", "running_var"))
    }
    layer.load_state_dict(values)
    gamma, beta, mu, var = (v.view(3, 1, 1) for v in values.values())
    x = draw((2, 3, 2, 2))
    std = (var + 1e-3) ** 0.5
    torch.testing.assert_close(layer(x), gamma / std * x + (beta - gamma * mu / std))
    torch.autograd.gradcheck(layer, x.requires_grad_())


def test_frozen_layers_load_the_checkpoint_of_batch_normalization():
    network = trained_network()
    state = network.state_dict()
    frozen = nn.Sequential(
        nn.Conv2d(2, 3, 3), FrozenBatchNorm2d(3, eps=1e-3), nn.ReLU(), nn.BatchNorm2d(3, affine=False)
    )
    frozen.double().load_state_dict(state, strict=True)
    x = draw((2, 2, 6, 6), 9)
    torch.testing.assert_close(frozen.eval()(x), network.eval()(x))
    assert "1.num_batches_tracked" in state  # loading took nothing from it
    with pytest.raises(RuntimeError, match=r"Missing.*running_var"):
        FrozenBatchNorm2d(3).load_state_dict(
            {k: v for k, v in FrozenBatchNorm2d(3).state_dict().items() if "var" not in k}
        )
    with pytest.raises(RuntimeError, match=r"Unexpected.*momentum"):
        FrozenBatchNorm2d(3).load_state_dict({**FrozenBatchNorm2d(3).state_dict(), "momentum": torch.ones(1)})
    back = nn.BatchNorm2d(3)
    back.load_state_dict(frozen[1].state_dict(), strict=True)  # torch fills in the counter
    assert torch.equal(back.running_var, frozen[1].running_var.float()) and back.num_batches_tracked == 0


def test_frozen_dtypes_copies_and_bad_input():
    layer = FrozenBatchNorm2d(3)
    assert layer.half()(torch.ones(1, 3, 2, 2).half()).dtype == torch.float16
    assert repr(pickle.loads(pickle.dumps(layer))) == "FrozenBatchNorm2d(3, eps=1e-05)"
    assert FrozenBatchNorm2d(3, device="meta", dtype=torch.float64).running_var.is_meta
    with pytest.raises(ValueError, match="expected 4D input"):
        FrozenBatchNorm2d(3)(torch.ones(2, 3))
    with pytest.raises(RuntimeError, match="4 channels"):
        FrozenBatchNorm2d(3)(torch.ones(2, 4, 1, 1))
    with pytest.raises(ValueError, match="nothing to freeze"):
        freeze_batch_norm(nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3, track_running_stats=False)))
    alone = freeze_batch_norm(bnlab.BatchNorm2d(3, dtype=torch.float64))
    assert type(alone) is FrozenBatchNorm2d and alone.weight.dtype == torch.float64
