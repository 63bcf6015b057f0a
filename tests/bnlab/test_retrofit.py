"""bnlab.retrofit against float64, torch.nn.utils.fusion, and the state of the model before the call."""

import copy
import gc
import weakref
from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.nn.parameter import is_lazy  # noqa: E402
from torch.nn.utils import fusion, parametrizations  # noqa: E402

import bnlab  # noqa: E402
from bnlab import relatives  # noqa: E402
from bnlab.models import MLP, VGG, small_vgg  # noqa: E402
from bnlab.retrofit import Normalized, fold_batch_norm, insert_batch_norm, recalibrate  # noqa: E402
from bnlab.retrofit.calibration import CHUNK, ChannelMoments  # noqa: E402

# A layer of every kind, with the shape of a batch for it.
LAYERS = {
    "linear": (lambda: nn.Linear(6, 4), (8, 6)),
    "linear without bias": (lambda: nn.Linear(6, 4, bias=False), (8, 6)),
    "conv1d": (lambda: nn.Conv1d(6, 4, 3, padding=1), (8, 6, 9)),
    "conv2d": (lambda: nn.Conv2d(6, 4, 3, padding="same", bias=False), (5, 6, 7, 6)),
    "conv2d in groups": (lambda: nn.Conv2d(6, 4, 3, groups=2), (5, 6, 7, 6)),
    "conv2d by channel": (lambda: nn.Conv2d(6, 12, 3, groups=6, dilation=2), (5, 6, 7, 6)),
    "conv3d": (lambda: nn.Conv3d(6, 4, 2, stride=2), (3, 6, 4, 5, 6)),
    "transposed 1d": (lambda: nn.ConvTranspose1d(6, 4, 3, stride=2), (8, 6, 9)),
    "transposed 2d in groups": (
        lambda: nn.ConvTranspose2d(6, 4, 3, groups=2, output_padding=1, stride=2),
        (5, 6, 4, 3),
    ),
    "transposed 3d": (lambda: nn.ConvTranspose3d(6, 4, 2, bias=False), (3, 6, 3, 4, 2)),
}
NORM_OF_RANK = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def relative(a, b):
    """The largest difference, relative to the largest value."""
    return ((a.double() - b.double()).abs().max() / b.double().abs().max()).item()


def moved(norm):
    """The same BN with statistics, gamma and beta that are far from 0 and 1, in evaluation mode."""
    with torch.no_grad():
        norm.running_mean.normal_(1.0, 2.0)
        norm.running_var.uniform_(0.2, 5.0)
        if norm.weight is not None:
            norm.weight.normal_()
        if norm.bias is not None:
            norm.bias.normal_()
    return norm.eval()


class Snapshot:
    """All that a call must not change in a model."""

    def __init__(self, model):
        self.model = model
        self.before = self.read()

    def read(self):
        state = {
            name: (id(t), torch.zeros(()) if is_lazy(t) else t.detach().clone())
            for name, t in self.model.state_dict(keep_vars=True).items()
        }
        modules = [
            (name, id(m), type(m), m.training, len(m._forward_hooks), len(m._forward_pre_hooks), m.__dict__.keys())
            for name, m in self.model.named_modules()
        ]
        grads = [(p.requires_grad, p.grad is None) for p in self.model.parameters()]
        momenta = [m.momentum for m in self.model.modules() if hasattr(m, "momentum")]
        return state, modules, grads, momenta

    def unchanged(self):
        (state, *rest), (state_before, *rest_before) = self.read(), self.before
        same = all(state[k][0] == i and torch.equal(state[k][1], t) for k, (i, t) in state_before.items())
        return same and state.keys() == state_before.keys() and rest == rest_before


class Untraceable(nn.Module):
    """Its path depends on the data; one layer is called in a loop, functional dropout in training."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.again = nn.Linear(8, 8)
        self.last = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x):
        x = self.first(x)
        for _ in range(2 if x.sum() < 1e9 else 3):
            x = self.again(x)
        x = F.dropout(x, 0.5, self.training)
        return self.last(x) if x.sum() < 1e9 else x


# Insertion


@pytest.mark.parametrize("kind", LAYERS)
def test_insertion_puts_the_moments_of_every_kind_of_layer_and_changes_no_output(kind):
    make, shape = LAYERS[kind]
    model = nn.Sequential(make(), nn.ReLU())
    batches = [3 + 2 * torch.randn(shape) for _ in range(3)]
    normalized = insert_batch_norm(model, batches, momentum=0.3, eps=1e-3).eval()
    norm = normalized[1]
    assert type(norm) is NORM_OF_RANK[len(shape)]
    assert (norm.momentum, norm.eps, norm.num_batches_tracked) == (0.3, 1e-3, 3)
    y = copy.deepcopy(model[0]).double()(torch.cat(batches).double()).transpose(0, 1).flatten(1)
    np.testing.assert_allclose(norm.running_mean, y.mean(1).detach(), rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(norm.running_var, y.var(1).detach(), rtol=1e-5)
    np.testing.assert_allclose(norm.weight.detach(), (y.var(1) + 1e-3).sqrt().detach(), rtol=1e-5)
    assert torch.equal(norm.bias, norm.running_mean)
    x = torch.randn(shape) * 10  # unlike the calibration data, too
    assert relative(normalized(x), model(x)) < 1e-7
    assert relative(normalized(x.double().float()[:1]), model(x[:1])) < 1e-7


def test_vgg16_at_224_keeps_its_outputs_and_has_the_keys_of_vgg16_bn():
    with torch.device("meta"):
        model, like = VGG(16, num_classes=10).eval(), VGG(16, norm=nn.BatchNorm2d, num_classes=10)
    model.classifier = nn.Sequential(nn.Linear(512 * 7 * 7, 10))  # the original's takes seconds to fill
    model.features.to_empty(device="cpu")
    with torch.no_grad():
        for layer in model.features:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
                nn.init.normal_(layer.bias, std=0.1)
        x = torch.randn(2, 3, 224, 224)
        normalized = insert_batch_norm(model, x).eval()
        features = []
        for m in (model, normalized):
            m.avgpool.register_forward_pre_hook(lambda _, args: features.append(args[0]))
        assert relative(normalized(x), model(x)) < 1e-6
        assert relative(features[0], features[1]) < 1e-6
    assert list(normalized.features.state_dict()) == list(like.features.state_dict())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_small_vgg_keeps_its_outputs_in_both_memory_formats(layout):
    model = small_vgg().eval().to(memory_format=layout)
    x = torch.rand(32, 1, 28, 28).to(memory_format=layout)
    normalized = insert_batch_norm(model, x)
    assert relative(normalized(x), model(x)) < 1e-6
    assert isinstance(normalized.classifier, Normalized)
    assert normalized.classifier.out_features == 10  # attributes of the layer are still there
    normalized.features[0].weight.data.zero_()
    assert model.features[0].weight.any()


def test_what_comes_back_is_of_the_same_class_trains_and_learns_gamma_and_beta():
    model = small_vgg().train()
    x = torch.rand(16, 1, 28, 28)
    normalized = insert_batch_norm(model, x, layers=["features.0"])
    assert type(normalized) is type(model)
    assert all(m.training for m in normalized.modules())
    conv, norm = normalized.features[0], normalized.features[1]
    shifted = x + 5
    expected = F.batch_norm(conv(shifted), None, None, norm.weight, norm.bias, training=True)
    torch.testing.assert_close(norm(conv(shifted)), expected)
    normalized(shifted).square().sum().backward()
    assert norm.weight.grad.any() and norm.bias.grad.any()
    assert all(p.grad is None for p in model.parameters())
    assert insert_batch_norm(model.eval(), x).training is False


def test_the_mode_still_decides_what_an_untraceable_model_does():
    model = Untraceable().eval()
    x = torch.randn(64, 6)
    normalized = insert_batch_norm(model, x)
    assert relative(normalized(x), model(x)) < 1e-6
    assert [n for n, m in normalized.named_modules() if isinstance(m, nn.BatchNorm1d)] == [
        "first.1",
        "again.1",
        "last.1",
        "last.4",
    ]
    head = nn.Sequential(nn.Flatten(), nn.Linear(6, 3))

    class Dropping(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = head

        def forward(self, x):
            return F.dropout(self.head(x), 0.5, self.training)

    normalized = insert_batch_norm(Dropping().eval(), x)
    assert (normalized.train()(x) == 0).float().mean() > 0.3  # a traced graph would never drop again


def test_an_element_that_is_called_by_itself_is_wrapped_and_keeps_its_number():
    class Sliced(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 6))

        def forward(self, x):
            return self.features[2](self.features[:2](x))

    model = Sliced().eval()
    x = torch.randn(9, 4)
    normalized = insert_batch_norm(model, x)
    assert isinstance(normalized.features[0], Normalized) and isinstance(normalized.features[2], Normalized)
    assert relative(normalized(x), model(x)) < 1e-6
    named = nn.Sequential()
    named.add_module("fc", nn.Linear(4, 5))
    assert list(dict(insert_batch_norm(named, x).named_children())) == ["fc", "fc_bn"]
    assert isinstance(insert_batch_norm(nn.Linear(4, 5), x), Normalized)
    assert type(insert_batch_norm(MLP([4, 5, 3]), x)) is MLP


def test_a_layer_called_twice_gets_the_statistics_of_both_calls():
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.Tanh(), shared).eval()
    x = torch.randn(50, 4)
    normalized = insert_batch_norm(model, x)
    assert len(normalized) == 5 and normalized[1] is normalized[4]
    first = shared(x)
    both = torch.cat([first, shared(first.tanh())]).double()
    np.testing.assert_allclose(normalized[1].running_mean, both.mean(0).detach(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(normalized[1].running_var, both.var(0).detach(), rtol=1e-5)
    assert relative(normalized(x), model(x)) < 1e-6


def test_layers_chooses_by_name_or_by_container_and_keeps_the_rest():
    model, x = small_vgg().eval(), torch.rand(4, 1, 28, 28)

    def norms(**options):
        return sum(
            isinstance(m, nn.BatchNorm2d | nn.BatchNorm1d) for m in insert_batch_norm(model, x, **options).modules()
        )

    assert norms() == 7
    assert norms(layers=["features"]) == 6
    assert norms(layers=["classifier"]) == norms(layers="classifier") == norms(layers=iter(["features.0"])) == 1
    with pytest.raises(ValueError, match=r"no module 'features.99': choose from 'features.0'"):
        insert_batch_norm(model, x, layers=["features.99"])
    with pytest.raises(TypeError, match=r"'features.1' is ReLU"):
        insert_batch_norm(model, x, layers=["features.1"])
    with pytest.raises(ValueError, match="no convolution or linear layer"):
        insert_batch_norm(nn.ReLU(), x)
    with pytest.raises(ValueError, match="eps is 0"):
        insert_batch_norm(model, x, eps=0)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-15), (torch.bfloat16, 0.01), (torch.float16, 0.002)]
)
def test_other_dtypes(dtype, tolerance):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)).to(dtype).eval()
    x = torch.randn(16, 3, 8, 8, dtype=dtype)
    normalized = insert_batch_norm(model, x)
    assert normalized[1].weight.dtype == normalized[1].running_var.dtype == torch.promote_types(dtype, torch.float32)
    assert normalized(x).dtype == dtype
    assert relative(normalized(x), model(x)) < tolerance


def test_constant_channels_and_extreme_scales_stay_exact():
    model = nn.Linear(4, 5).eval()
    with torch.no_grad():
        model.weight[0] = 0  # constant: its bias
        model.weight[1:3] = 0
        model.bias[1:3] = 0  # constant 0
        model.weight[3] *= 1e6
        model.weight[4] *= 1e-9
    x = torch.randn(200, 4)
    normalized = insert_batch_norm(model, x)
    norm = normalized[1]
    assert norm.running_var[:3].tolist() == [0, 0, 0]
    np.testing.assert_allclose(norm.weight[:3].detach(), 1e-5**0.5, rtol=3e-7)
    for c in range(5):
        torch.testing.assert_close(normalized(x)[:, c], model(x)[:, c], rtol=1e-6, atol=0)


def test_several_inputs_come_through_forward():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, a, b):
            return self.fc(a) * b

    batches = [{"a": torch.randn(5, 3), "b": torch.ones(5, 1)} for _ in range(2)]
    normalized = insert_batch_norm(Two(), batches, forward=lambda model, batch: model(**batch))
    assert normalized.fc[1].num_batches_tracked == 2
    with pytest.raises(TypeError, match="batch 0 is dict"):
        insert_batch_norm(Two(), batches)


def test_calibration_streams_with_at_most_two_batches_alive():
    alive, most = [], 0

    def batches():
        nonlocal most
        for _ in range(6):
            x = torch.randn(4, 3)
            alive.append(weakref.ref(x))
            gc.collect()
            most = max(most, sum(r() is not None for r in alive))
            yield x, torch.zeros(4)

    insert_batch_norm(nn.Linear(3, 2), batches())
    assert len(alive) == 6 and most <= 2


def test_statistics_do_not_depend_on_how_the_data_are_cut_into_batches():
    model = nn.Conv2d(2, 3, 3)
    x = torch.randn(12, 2, 6, 6) + 100
    whole = insert_batch_norm(model, x)[1]
    parts = insert_batch_norm(model, [(part, None) for part in x.split([1, 5, 6])])[1]
    as_numpy = insert_batch_norm(model, x.numpy())[1]
    torch.testing.assert_close(parts.running_mean, whole.running_mean, rtol=1e-6, atol=0)
    torch.testing.assert_close(parts.running_var, whole.running_var, rtol=1e-5, atol=0)
    assert torch.equal(as_numpy.running_var, whole.running_var)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.MultiheadAttention(4, 2)

    def forward(self, x):
        return self.inner(x, x, x)[0]


BAD = {
    "no batch": (lambda: nn.Linear(3, 2), [], "no batch"),
    "used-up generator": (lambda: nn.Linear(3, 2), iter(()), "no batch"),
    "an empty batch": (lambda: nn.Linear(3, 2), [torch.randn(0, 3)], r"batch 0 is empty, of shape \(0, 3\)"),
    "NaN in a later batch": (
        lambda: nn.Linear(3, 2),
        [torch.randn(4, 3), torch.full((4, 3), torch.nan)],
        "batch 1 .*NaN",
    ),
    "inf": (lambda: nn.Linear(3, 2), [torch.full((4, 3), torch.inf)], "NaN or inf"),
    "overflow": (lambda: nn.Linear(3, 2), torch.full((4, 3), 3e38), "too large"),
    "one value": (lambda: nn.Linear(3, 2), torch.randn(1, 3), "one value per channel"),
    "features last": (
        lambda: nn.Linear(3, 2),
        torch.randn(4, 5, 3),
        r"returns shape \(4, 5, 2\), expected \(N, features",
    ),
    "no batch axis": (lambda: nn.Conv2d(3, 2, 3), torch.randn(3, 8, 8), r"expected \(N, C, HW|expected \(N, C, LH"),
    "a layer nobody reaches": (lambda: nn.ModuleDict({"a": nn.Linear(3, 2)}), None, "'a' was never called"),
    "attention": (Attention, torch.randn(5, 2, 4), "'inner.out_proj' was never called"),
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(3)), torch.randn(4, 3), "'0' is LazyLinear: run the model once"),
    "lazy, and not chosen": (
        lambda: nn.Sequential(nn.Linear(3, 2), nn.LazyBatchNorm1d()),
        torch.randn(4, 3),
        r"'1.1' is LazyBatchNorm1d: run the model once",
    ),
    "a string": (lambda: nn.Linear(3, 2), ["abc"], "batch 0 is str"),
    "a number": (lambda: nn.Linear(3, 2), 7, "int, which can't be iterated over"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_and_the_model_stays_as_it_was(case):
    make, data, message = BAD[case]
    model = nn.Sequential(nn.Identity(), make(), nn.Identity()).train()
    model[0].register_forward_hook(lambda *a: None)
    options = {}
    if data is None:
        data, options = torch.randn(4, 3), {"forward": lambda model, x: x}
    before = Snapshot(model)
    message = message.replace("'a'", "'1.a'").replace("'inner", "'1.inner").replace("'0' is Lazy", "'1.0' is Lazy")
    with pytest.raises((ValueError, TypeError), match=message):
        insert_batch_norm(model, data, **options)
    assert before.unchanged()


def test_the_model_stays_as_it_was_after_success_and_after_an_error_inside_it():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2)).train()
    model[3].eval()
    model[0].weight.requires_grad_(False)
    before, x, state = Snapshot(model), torch.randn(8, 3), torch.get_rng_state()
    normalized = insert_batch_norm(model, x)
    assert before.unchanged() and torch.equal(state, torch.get_rng_state())
    assert [m.training for m in normalized] == [True, True, True, True, False, False]
    with pytest.raises(RuntimeError):
        insert_batch_norm(model, torch.randn(8, 5))
    with pytest.raises(ValueError):
        recalibrate(model, [torch.randn(8, 3), torch.full((8, 3), torch.nan)])
    assert before.unchanged()


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_quantized_and_recurrent_layers_and_models_that_cannot_be_copied_are_refused():
    quantized = torch.ao.nn.quantized.Linear(3, 2)
    with pytest.raises(ValueError, match="'1' is a quantized Linear"):
        insert_batch_norm(nn.Sequential(nn.Linear(3, 3), quantized), torch.randn(4, 3))
    with pytest.raises(TypeError, match="'0' is LSTM"):
        insert_batch_norm(nn.Sequential(nn.LSTM(3, 2)), torch.randn(4, 3), layers=["0"])
    model = nn.Linear(3, 2)
    model.cache = model(torch.randn(1, 3))  # a tensor with a graph
    with pytest.raises(TypeError, match="this Linear can't be copied"):
        insert_batch_norm(model, torch.randn(4, 3))


NO_MODELS = {
    "nothing": (lambda: None, "is NoneType, expected a torch.nn.Module"),
    "a state_dict": (lambda: nn.Linear(3, 2).state_dict(), "is OrderedDict, expected .* not its weights"),
    "a class": (lambda: nn.Linear, "is the class Linear, expected"),
    "scripted": (
        lambda: torch.jit.script(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).eval()),
        "is RecursiveScriptModule, made by torch.jit: give the model it was made from",
    ),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("case", NO_MODELS)
def test_what_is_no_model_or_hides_its_layers_is_refused(case):
    make, message = NO_MODELS[case]
    model = make()
    for call in (insert_batch_norm, recalibrate, lambda model, x: fold_batch_norm(model)):
        with pytest.raises(TypeError, match=message):
            call(model, torch.randn(4, 3))


class Busy(nn.Module):
    """Its forward leaves something behind, in evaluation, too."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(2, 3, 2)
        self.norm = moved(nn.BatchNorm1d(3))
        self.register_buffer("calls", torch.zeros(()))
        self.last = None

    def forward(self, x):
        self.calls += 1
        self.last = x
        return self.norm(input=self.conv(x))


def test_a_forward_that_changes_buffers_changes_neither_the_model_nor_the_copy():
    model, x = Busy().eval(), torch.randn(4, 2, 5)
    before = Snapshot(model)
    for copied in (insert_batch_norm(model, x, layers=["conv"]), fold_batch_norm(model)):
        assert copied.calls == 0 and copied.last is None
    with pytest.raises(ValueError, match="NaN"):
        recalibrate(model, [x, x * torch.nan])
    assert before.unchanged() and model.last is None
    recalibrate(model, x)  # the norm gets its input by name
    np.testing.assert_allclose(model.norm.running_mean, model.conv(x).detach().mean((0, 2)), rtol=1e-4, atol=1e-6)
    assert model.calls == 0


class Routed(nn.Module):
    """Each example goes to one of two layers, so that a batch may leave one of them without any."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(2, 3), nn.Linear(2, 3)

    def forward(self, x):
        y, left = x.new_zeros(len(x), 3), x[:, 0] < 0
        y[left], y[~left] = self.left(x[left]), self.right(x[~left])
        return y


def test_a_layer_that_some_batch_does_not_reach_is_calibrated_on_the_others():
    model, x = Routed().eval(), torch.randn(40, 2)
    normalized = insert_batch_norm(model, [x.abs(), x, x.abs()])
    seen = model.left(x[x[:, 0] < 0]).detach().double()
    np.testing.assert_allclose(normalized.left[1].running_mean, seen.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(normalized.left[1].running_var, seen.var(0), rtol=1e-5)
    assert relative(normalized(x), model(x)) < 1e-6


@pytest.mark.parametrize("eps", [0, -1e-5, torch.nan, torch.inf])
def test_eps_is_positive_and_finite(eps):
    with pytest.raises(ValueError, match=f"eps is {eps}, expected a positive, finite number"):
        insert_batch_norm(nn.Linear(3, 2), torch.randn(4, 3), eps=eps)


def test_parametrized_layers_can_be_normalized_but_not_folded():
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 2)), nn.ReLU()).eval()
    x = torch.randn(6, 3)
    normalized = insert_batch_norm(model, x)
    assert relative(normalized(x), model(x)) < 1e-6
    with pytest.raises(ValueError, match="'0' is parametrized: remove_parametrizations first"):
        fold_batch_norm(normalized)


@settings(max_examples=30)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.sampled_from([(), (1,), (3,), (2, 3)]),
    st.floats(-6, 6),
    st.integers(0, 2**31),
)
def test_streamed_moments_agree_with_float64(sizes, spatial, exponent, seed):
    generator = torch.Generator().manual_seed(seed)
    offset = 10.0**exponent
    batches = [offset + torch.randn((n, 3, *spatial), generator=generator) for n in sizes]
    moments = ChannelMoments()
    for x in batches:
        moments.add(x)
    everything = torch.cat(batches).double().transpose(0, 1).flatten(1)
    assert moments.count == everything.shape[1]
    np.testing.assert_allclose(moments.mean, everything.mean(1), rtol=1e-6, atol=1e-6)
    if moments.count > 1:
        np.testing.assert_allclose(moments.unbiased_var, everything.var(1), rtol=1e-5, atol=1e-12)


def test_large_batches_are_looked_at_in_pieces_without_losing_digits():
    x = torch.randn(6, 2, 1000, 300) + 1e4
    assert x.numel() > 3 * CHUNK
    moments = ChannelMoments()
    moments.add(x.to(memory_format=torch.channels_last))
    everything = x.double().transpose(0, 1).flatten(1)
    np.testing.assert_allclose(moments.mean, everything.mean(1), rtol=1e-9)
    np.testing.assert_allclose(moments.unbiased_var, everything.var(1), rtol=1e-6)


# Folding


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("affine", [True, False])
def test_folding_a_norm_behind_every_kind_of_layer(kind, affine):
    make, shape = LAYERS[kind]
    layer = make()
    channels = getattr(layer, "out_channels", None) or layer.out_features
    model = nn.Sequential(layer, moved(NORM_OF_RANK[len(shape)](channels, affine=affine)), nn.ReLU()).eval()
    folded = fold_batch_norm(model)
    assert [type(m) for m in folded] == [type(layer), nn.ReLU]
    x = torch.randn(shape)
    exact = copy.deepcopy(model).double()(x.double())
    assert relative(folded(x), exact) < 1e-6
    assert relative(copy.deepcopy(folded).double()(x.double()), exact) < 1e-6
    assert relative(fold_batch_norm(copy.deepcopy(model).double())(x.double()), exact) < 1e-14
    if isinstance(layer, nn.Linear):
        if not affine:
            return  # torch 2.13 has no fusion for it
        reference = fusion.fuse_linear_bn_eval(layer, model[1])
    else:
        transposed = isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)
        if transposed and layer.groups > 1:
            return  # torch 2.13 refuses it: its scales have another shape than the weights
        reference = fusion.fuse_conv_bn_eval(layer, model[1], transposed)
    torch.testing.assert_close(folded[0].weight, reference.weight, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(folded[0].bias, reference.bias, rtol=1e-5, atol=1e-6)


EXACT_BEFORE = {
    "linear": (nn.BatchNorm1d, lambda: nn.Linear(6, 4), (5, 6)),
    "no padding": (nn.BatchNorm2d, lambda: nn.Conv2d(6, 4, 3, bias=False), (3, 6, 5, 5)),
    "valid": (nn.BatchNorm1d, lambda: nn.Conv1d(6, 4, 3, padding="valid"), (3, 6, 5)),
    "groups, dilation, stride": (
        nn.BatchNorm2d,
        lambda: nn.Conv2d(6, 4, 3, groups=2, dilation=2, stride=2),
        (3, 6, 9, 9),
    ),
    "circular": (nn.BatchNorm2d, lambda: nn.Conv2d(6, 4, 3, padding=2, padding_mode="circular"), (3, 6, 5, 5)),
    "reflect": (nn.BatchNorm2d, lambda: nn.Conv2d(6, 4, 3, padding="same", padding_mode="reflect"), (3, 6, 5, 5)),
    "replicate": (nn.BatchNorm3d, lambda: nn.Conv3d(6, 4, 3, padding=1, padding_mode="replicate"), (2, 6, 4, 4, 4)),
    "same, 1x1": (nn.BatchNorm2d, lambda: nn.Conv2d(6, 4, 1, padding="same"), (3, 6, 5, 5)),
}


@pytest.mark.parametrize("case", EXACT_BEFORE)
def test_folding_a_norm_in_front_where_that_is_exact(case):
    norm, make, shape = EXACT_BEFORE[case]
    model = nn.Sequential(moved(norm(6)), make()).eval()
    folded = fold_batch_norm(model)
    assert len(folded) == 1
    x = torch.randn(shape)
    assert relative(folded(x), copy.deepcopy(model).double()(x.double())) < 2e-6


INEXACT_BEFORE = {
    "zero padding": (nn.BatchNorm2d, lambda: nn.Conv2d(6, 4, 3, padding=1), (3, 6, 5, 5), "'1' pads with zeros"),
    "same": (nn.BatchNorm1d, lambda: nn.Conv1d(6, 4, 3, padding="same"), (3, 6, 5), "'1' pads with zeros"),
    "transposed": (nn.BatchNorm2d, lambda: nn.ConvTranspose2d(6, 4, 3, groups=2), (3, 6, 5, 5), "at the border"),
}


@pytest.mark.parametrize("case", INEXACT_BEFORE)
def test_folding_a_norm_in_front_of_zeros_is_refused_unless_nothing_is_added(case):
    norm, make, shape, message = INEXACT_BEFORE[case]
    model = nn.Sequential(moved(norm(6)), make()).eval()
    before = Snapshot(model)
    with pytest.raises(ValueError, match=message) as error:
        fold_batch_norm(model)
    assert "its input comes from the input" in str(error.value)
    assert before.unchanged()
    with torch.no_grad():
        model[0].running_mean.zero_()
        model[0].bias.zero_()
    folded = fold_batch_norm(model)
    x = torch.randn(shape)
    assert relative(folded(x), copy.deepcopy(model).double()(x.double())) < 2e-6


@settings(max_examples=40)
@given(
    st.integers(1, 3),
    st.booleans(),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 2),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_folding_behind_any_convolution(rank, transposed, groups, per_in, per_out, kernel, padding, bias, seed):
    torch.manual_seed(seed)
    cls = getattr(nn, f"Conv{'Transpose' if transposed else ''}{rank}d")
    layer = cls(groups * per_in, groups * per_out, kernel, padding=padding, groups=groups, bias=bias)
    model = nn.Sequential(layer, moved(NORM_OF_RANK[rank + 2](groups * per_out))).double().eval()
    x = torch.randn(2, groups * per_in, *[6] * rank).double()
    assert relative(fold_batch_norm(model)(x), model(x)) < 1e-12


@pytest.mark.parametrize("make", [lambda: small_vgg().eval(), lambda: MLP([784, 20, 20, 10]).eval()])
def test_insertion_then_folding_gives_the_weights_back(make):
    model = make()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    shape = (32, 784) if isinstance(model, MLP) else (32, 1, 28, 28)
    back = fold_batch_norm(insert_batch_norm(model, torch.rand(shape)))
    state, original = back.state_dict(), model.state_dict()
    assert list(state) == list(original)
    for name, value in original.items():
        torch.testing.assert_close(state[name], value, rtol=3e-7, atol=2e-6 if name.endswith("bias") else 1e-9)


def test_a_folded_vgg_bn_loads_into_vgg():
    model = small_vgg(norm=bnlab.BatchNorm2d).eval()
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            moved(m)
    plain = small_vgg().eval()
    plain.load_state_dict(fold_batch_norm(model).state_dict(), strict=True)
    x = torch.randn(2, 1, 28, 28)
    assert relative(plain(x), model.double()(x.double())) < 1e-5


class Block(nn.Module):
    """A residual block: BN in attributes, one in front of a branch."""

    def __init__(self, channels=4):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = moved(nn.BatchNorm2d(channels))
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = moved(nn.BatchNorm2d(channels))

    def forward(self, x, relu=True):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(x + y) if relu else x + y


class Stepwise(nn.Module):
    """Can't be traced, but its blocks can."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])
        self.head = nn.Sequential(nn.Conv2d(4, 4, 1), moved(nn.BatchNorm2d(4)))
        self.alone = moved(nn.BatchNorm2d(4))
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        for block in self.blocks:
            if x.mean() < 100:
                x = block(x)
        return self.alone(self.conv(self.head(x)))


def test_attributes_become_identities_and_untraceable_parents_are_looked_into():
    x = torch.randn(2, 4, 5, 5)
    block = Block().eval()
    folded = fold_batch_norm(block)
    assert type(folded.bn1) is type(folded.bn2) is nn.Identity
    assert relative(folded(x), block(x)) < 1e-6
    model = Stepwise().eval()
    with pytest.raises(ValueError, match=r"can't fold 'alone': .*can't trace the forward of .*Stepwise.*partial=True"):
        fold_batch_norm(model)
    folded = fold_batch_norm(model, partial=True)
    assert [n for n, m in folded.named_modules() if isinstance(m, nn.BatchNorm2d)] == ["alone"]
    assert relative(folded(x), model(x)) < 1e-6


class Graph(nn.Module):
    """Whatever `forward` says, with two convolutions and two BN layers."""

    def __init__(self, steps):
        super().__init__()
        self.conv, self.other = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)
        self.bn, self.bn2 = moved(nn.BatchNorm2d(4)), moved(nn.BatchNorm2d(4))
        self.same = nn.Identity()
        self.steps = steps

    def forward(self, x):
        return self.steps(self, x)


FOLDABLE = {
    "two in a row": lambda m, x: m.bn2(m.bn(m.conv(x))),
    "with an identity between": lambda m, x: m.bn2(m.other(m.bn(m.same(m.conv(x))))),
    "in front of two branches": lambda m, x: (lambda y: m.conv(y) + m.other(y))(m.bn2(m.bn(x))),
    "a pair called twice": lambda m, x: m.bn2(m.other(m.bn(m.conv(m.bn(m.conv(x)))))),
    "behind and in front": lambda m, x: m.bn2(m.conv(m.other(m.bn(x)))),
    "by keyword": lambda m, x: m.bn2(input=m.other(input=m.bn(m.conv(input=x)))),
}


@pytest.mark.parametrize("case", FOLDABLE)
def test_graphs_that_fold(case):
    model = Graph(FOLDABLE[case]).eval()
    folded = fold_batch_norm(model)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    x = torch.randn(2, 4, 12, 12)
    assert relative(folded(x), copy.deepcopy(model).double()(x.double())) < 3e-6


UNFOLDABLE = {
    "the layer's output is used elsewhere": (
        lambda m, x: (lambda y: m.bn2(m.other(F.relu(m.bn(y)) + y)))(m.conv(x)),
        "also feeds",
    ),
    "called without it": (lambda m, x: m.bn2(m.other(F.relu(m.bn(m.conv(x))) + m.conv(x))), "also called without it"),
    "two layers feed it": (
        lambda m, x: m.bn2(F.relu(m.bn(m.conv(x)) + F.relu(m.bn(m.other(x))))),
        "several layers feed it",
    ),
    "between additions": (lambda m, x: m.bn2(m.conv(F.relu(m.bn(x + 1)))), "comes from add, .* goes to relu"),
    "at both ends": (lambda m, x: m.bn(x), "comes from the input.* goes to the output"),
    "never called": (lambda m, x: m.bn2(m.conv(x)), "'bn': the model's forward never calls it"),
    "weights read elsewhere": (
        lambda m, x: m.bn2(m.other(F.relu(m.bn(m.conv(x))))) + m.conv.weight.sum(),
        "a parameter of 'conv' is also used outside it",
    ),
}


@pytest.mark.parametrize("case", UNFOLDABLE)
def test_graphs_that_do_not_fold_are_refused_and_can_be_folded_in_part(case):
    steps, message = UNFOLDABLE[case]
    model = Graph(steps).eval()
    before = Snapshot(model)
    with pytest.raises(ValueError, match=message):
        fold_batch_norm(model)
    folded = fold_batch_norm(model, partial=True)
    x = torch.randn(2, 4, 12, 12)
    assert relative(folded(x), copy.deepcopy(model).double()(x.double())) < 3e-6
    assert before.unchanged()


def hooked():
    model = nn.Sequential(nn.Conv2d(2, 2, 1), moved(nn.BatchNorm2d(2)))
    model[0].register_forward_hook(lambda m, args, y: 2 * y)
    return model


def tied():
    model = nn.Sequential(nn.Linear(2, 2), moved(nn.BatchNorm1d(2)), nn.Linear(2, 2))
    model[2].weight = model[0].weight
    return model


def overridden():
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    return nn.Sequential(Doubled(2, 2), moved(nn.BatchNorm1d(2)))


class WithReLU(nn.BatchNorm1d):
    """As networks have it that join a norm and its activation in one layer."""

    def forward(self, x):
        return super().forward(x).relu()


class Standardized(nn.Conv1d):
    """Normalizes its weights whenever it runs (Qiao et al. 2019), so scaling them does nothing."""

    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, weight / weight.std((1, 2), keepdim=True), bias)


def patched(i):
    """The forward of one of two layers is replaced on the layer itself."""
    model = nn.Sequential(nn.Linear(2, 2), moved(nn.BatchNorm1d(2)))
    model[i].forward = model[i].forward.__func__.__get__(model[i])  # bound anew: nothing to refuse
    fold_batch_norm(model.eval())
    model[i].forward = lambda x: x.abs()
    return model


def watched():
    """A hook on an Identity sees what comes out of the layer."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Identity(), moved(nn.BatchNorm1d(2)))
    model[1].register_forward_hook(lambda module, args, y: y.abs())
    return model


def huge():
    model = nn.Sequential(nn.Linear(2, 2), moved(nn.BatchNorm1d(2, eps=0)))
    model[1].running_var.zero_()
    return model


REFUSED = {
    "training mode": (
        lambda: nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)),
        r"'1' is in training mode: call model.eval",
    ),
    "no statistics": (
        lambda: nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False)).eval(),
        "'1' has no running statistics",
    ),
    "no BN": (lambda: nn.Linear(2, 2), "no batch normalization to fold"),
    "hooks": (hooked, "'0' has hooks"),
    "tied": (tied, "'0' shares a parameter with another layer"),
    "overridden": (overridden, "'0' is Doubled, whose forward isn't that of torch.nn.Linear"),
    "a norm with its activation": (
        lambda: nn.Sequential(nn.Linear(2, 2), moved(WithReLU(2))),
        "'1': it is WithReLU, whose forward isn't that of a batch normalization",
    ),
    "standardized weights": (
        lambda: nn.Sequential(Standardized(2, 2, 2), moved(nn.BatchNorm1d(2))),
        "'0' is Standardized, whose _conv_forward isn't that of torch.nn.Conv1d",
    ),
    "a layer's own forward": (lambda: patched(0), "'0' is Linear, whose forward isn't that of torch.nn.Linear"),
    "a norm's own forward": (lambda: patched(1), "'1': it is BatchNorm1d, whose forward isn't"),
    "a hook in between": (watched, r"its input comes from '1' \(Identity\)"),
    "another axis": (
        lambda: nn.Sequential(nn.Linear(2, 2), moved(nn.BatchNorm2d(2))),
        "BatchNorm2d normalizes another axis than the channels of '0', a Linear",
    ),
    "another number": (
        lambda: nn.Sequential(nn.Linear(2, 3), moved(nn.BatchNorm1d(2))),
        "has 2 channels, but '0' gives 3",
    ),
    "variance 0, eps 0": (huge, "weights of '0' would be NaN or too large"),
    "group norm": (lambda: nn.Sequential(nn.Conv2d(2, 2, 1), nn.GroupNorm(1, 2)), "no batch normalization to fold"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_folded_is_named(case):
    make, message = REFUSED[case]
    model = make()
    before = Snapshot(model)
    with pytest.raises(ValueError, match=message):
        fold_batch_norm(model)
    assert before.unchanged()


@pytest.mark.parametrize(
    "make",
    [
        nn.SyncBatchNorm,
        bnlab.BatchNorm1d,
        relatives.SyncBatchNorm,
        relatives.BatchRenorm1d,
        partial(relatives.GhostBatchNorm1d, ghost_size=2),
    ],
)
def test_the_relatives_fold_as_batch_normalization_does(make):
    model, x = nn.Sequential(nn.Conv1d(2, 3, 2), moved(make(3))).double().eval(), torch.randn(4, 2, 6).double()
    folded = fold_batch_norm(model)
    assert len(folded) == 1 and relative(folded(x), model(x)) < 1e-13


def test_several_norms_fold_into_a_layer_without_bias():
    norms = [moved(nn.BatchNorm1d(c)) for c in (2, 3, 3)]
    model = nn.Sequential(norms[0], nn.Conv1d(2, 3, 2, bias=False), *norms[1:]).double().eval()
    x = torch.randn(4, 2, 6).double()
    folded = fold_batch_norm(model)
    assert len(folded) == 1 and relative(folded(x), model(x)) < 1e-13
    folded = fold_batch_norm(insert_batch_norm(model, x))  # insertion puts a third one behind the layer
    assert len(folded) == 1 and relative(folded(x), model(x)) < 1e-13


def test_a_normalized_layer_with_a_hook_keeps_it():
    model, x = nn.ModuleDict({"a": nn.Linear(3, 2)}).eval(), torch.randn(6, 3)
    normalized = insert_batch_norm(model, x, forward=lambda model, x: model["a"](x))
    normalized["a"].register_forward_hook(lambda module, args, y: 2 * y)
    folded = fold_batch_norm(normalized)
    assert type(folded["a"][1]) is nn.Identity
    assert relative(folded["a"](x), 2 * model["a"](x)) < 1e-6


# Recalibration


def test_recalibration_takes_the_exact_moments_of_each_layers_input():
    model = nn.Sequential(
        nn.BatchNorm2d(2), nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3, momentum=0.5), nn.Dropout(0.9)
    ).eval()
    with torch.no_grad():
        model[0].weight.normal_()
        model[0].running_mean += 7
    before = Snapshot(model)
    batches = [5 + 3 * torch.randn(n, 2, 4, 4) for n in (3, 8, 5)]
    assert recalibrate(model, ((x, "labels") for x in batches)) is model

    first = torch.cat(batches).double().transpose(0, 1).flatten(1)
    np.testing.assert_allclose(model[0].running_mean, first.mean(1), rtol=1e-6)
    np.testing.assert_allclose(model[0].running_var, first.var(1), rtol=1e-6)
    layers = copy.deepcopy(model[:2]).double().train()  # what the second layer sees when the first uses each batch
    second = torch.cat([layers(x.double()) for x in batches]).transpose(0, 1).flatten(1).detach()
    np.testing.assert_allclose(model[2].running_mean, second.mean(1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model[2].running_var, second.var(1), rtol=1e-5)

    assert not model[0].training and model[2].momentum == 0.5 and model[0].num_batches_tracked == 3
    after, old = before.read(), before.before
    changed = {k for k in old[0] if not torch.equal(after[0][k][1], old[0][k][1])}
    assert changed == {f"{i}.{name}" for i in (0, 2) for name in ("running_mean", "running_var", "num_batches_tracked")}
    assert after[1:] == old[1:]


def test_recalibration_of_one_batch_makes_evaluation_equal_training():
    model = small_vgg(norm=bnlab.BatchNorm2d)
    x = torch.rand(64, 1, 28, 28)
    recalibrate(model.eval(), x)
    assert relative(model(x), copy.deepcopy(model).train()(x)) < 2e-3  # unbiased against biased variance


def test_recalibration_says_what_is_wrong():
    with pytest.raises(ValueError, match="no batch normalization with running statistics"):
        recalibrate(nn.BatchNorm1d(2, track_running_stats=False), torch.randn(3, 2))
    model = nn.Sequential(nn.BatchNorm1d(2))
    before = Snapshot(model)
    with pytest.raises(ValueError, match="no batch"):
        recalibrate(model, [])
    with pytest.raises(ValueError, match="more than 1 value"):
        recalibrate(model, [torch.randn(5, 2), torch.randn(1, 2)])
    with pytest.raises(ValueError, match="reach no batch normalization"):
        recalibrate(model, torch.randn(5, 2), forward=lambda model, x: x)
    with pytest.raises(ValueError, match=r"the input of '0' .*batch 1"):
        recalibrate(model, [torch.randn(5, 2), torch.full((5, 2), torch.nan)], forward=lambda model, x: model(x))
    assert before.unchanged()
    half = nn.Sequential(nn.BatchNorm1d(2)).half()
    before = Snapshot(half)
    with pytest.raises(ValueError, match=r"input of .0. is too large for torch\.float16"):
        recalibrate(half, 1000 * torch.randn(50, 2).half())
    assert before.unchanged()


def test_recalibration_that_fails_leaves_the_statistics_of_batch_renorm_alone():
    model = nn.Sequential(relatives.BatchRenorm1d(2)).train()
    before = Snapshot(model)
    with pytest.raises(ValueError, match="batch 1 holds NaN"):
        recalibrate(model, [torch.randn(5, 2), torch.full((5, 2), torch.nan)])
    assert before.unchanged()
