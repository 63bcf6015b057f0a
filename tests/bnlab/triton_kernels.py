"""The kernels for a GPU, against float64: on one where there is one, else through Triton's interpreter.

`test_backend_triton.py` runs this file in a process of its own: the interpreter is chosen when Triton is imported.
"""

import pytest
import torch

import bnlab
from bnlab import backends
from bnlab.backends import eager
from bnlab.backends import triton as kernels
from bnlab.functional import batch_norm

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
EPS = 1e-5


def make(shape, mean, dtype, last):
    generator = torch.Generator().manual_seed(sum(shape))

    def draw(*size):
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    x, dy = (draw(*shape) + mean).to(dtype), draw(*shape).to(dtype)
    if last:
        x, dy = (v.movedim(1, -1).contiguous().movedim(-1, 1) for v in (x, dy))
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return [v.to(DEVICE) for v in (x, draw(shape[1]).to(wide), draw(shape[1]).to(wide), dy)]


def distance(given, expected):
    return ((given.double() - expected).abs().max() / expected.abs().max().clamp(min=1)).item()


# Small and split kernels, several parts of a channel, and parts that are not full.
SHAPES = [(70, 40), (3, 5, 7), (4, 6, 5, 5), (2, 3, 20, 21), (2, 3, 2, 3, 2)]


@pytest.mark.parametrize("mean", [0.0, 1e4])
@pytest.mark.parametrize("last", [False, True], ids=["channels outside", "channels innermost"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_float32(shape, last, mean):
    if last and len(shape) < 4:
        pytest.skip("there is one layout")
    x, gamma, beta, dy = make(shape, mean, torch.float32, last)
    y, mu, var = kernels.forward(x, gamma, beta, None, None, EPS)
    theirs = eager.forward(x, gamma, beta, None, None, EPS)[0]
    assert (y.dtype, y.stride(), mu.dtype) == (theirs.dtype, theirs.stride(), torch.float32)
    wide = [v.double() for v in (x, gamma, beta)]
    expected, mean64, var64 = eager.forward(*wide, None, None, EPS)
    assert distance((var.double() + EPS).rsqrt() / (var64 + EPS).rsqrt(), torch.ones_like(var64)) < 2e-6
    assert distance(y, expected) < 1e-5
    grads = kernels.backward(dy, x, gamma, mu, var, EPS, True)
    truth = eager.backward(dy.double(), wide[0], wide[1], mean64, var64, EPS, True)
    assert max(distance(a, b) for a, b in zip(grads, truth, strict=True)) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("last", [False, True], ids=["channels outside", "channels innermost"])
def test_other_dtypes(dtype, last):
    x, gamma, beta, dy = make((3, 4, 13, 14), 2.0, dtype, last)
    y, mean, var = kernels.forward(x, gamma, beta, None, None, EPS)
    dx, dgamma, dbeta = kernels.backward(dy, x, gamma, mean, var, EPS, True)
    wide = [v.double() for v in (x, gamma, beta)]
    expected, mean64, var64 = eager.forward(*wide, None, None, EPS)
    truth = eager.backward(dy.double(), wide[0], wide[1], mean64, var64, EPS, True)
    unit = 2 * torch.finfo(dtype).eps if dtype != torch.float64 else 1e-12  # the interpreter cuts where a GPU rounds
    assert (y.dtype, dx.dtype, mean.dtype) == (dtype, dtype, torch.float64 if dtype == torch.float64 else torch.float32)
    assert distance(y, expected) < unit and distance(dx, truth[0]) < unit
    assert max(distance(dgamma, truth[1]), distance(dbeta, truth[2]), distance(mean, mean64)) < min(unit, 1e-5)


@pytest.mark.parametrize("shape", [(4, 3, 6, 6), (2, 3, 19, 20)], ids=["small", "split"])
@pytest.mark.parametrize("last", [False, True], ids=["channels outside", "channels innermost"])
def test_given_statistics_and_no_gamma_or_beta(shape, last):
    x, _, _, dy = make(shape, 50.0, torch.float32, last)
    mean, var = torch.full((3,), 50.1, device=DEVICE), torch.tensor([0.5, 1.0, 2.0], device=DEVICE)
    y = kernels.forward(x, None, None, mean, var, EPS)[0]
    assert distance(y, eager.forward(x.double(), None, None, mean.double(), var.double(), EPS)[0]) < 1e-5
    grads = kernels.backward(dy, x, None, mean, var, EPS, False)
    truth = eager.backward(dy.double(), x.double(), None, mean.double(), var.double(), EPS, False)
    assert max(distance(a, b) for a, b in zip(grads, truth, strict=True)) < 1e-5


@pytest.mark.parametrize("shape", [(4, 3, 6, 6), (2, 3, 19, 20), (70, 40)], ids=["small", "split", "features"])
@pytest.mark.parametrize("last", [False, True], ids=["channels outside", "channels innermost"])
@pytest.mark.parametrize("with_residual", [False, True], ids=["relu", "residual and relu"])
def test_what_follows_in_the_same_pass(shape, last, with_residual):
    last = last and len(shape) > 2
    x, gamma, beta, dy = make(shape, 2.0, torch.float32, last)
    residual = make(shape, 0.5, torch.float32, last)[3] if with_residual else None
    y, mean, var = kernels.forward(x, gamma, beta, None, None, EPS, residual, True)
    grads = kernels.backward_relu(dy, x, gamma, beta, mean, var, EPS, True, residual)
    wide = [None if v is None else v.double() for v in (x, gamma, beta, residual)]
    expected, mean64, var64 = eager.forward(*wide[:3], None, None, EPS, wide[3], True)
    truth = eager.backward_relu(dy.double(), *wide[:3], mean64, var64, EPS, True, wide[3])
    assert distance(y, expected) < 1e-5 and ((y > 0) == (expected > 0)).all() and (y == 0).any()
    pairs = zip(grads, truth, strict=True) if with_residual else zip(grads[:3], truth[:3], strict=True)
    assert max(distance(a, b) for a, b in pairs) < 1e-5
    assert (grads[3] is None) != with_residual


def test_a_value_that_is_no_number_spoils_its_channel_and_no_other():
    x, gamma, beta, _ = make((4, 3, 6, 6), 0.0, torch.float32, False)
    x[1, 1, 2, 3] = float("nan")
    y = kernels.forward(x, gamma, beta, None, None, EPS)[0]
    assert y[:, 1].isnan().all() and y[:, [0, 2]].isfinite().all()


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4, 4), (2, 0, 3, 3)], ids=str)
def test_empty_batches(shape):
    x, gamma, beta, dy = make(shape, 0.0, torch.float32, False)
    y, mean, var = kernels.forward(x, gamma, beta, None, None, EPS)
    assert y.shape == shape and mean.tolist() == [0] * shape[1]
    assert kernels.backward(dy, x, gamma, mean, var, EPS, True)[0].shape == shape


def test_views_of_all_kinds():
    x = make((4, 5, 6, 6), 1.0, torch.float32, False)[0]
    for view in (x.transpose(2, 3), x[:, :, ::2], x[:1].expand(3, 5, 6, 6), x.permute(0, 2, 3, 1)[..., :3]):
        y = kernels.forward(view, None, None, None, None, EPS)[0]
        assert distance(y, eager.forward(view.double(), None, None, None, None, EPS)[0]) < 1e-5


def test_through_the_function_and_autograd():
    x, gamma, beta, _ = make((4, 3, 5, 5), 1.0, torch.float64, False)
    results = []
    for name in ("triton", "eager"):
        inputs = [v.clone().requires_grad_() for v in (x, gamma, beta)]
        with bnlab.use_backend(name):
            assert backends.choose(x) is (kernels if name == "triton" else eager)
            y = batch_norm(inputs[0], None, None, *inputs[1:], training=True)
            results.append((y, *torch.autograd.grad(y.pow(3).sum(), inputs)))
    for ours, theirs in zip(*results, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-9)
