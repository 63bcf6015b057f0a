"""`bnlab.models` against torchvision's published keys, shapes and parameter counts, and against arithmetic."""

import math
from itertools import chain, pairwise

import numpy as np
import pytest
import torch
from torch import nn

import bnlab
from bnlab.models import MLP, VGG, SmallConv, small_vgg

# torchvision's configurations A, B, D, E, here as channels per block (a pooling after each), and the numbers of
# parameters that its documentation gives for vgg11 ... vgg19 and vgg11_bn ... vgg19_bn.
BLOCKS = {
    11: ([64], [128], [256] * 2, [512] * 2, [512] * 2),
    13: ([64] * 2, [128] * 2, [256] * 2, [512] * 2, [512] * 2),
    16: ([64] * 2, [128] * 2, [256] * 3, [512] * 3, [512] * 3),
    19: ([64] * 2, [128] * 2, [256] * 4, [512] * 4, [512] * 4),
}
PARAMETERS = {
    (11, False): 132_863_336,
    (13, False): 133_047_848,
    (16, False): 138_357_544,
    (19, False): 143_667_240,
    (11, True): 132_868_840,
    (13, True): 133_053_736,
    (16, True): 138_365_992,
    (19, True): 143_678_248,
}
# Where torchvision's checkpoints have their convolutions: read off vgg16-397923af.pth, vgg16_bn-6c64b313.pth and so on.
CONVOLUTIONS = {
    (11, False): [0, 3, 6, 8, 11, 13, 16, 18],
    (13, False): [0, 2, 5, 7, 10, 12, 15, 17, 20, 22],
    (16, False): [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28],
    (19, False): [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34],
    (11, True): [0, 4, 8, 11, 15, 18, 22, 25],
    (13, True): [0, 3, 7, 10, 14, 17, 21, 24, 28, 31],
    (16, True): [0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40],
    (19, True): [0, 3, 7, 10, 14, 17, 20, 23, 27, 30, 33, 36, 40, 43, 46, 49],
}


def published(depth, norm):
    """Keys and shapes of torchvision's checkpoint, in its order."""
    table, channels = {}, 3
    for position, width in zip(CONVOLUTIONS[depth, norm], chain(*BLOCKS[depth]), strict=True):
        table[f"features.{position}.weight"] = (width, channels, 3, 3)
        table[f"features.{position}.bias"] = (width,)
        if norm:
            for name in ("weight", "bias", "running_mean", "running_var"):
                table[f"features.{position + 1}.{name}"] = (width,)
            table[f"features.{position + 1}.num_batches_tracked"] = ()
        channels = width
    for position, (outputs, inputs) in ((0, (4096, 25088)), (3, (4096, 4096)), (6, (1000, 4096))):
        table |= {f"classifier.{position}.weight": (outputs, inputs), f"classifier.{position}.bias": (outputs,)}
    return table


def on_meta(depth, norm, **kwargs):
    with torch.device("meta"):
        return VGG(depth, nn.BatchNorm2d if norm else None, **kwargs)


@pytest.mark.parametrize(("depth", "norm"), PARAMETERS)
def test_vgg_has_the_keys_shapes_and_parameters_of_torchvision(depth, norm):
    model = on_meta(depth, norm)
    assert [(key, tuple(value.shape)) for key, value in model.state_dict().items()] == [*published(depth, norm).items()]
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[depth, norm]
    assert all(p.is_meta for p in model.parameters())


def test_a_checkpoint_file_loads_strictly_and_is_what_the_model_computes(tmp_path):
    """A made-up VGG-11 checkpoint, with a classifier that broadcasts one value so that the file stays small."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for key, shape in published(11, True).items():
        if key.startswith("classifier"):
            state[key] = torch.full((1,), 0.01).expand(shape)
        elif key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(7)
        else:
            state[key] = 0.05 * torch.randn(shape, generator=generator) + (1.0 if "running_var" in key else 0.0)
    torch.save(state, tmp_path / "vgg11_bn.pth")
    loaded = torch.load(tmp_path / "vgg11_bn.pth", weights_only=True, mmap=True)
    model = on_meta(11, True)
    assert str(model.load_state_dict(loaded, strict=True, assign=True)) == "<All keys matched successfully>"
    model.eval()
    x = torch.rand(1, 3, 40, 33, generator=generator)
    with torch.no_grad():
        found = model.features(x)
        for block in nested(BLOCKS[11], CONVOLUTIONS[11, True]):  # the same from the file's tensors alone
            for position in block:
                conv, bn = (f"features.{position + offset}" for offset in (0, 1))
                x = nn.functional.conv2d(x, state[f"{conv}.weight"], state[f"{conv}.bias"], padding=1)
                mu, var = state[f"{bn}.running_mean"], state[f"{bn}.running_var"]
                scale = state[f"{bn}.weight"] / (var + 1e-5).sqrt()
                x = (x - mu[:, None, None]) * scale[:, None, None] + state[f"{bn}.bias"][:, None, None]
                x = nn.functional.max_pool2d(x.relu(), 2) if position == block[-1] else x.relu()
    torch.testing.assert_close(found, x, rtol=1e-4, atol=1e-6)
    assert model.avgpool(found).shape == (1, 512, 7, 7)


def nested(blocks, positions):
    positions = iter(positions)
    return [[next(positions) for _ in block] for block in blocks]


@pytest.mark.parametrize("damage", ["missing", "extra", "shape"])
def test_a_checkpoint_with_other_keys_is_refused(damage):
    model = on_meta(16, False)
    state = dict(model.state_dict())
    key = "features.28.bias"
    if damage == "missing":
        del state[key]
    elif damage == "extra":
        state["features.29.running_mean"] = state[key]
    else:
        state[key] = torch.empty(511, device="meta")
    with pytest.raises(RuntimeError, match=r"features\.2[89]\."):
        model.load_state_dict(state, strict=True)


def test_vgg_on_another_number_of_classes_and_a_depth_that_is_not_there():
    model = on_meta(19, False, num_classes=10, dropout=0.2)
    assert model(torch.empty(2, 3, 32, 48, device="meta")).shape == (2, 10)
    assert [layer.p for layer in model.modules() if isinstance(layer, nn.Dropout)] == [0.2, 0.2]
    with pytest.raises(ValueError, match="depth 12: choose from 11, 13, 16, 19"):
        VGG(12)


# --- small nets ------------------------------------------------------------------------------------------------------

NORMS = {
    "none": (None, 0),
    "torch": (nn.BatchNorm2d, 2),
    "bnlab": (bnlab.BatchNorm2d, 2),
    "group": (lambda channels: nn.GroupNorm(4, channels), 2),
}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("make", [SmallConv, small_vgg])
def test_small_nets_have_the_parameters_that_arithmetic_gives(make, norm):
    layer, per_channel = NORMS[norm]
    model = make(layer)
    widths = [16, 32] if make is SmallConv else [16, 16, 32, 32, 64, 64]
    expected = sum((9 * i + 1) * o for i, o in zip([1, *widths], widths, strict=False))
    expected += (32 * 7 * 7 + 1) * 10 if make is SmallConv else (64 * 3 * 3 + 1) * 10
    assert sum(p.numel() for p in model.parameters()) == expected + per_channel * sum(widths)
    assert model(torch.rand(2, 1, 28, 28)).shape == (2, 10)
    kinds = [type(m).__name__ for m in model.features]
    order = ["Conv2d", *([type(layer(8)).__name__] if layer else []), "ReLU"]
    assert kinds[: len(order)] == order


def test_small_vgg_says_how_large_it_is():
    assert sum(p.numel() for p in small_vgg().parameters()) == 77_562
    assert "77,562" in small_vgg.__doc__ and "448 more" in small_vgg.__doc__


def test_small_nets_of_other_sizes():
    assert small_vgg(width=4, size=16, in_channels=3, num_classes=7)(torch.rand(1, 3, 16, 16)).shape == (1, 7)
    assert SmallConv(plan=(4, "M", 8), size=9)(torch.rand(1, 1, 9, 9)).shape == (1, 10)
    with pytest.raises(ValueError, match="5x5 has nothing left after 3 poolings"):
        small_vgg(size=5)


def test_mlp_layers_and_shapes():
    model = MLP((64, 30, 20, 10), norm=nn.BatchNorm1d, activation=nn.Tanh, bias=False)
    kinds = [type(layer).__name__ for layer in model]
    assert kinds == ["Linear", "BatchNorm1d", "Tanh"] * 2 + ["Linear"]
    assert model[0].bias is None and model[3].bias is None and model[6].bias is not None
    assert [tuple(model[k].weight.shape) for k in (0, 3, 6)] == [(30, 64), (20, 30), (10, 20)]
    assert [type(layer).__name__ for layer in MLP((4, 2))] == ["Linear"]
    assert type(model[:3]) is nn.Sequential and [*model[:3]] == [model[0], model[1], model[2]]
    x = torch.rand(5, 64)
    layers = MLP((64, 30, 10))
    torch.testing.assert_close(layers(x), (x @ layers[0].weight.T).relu() @ layers[2].weight.T)  # biases are zero
    with pytest.raises(ValueError, match="sizes has 1 numbers"):
        MLP((10,))


# --- initialization --------------------------------------------------------------------------------------------------


def weights(model):
    return [p for name, p in model.named_parameters() if name.endswith("weight") and p.ndim > 1]


@pytest.mark.parametrize(
    "make",
    [
        lambda norm: small_vgg(norm and nn.BatchNorm2d),
        lambda norm: SmallConv(norm and nn.BatchNorm2d),
        lambda norm: MLP((20, 30, 30, 10), norm and nn.BatchNorm1d, bias=not norm),
    ],
    ids=["small_vgg", "SmallConv", "MLP"],
)
def test_the_same_seed_gives_the_same_weights_with_and_without_norm(make):
    torch.manual_seed(3)
    plain = make(None)
    drawn = torch.rand(1)
    torch.manual_seed(3)
    normed = make(True)
    assert torch.equal(torch.rand(1), drawn)  # and the generator is left in the same state
    assert len(weights(plain)) > 2
    for a, b in zip(weights(plain), weights(normed), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(weights(plain)[0], weights(make(None))[0])


def close_to_normal(weight, std):
    """Mean 0 and the standard deviation, within five standard errors; and tails as a normal distribution has them."""
    n, w = weight.numel(), weight.detach().double().numpy()
    assert abs(w.mean()) < 5 * std / math.sqrt(n)
    assert abs(w.std() / std - 1) < 5 / math.sqrt(2 * n)
    beyond = (np.abs(w) > 2 * std).mean()
    assert abs(beyond - 0.0455) < 5 * math.sqrt(0.0455 / n)


@pytest.mark.parametrize(
    ("activation", "std"),
    [
        (nn.ReLU, math.sqrt(2 / 300)),
        (nn.GELU, math.sqrt(2 / 300)),
        (nn.Tanh, math.sqrt(2 / 500)),
        (nn.Sigmoid, math.sqrt(2 / 500)),
    ],
)
def test_mlp_initialization(activation, std):
    torch.manual_seed(0)
    model = MLP((300, 200, 100), activation=activation)
    close_to_normal(model[0].weight, std)
    close_to_normal(model[2].weight, math.sqrt(1 / 200))
    assert not model[0].bias.any() and not model[2].bias.any()


@pytest.mark.parametrize("make", [lambda: small_vgg(width=32), lambda: VGG(11).features], ids=["small_vgg", "VGG"])
def test_convolutions_start_as_torchvisions(make):
    torch.manual_seed(0)
    convolutions = [layer for layer in make().modules() if isinstance(layer, nn.Conv2d)]
    for conv in convolutions:
        close_to_normal(conv.weight, math.sqrt(2 / (9 * conv.out_channels)))
        assert not conv.bias.any()
    assert len(convolutions) in (6, 8)


def test_a_deep_he_mlp_keeps_its_signal_where_torchs_default_loses_it():
    """What "fair baseline" means: 20 ReLU layers in, the second moment is still of order one."""
    torch.manual_seed(0)
    sizes = (200, *[200] * 20, 10)
    x = torch.randn(64, 200)
    fair = MLP(sizes)
    default = nn.Sequential(*(m for a, b in pairwise(sizes[:-1]) for m in (nn.Linear(a, b), nn.ReLU())))
    with torch.no_grad():
        assert 0.1 < fair[:-1](x).square().mean() < 10
        assert default(x).square().mean() < 1e-2


def test_hooks_keep_what_a_layer_put_out():
    model, kept = SmallConv(), []
    model.features[0].register_forward_hook(lambda module, inputs, output: kept.append(output))
    model(torch.rand(4, 1, 28, 28))
    assert (kept[0] < 0).any()  # an in-place ReLU would have overwritten it
