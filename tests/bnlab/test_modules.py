"""`bnlab.BatchNorm1d/2d/3d` beside those of `torch.nn`, in float64 where numbers are compared."""

import copy
import gc
import inspect
import io
import pickle
import weakref

import pytest
import torch

import bnlab

CLASSES = [
    (bnlab.BatchNorm1d, torch.nn.BatchNorm1d, (6, 3)),
    (bnlab.BatchNorm1d, torch.nn.BatchNorm1d, (4, 3, 5)),
    (bnlab.BatchNorm2d, torch.nn.BatchNorm2d, (4, 3, 5, 2)),
    (bnlab.BatchNorm3d, torch.nn.BatchNorm3d, (2, 3, 2, 3, 4)),
]
EACH = pytest.mark.parametrize(("ours", "theirs", "shape"), CLASSES, ids=lambda v: getattr(v, "__name__", str(v)))
HAS_BIAS = "bias" in inspect.signature(torch.nn.BatchNorm1d).parameters


def draw(shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype) * 2 + 1


def pair(ours, theirs, *args, dtype=torch.float64, **kwargs):
    """One layer of each kind with the same, not trivial, weight and bias."""
    layers = ours(*args, dtype=dtype, **kwargs), theirs(*args, dtype=dtype, **kwargs)
    with torch.no_grad():
        for layer in layers:
            for i, parameter in enumerate(layer.parameters()):
                parameter.copy_(draw(parameter.shape, seed=100 + i))
    return layers


def assert_same_state(a, b, **tolerance):
    a, b = a.state_dict(), b.state_dict()
    assert list(a) == list(b)
    assert a._metadata == b._metadata
    torch.testing.assert_close(dict(a), dict(b), **tolerance)


# The same numbers, batch after batch


@EACH
@pytest.mark.parametrize("momentum", [0.1, 0.7, 0.0, None])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("track", [True, False])
def test_training_and_evaluation_agree_with_torch(ours, theirs, shape, momentum, affine, track):
    layers = pair(ours, theirs, 3, 1e-3, momentum, affine, track)
    for step, training in enumerate((False, True, True, True, False)):
        results = []
        for layer in layers:
            layer.train(training)
            x = draw(shape, seed=step).requires_grad_()
            y = layer(x)
            loss = (y * draw(shape, seed=7)).sum()
            results.append([y, *torch.autograd.grad(loss, (x, *layer.parameters()))])
        torch.testing.assert_close(results[0], results[1], rtol=1e-10, atol=1e-10)
        assert_same_state(*layers, rtol=1e-12, atol=1e-12)


@EACH
def test_empty_batch(ours, theirs, shape):
    layers = pair(ours, theirs, 3)
    for layer in layers:
        x = torch.empty(0, *shape[1:], dtype=torch.float64, requires_grad=True)
        y = layer(x)
        y.sum().backward()
        assert y.shape == x.shape == x.grad.shape
        assert [p.grad.tolist() for p in layer.parameters()] == [[0, 0, 0]] * 2
    assert_same_state(*layers)


@pytest.mark.skipif(not HAS_BIAS, reason="this torch has no bias argument")
def test_weight_without_bias():
    layers = pair(bnlab.BatchNorm2d, torch.nn.BatchNorm2d, 3, bias=False)
    x = draw((2, 3, 4, 4))
    torch.testing.assert_close(*(layer(x) for layer in layers))
    assert layers[0].bias is None
    assert_same_state(*layers)


def test_cumulative_average_is_the_mean_over_batches():
    layer = bnlab.BatchNorm1d(3, momentum=None, dtype=torch.float64)
    batches = [draw((5, 3), seed=s) for s in range(4)]
    for x in batches:
        layer(x)
    torch.testing.assert_close(layer.running_mean, torch.stack([x.mean(0) for x in batches]).mean(0))
    torch.testing.assert_close(layer.running_var, torch.stack([x.var(0, correction=1) for x in batches]).mean(0))


def test_evaluation_does_not_depend_on_the_other_examples_and_changes_nothing():
    layer = bnlab.BatchNorm1d(3)
    layer(draw((8, 3), dtype=torch.float32))
    layer.eval()
    x, before = draw((8, 3), seed=1, dtype=torch.float32), copy.deepcopy(layer.state_dict())
    torch.testing.assert_close(layer(x), torch.cat([layer(example[None]) for example in x]))
    torch.testing.assert_close(dict(layer.state_dict()), dict(before), rtol=0, atol=0)


@pytest.mark.parametrize("training", [True, False])
def test_tracking_that_is_switched_off_later(training):
    """The buffers stay, are not updated, and normalize in evaluation only."""
    layers = pair(bnlab.BatchNorm1d, torch.nn.BatchNorm1d, 3)
    x = draw((5, 3))
    for layer in layers:
        layer(draw((5, 3), seed=3))
        layer.track_running_stats = False
        layer.train(training)
    before = copy.deepcopy(layers[0].state_dict())
    torch.testing.assert_close(*(layer(x) for layer in layers))
    assert_same_state(*layers)
    torch.testing.assert_close(dict(layers[0].state_dict()), dict(before), rtol=0, atol=0)


def test_a_network_trains_as_with_torch():
    def network(norm1d, norm2d):
        torch.manual_seed(0)
        layers = [torch.nn.Conv2d(1, 4, 3), norm2d(4), torch.nn.ReLU(), torch.nn.Flatten()]
        return torch.nn.Sequential(
            *layers, torch.nn.Linear(64, 8), norm1d(8), torch.nn.ReLU(), torch.nn.Linear(8, 3)
        ).double()

    networks = network(bnlab.BatchNorm1d, bnlab.BatchNorm2d), network(torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)
    losses = []
    for net in networks:
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        for step in range(10):
            x = draw((8, 1, 6, 6), seed=step)
            loss = torch.nn.functional.cross_entropy(net(x), x.flatten(1)[:, :3].argmax(1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[:10] == pytest.approx(losses[10:], rel=1e-7)
    assert losses[9] != pytest.approx(losses[0], rel=0.01)
    assert_same_state(*networks, rtol=1e-7, atol=1e-9)


# The same object to everything else


@EACH
def test_constructor_repr_and_place_in_the_class_tree(ours, theirs, shape):
    assert inspect.signature(ours) == inspect.signature(theirs)
    for kwargs in ({}, {"eps": 1e-3, "momentum": None}, {"affine": False, "track_running_stats": False}):
        assert repr(ours(3, **kwargs)) == repr(theirs(3, **kwargs))
    assert issubclass(ours, theirs)
    assert not any(isinstance(ours(3), other) for _, other, _ in CLASSES if other is not theirs)


@EACH
def test_state_dicts_load_both_ways(ours, theirs, shape):
    a, b = pair(ours, theirs, 3)
    a(draw(shape)), b(draw(shape, seed=1))
    trained_b = copy.deepcopy(b)
    fresh_a, fresh_b = ours(3, dtype=torch.float64), theirs(3, dtype=torch.float64)
    for source, target in ((b, fresh_a), (a, fresh_b)):
        result = target.load_state_dict(source.state_dict(), strict=True)
        assert not result.missing_keys and not result.unexpected_keys
        assert_same_state(source, target, rtol=0, atol=0)
    x = draw(shape, seed=2)
    torch.testing.assert_close(fresh_a.eval()(x), trained_b.eval()(x))


def test_checkpoint_from_before_batches_were_counted():
    """Version 1 of the state, torch < 0.4.1, has no num_batches_tracked; strict loading fills in 0."""
    old = torch.nn.BatchNorm2d(3).state_dict()
    del old["num_batches_tracked"]
    old._metadata[""]["version"] = 1
    layer = bnlab.BatchNorm2d(3)
    layer.load_state_dict(old, strict=True)
    assert layer.num_batches_tracked.item() == 0
    old = torch.nn.BatchNorm2d(3).state_dict()
    del old["num_batches_tracked"]
    with pytest.raises(RuntimeError, match="num_batches_tracked"):
        layer.load_state_dict(old, strict=True)


@EACH
def test_deepcopy_pickle_and_save(ours, theirs, shape):
    layer = ours(3, momentum=None)
    layer(draw(shape, dtype=torch.float32))
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), torch.load(file, weights_only=False)):
        assert type(other) is ours and repr(other) == repr(layer)
        assert_same_state(other, layer, rtol=0, atol=0)
        other(draw(shape, seed=1, dtype=torch.float32))
        assert other.num_batches_tracked.item() == 2 and layer.num_batches_tracked.item() == 1


def test_reset():
    layers = pair(bnlab.BatchNorm1d, torch.nn.BatchNorm1d, 3)
    for layer in layers:
        layer(draw((5, 3)))
        layer.reset_running_stats()
    assert_same_state(*layers)
    assert layers[0].num_batches_tracked == 0 and not layers[0].weight.eq(1).all()
    for layer in layers:
        layer.reset_parameters()
    assert_same_state(*layers)
    assert layers[0].weight.eq(1).all()


@pytest.mark.parametrize(
    ("convert", "dtype"),
    [
        (lambda layer: layer.double(), torch.float64),
        (lambda layer: layer.half(), torch.float16),
        (lambda layer: layer.to(torch.bfloat16), torch.bfloat16),
        (lambda layer: layer, torch.float16),  # float32 layer, half input
        (lambda layer: layer, torch.bfloat16),
    ],
)
def test_dtype_of_the_layer_can_be_changed(convert, dtype):
    ours, theirs = (convert(layer) for layer in pair(bnlab.BatchNorm2d, torch.nn.BatchNorm2d, 3, dtype=torch.float32))
    eps = torch.finfo(dtype).eps
    for layer_training in (True, False):
        x = draw((4, 3, 5, 5), dtype=dtype)
        y, expected = ours.train(layer_training)(x), theirs.train(layer_training)(x)
        assert y.dtype == dtype
        torch.testing.assert_close(y, expected, rtol=10 * eps, atol=10 * eps)
        assert_same_state(ours, theirs, rtol=4 * eps, atol=4 * eps)
    assert ours.num_batches_tracked.dtype == torch.int64


def test_device_argument_and_to():
    layer = bnlab.BatchNorm2d(3, device="meta", dtype=torch.bfloat16)
    assert {v.device.type for v in layer.state_dict().values()} == {"meta"}
    y = layer(torch.empty(2, 3, 4, 4, device="meta", dtype=torch.bfloat16))
    assert y.is_meta and y.dtype == torch.bfloat16
    layer.to_empty(device="cpu").reset_parameters()
    assert layer(torch.randn(2, 3, 4, 4).bfloat16()).isfinite().all()


def test_torch_tools_recognize_the_layer():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), bnlab.BatchNorm2d(3))
    network(draw((4, 3, 5, 5), dtype=torch.float32))
    network.eval()
    x = draw((2, 3, 5, 5), seed=1, dtype=torch.float32)
    folded = torch.nn.utils.fusion.fuse_conv_bn_eval(*network)
    torch.testing.assert_close(folded(x), network(x), rtol=1e-5, atol=1e-5)
    averaged = torch.optim.swa_utils.AveragedModel(network.train())
    torch.optim.swa_utils.update_bn([x], averaged)  # finds layers by isinstance, sets momentum=None
    torch.testing.assert_close(averaged.module[1].running_mean, network[0](x).mean((0, 2, 3)))
    synchronized = torch.nn.SyncBatchNorm.convert_sync_batchnorm(network)[1]
    assert type(synchronized) is torch.nn.SyncBatchNorm
    assert_same_state(synchronized, network[1])


# Memory


def test_nothing_accumulates_from_step_to_step():
    layer = bnlab.BatchNorm1d(3)
    inputs = []
    for step in range(3):
        x = draw((5, 3), seed=step, dtype=torch.float32).requires_grad_()
        layer(x).sum().backward()
        inputs.append(weakref.ref(x))
        del x
    gc.collect()
    assert [ref() for ref in inputs] == [None] * 3
    for name, buffer in layer.named_buffers():
        assert not buffer.requires_grad and buffer.grad_fn is None, name


def test_buffers_are_updated_in_place():
    """Whoever holds a buffer (a data-parallel wrapper, an exporter) sees its updates."""
    layer = bnlab.BatchNorm1d(3)
    held = dict(layer.named_buffers())
    layer(draw((5, 3), dtype=torch.float32))
    assert all(buffer is held[name] for name, buffer in layer.named_buffers())
    assert held["num_batches_tracked"] == 1 and not held["running_mean"].eq(0).any()


# Bad input


@pytest.mark.parametrize(
    ("dim", "shape"),
    [(1, (3,)), (1, (2, 3, 4, 4)), (2, (2, 3)), (2, (3, 4, 4)), (2, (2, 3, 4, 4, 4)), (3, (2, 3, 4, 4))],
    ids=str,
)
def test_wrong_rank(dim, shape):
    messages = []
    for library in (bnlab, torch.nn):
        with pytest.raises(ValueError, match=f"got {len(shape)}D input") as error:
            getattr(library, f"BatchNorm{dim}d")(3)(torch.randn(shape))
        messages.append(str(error.value))
    assert messages[0] == messages[1]


@EACH
def test_one_value_per_channel(ours, theirs, shape):
    x = torch.randn(1, 3, *[1] * (len(shape) - 2))
    for track, training in ((True, True), (False, True), (False, False)):
        layer = ours(3, track_running_stats=track).train(training)
        with pytest.raises(ValueError, match=r"Expected more than 1 value per channel when training, got input size"):
            layer(x)
    counted = ours(3)
    with pytest.raises(ValueError, match="more than 1 value"):
        counted(x)
    assert counted.num_batches_tracked == 0
    assert counted.eval()(x).shape == x.shape


@pytest.mark.parametrize("training", [True, False])
def test_wrong_number_of_channels_and_wrong_dtype(training):
    layer = bnlab.BatchNorm2d(3).train(training)
    with pytest.raises(RuntimeError, match="running_mean should contain 4 elements not 3"):
        layer(torch.randn(2, 4, 5, 5))
    with pytest.raises(RuntimeError, match="mixed dtype"):
        layer(torch.randn(2, 3, 5, 5).double())
    assert layer.num_batches_tracked == 0


@pytest.mark.parametrize("eps", [0.0, -1.0])
def test_eps_must_be_positive_in_training(eps):
    with pytest.raises(ValueError, match="eps must be positive"):
        bnlab.BatchNorm1d(3, eps=eps)(torch.randn(4, 3))


# compile, autocast, channels_last, inside a network


def test_compiled_training_steps_agree():
    torch._dynamo.reset()
    layer = bnlab.BatchNorm2d(3)
    twin = copy.deepcopy(layer)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    for step in range(3):
        x = draw((4, 3, 5, 5), seed=step, dtype=torch.float32)
        loss = [net(x).pow(3).sum() for net in (compiled, twin)]
        torch.testing.assert_close(*loss)
        for value in loss:
            value.backward()
    torch.testing.assert_close(layer.weight.grad, twin.weight.grad)
    assert_same_state(layer, twin)
    torch.testing.assert_close(compiled.eval()(x), twin.eval()(x))


def test_autocast_and_channels_last_inside_a_network():
    results = []
    for library in (bnlab, torch.nn):
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), library.BatchNorm2d(4), torch.nn.Conv2d(4, 2, 3))
        network = network.to(memory_format=torch.channels_last)
        x = draw((4, 3, 8, 8), dtype=torch.float32).contiguous(memory_format=torch.channels_last)
        seen = []
        network[1].register_forward_hook(lambda layer, inputs, output, seen=seen: seen.append((inputs[0], output)))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = network(x)
        y.float().pow(2).mean().backward()
        (normalized_input, normalized) = seen[0]
        results.append([normalized, y, network[1].running_mean, network[1].weight.grad, network[0].weight.grad])
        assert normalized_input.dtype == normalized.dtype == torch.bfloat16
        assert normalized.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(results[0], results[1], rtol=0.05, atol=0.02)
