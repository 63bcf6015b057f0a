"""Checks of problem set 7, retrofitting a trained VGG.

They are public: reading them shows what is asked, and grading runs them with other random networks. Expected values
come from a second copy of each network, computed here in plain torch, mostly in float64. A named mistake is a wrong
value that the hint explains.
"""

import contextlib
import copy
from functools import cache, partial
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from bnlab.checks import ProblemSet, StudentObject, Wrong, agree, holds

problem_set = ProblemSet("ps7_vgg_retrofit")

# Difference allowed, relative to the largest expected value: a right computation that goes through float32 somewhere
# stays within it, every mistake looked for is farther off.
NEAR = 1e-5

TINY = 1e-8  # an eps too small to matter, for the parts that don't ask where it goes
ANSWERS = ("bnlab.retrofit", "bnlab.functional", "bnlab.modules", "bnlab.relatives")
FUSIONS = ("torch.nn.utils.fusion", "torch.fx.experimental.optimization.fuse", "torch.ao.quantization.fuse_modules")


# ------------------------------------------------------------------------------------- networks to try things on
# Every network takes images of shape (N, 2, 8, 6) and gives three logits. A seed decides its numbers, so a check can
# make the same one twice: one for the student, one to compare with.
def conv(channels_in, channels_out, **options):
    return nn.Conv2d(channels_in, channels_out, 3, padding=1, **options)


class Mean(nn.Module):
    """The mean over all positions."""

    def forward(self, x):
        return x.mean((2, 3))


class Probe(nn.Module):
    """Passes its input on, and notes how it was called."""

    def __init__(self):
        super().__init__()
        self.largest, self.with_gradients, self.modes = 0, False, []

    def forward(self, x):
        self.largest = max(self.largest, len(x))
        self.with_gradients |= torch.is_grad_enabled()
        self.modes.append(self.training)
        return x


class Block(nn.Module):
    """Two convolutions around which the input is also led straight; the ReLUs are functions."""

    def __init__(self, channels):
        super().__init__()
        self.first, self.second = conv(channels, channels), conv(channels, channels, bias=False)

    def forward(self, x):
        return F.relu(x + self.second(F.relu(self.first(x))))


class Nested(nn.Module):
    """Modules inside modules, at any depth."""

    def __init__(self):
        super().__init__()
        self.stem = conv(2, 3)
        self.body = nn.ModuleDict({"left": nn.Sequential(nn.ReLU(), Block(3)), "right": conv(3, 3)})
        self.head = nn.Sequential(Mean(), nn.Linear(3, 3))

    def forward(self, x):
        x = F.relu(self.stem(x))
        return self.head(self.body["left"](x) + F.relu(self.body["right"](x)))


class Crossed(nn.Module):
    """Runs its layers in another order than it registers them: one never, one twice."""

    def __init__(self):
        super().__init__()
        self.last, self.unused, self.middle = conv(3, 4), conv(3, 3), Block(3)
        self.first, self.conv_head = conv(2, 3), nn.Linear(4, 3)

    def forward(self, x):
        x = self.middle(self.middle(F.relu(self.first(x))))
        return self.conv_head(F.relu(self.last(x)).mean((2, 3)))


def flat(*between):
    """A VGG in small: convolutions, ReLUs, a pooling, a dense layer."""
    features = [conv(2, 3), nn.ReLU(), *between, conv(3, 3), nn.ReLU(), nn.MaxPool2d(2), conv(3, 4), nn.ReLU()]
    return nn.Sequential(*features, Mean(), nn.Linear(4, 3))


def flat_norm(*between):
    """The same with BN; one convolution has no bias."""
    first, second = [conv(2, 3), nn.BatchNorm2d(3), nn.ReLU()], [conv(3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU()]
    return nn.Sequential(*first, *between, *second, nn.MaxPool2d(2), Mean(), nn.Linear(3, 3))


def mixed_norm():
    """BN at the beginning, behind a convolution, behind a ReLU."""
    middle = [conv(2, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.BatchNorm2d(3), conv(3, 3), nn.ReLU()]
    return nn.Sequential(nn.BatchNorm2d(2), *middle, nn.BatchNorm2d(3), Mean(), nn.Linear(3, 3))


class NestedNorm(nn.Module):
    """Sequentials with BN inside other modules."""

    def __init__(self):
        super().__init__()
        pair = nn.Sequential(conv(3, 3), nn.BatchNorm2d(3))
        self.stem = nn.Sequential(conv(2, 3), nn.BatchNorm2d(3), nn.ReLU())
        self.body = nn.ModuleList([nn.Sequential(nn.ReLU(), pair), nn.Sequential(nn.Tanh())])
        self.head = nn.Linear(3, 3)

    def forward(self, x):
        x = self.stem(x)
        return self.head((x + self.body[1](self.body[0](x))).mean((2, 3)))


KINDS = {
    "flat": flat,
    "dropout": lambda: flat(nn.Dropout(0.5)),
    "watched": lambda: flat(Probe()),
    "nested": Nested,
    "crossed": Crossed,
    "flat with BN": flat_norm,
    "BN and dropout": lambda: flat_norm(nn.Dropout(0.5)),
    "BN and a probe": lambda: flat_norm(Probe()),
    "BN here and there": mixed_norm,
    "nested with BN": NestedNorm,
}


def network(kind, seed, dtype="float64", offset=0.0):
    """A network in evaluation mode whose numbers are none of 0 and 1; `offset` is added to the convolutions' biases."""
    return fill(KINDS[kind]().to(getattr(torch, dtype)).eval(), seed, offset)


@cache
def _frame(kind, dtype):
    return KINDS[kind]().to(getattr(torch, dtype)).eval()


def reference(kind, seed, dtype="float64", offset=0.0):
    """The same network to compare with: one object per kind, which is filled anew. Nothing here changes it."""
    return fill(_frame(kind, dtype), seed, offset)


def convolution(seed, settings):
    """A convolution, float64, with or without bias."""
    return fill(nn.Conv2d(**settings, dtype=torch.float64), seed).eval()


def norm(seed, channels, eps):
    """A BN layer in evaluation mode that has been trained, float64."""
    return fill(nn.BatchNorm2d(channels, eps=eps, dtype=torch.float64), seed).eval()


@torch.no_grad()
def fill(model, seed, offset=0.0):
    """Draw a network's numbers: the channels' outputs have variances well above and below 1."""
    rng = np.random.default_rng(seed)

    def normal(shape, std, away=0.0):
        drawn = std * rng.standard_normal(tuple(shape))
        return drawn + away * np.sign(drawn)

    def put(tensor, values):
        tensor.copy_(torch.from_numpy(values))

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            shape = tuple(module.weight.shape)
            scale = rng.uniform(0.5, 3, (shape[0], *[1] * (len(shape) - 1)))
            put(module.weight, scale * normal(shape, (2 / np.prod(shape[1:])) ** 0.5))
            if module.bias is not None:
                put(module.bias, normal(shape[:1], 0.7, away=0.3) + offset * isinstance(module, nn.Conv2d))
        if isinstance(module, nn.BatchNorm2d):
            shape = module.weight.shape
            put(module.weight, normal(shape, 0.5, away=0.8))
            put(module.bias, normal(shape, 0.5, away=0.5))
            put(module.running_mean, normal(shape, 1.0, away=0.5))
            put(module.running_var, rng.uniform(2, 6, tuple(shape)))
            module.num_batches_tracked.fill_(7)
    return model


def images(rng, n):
    """A batch: each image has its own brightness, each position its own level."""
    x = rng.normal(size=(n, 2, 8, 6)) + rng.normal(size=(n, 1, 1, 1)) + rng.normal(size=(8, 6))
    return torch.from_numpy(0.5 + x)


def unequal(rng):
    """Batches of different sizes, each around a level of its own."""
    sizes, levels = rng.permutation([2, 5, 9]), rng.permutation([-1, 0, 2.5])
    return [images(rng, n) + level for n, level in zip(sizes, levels, strict=True)]


def labeled(rng, count):
    """Batches with classes."""
    return [(images(rng, 6), torch.from_numpy(rng.integers(0, 3, size=6))) for _ in range(count)]


def a_seed(rng):
    return int(rng.integers(2**31))


# ---------------------------------------------------------------------------------------- looking at networks
class Look:
    """What can be seen of a network from outside. Checks have one made where the student's network lives."""

    def __init__(self, model):
        self.is_network = isinstance(model, nn.Module)
        if not self.is_network:
            return
        modules = dict(model.named_modules())
        self.names, self.types = list(modules), [type(module).__name__ for module in modules.values()]
        self.in_training = [
            name or "the network itself"
            for name, module in modules.items()
            if module.training and type(module) is not nn.Identity
        ]
        self.state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        self.settings = {
            name: [float(m.eps), -1.0 if m.momentum is None else float(m.momentum)]
            for name, m in modules.items()
            if isinstance(m, nn.BatchNorm2d)
        }
        places = {}
        for name, tensor in model.state_dict(keep_vars=True).items():
            places.setdefault(tensor.data_ptr(), []).append(name)
        self.shared = next((names for names in places.values() if len(names) > 1), [])
        self.frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
        kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
        self.hooks = sum(len(getattr(module, kind)) for module in modules.values() for kind in kinds)


class Norms:
    """The BN layers of a network in the order in which they run on x: what each gets, and its statistics.

    Meanwhile the network is in evaluation mode and each layer passes its input on, so that a slip in a gamma or a beta
    doesn't show in what the layers behind it get.
    """

    def __init__(self, model, x):
        self.inputs, self.statistics = [], []

        def note(layer, inputs, output):
            self.inputs.append(inputs[0])
            self.statistics.append((layer.running_mean.clone(), layer.running_var.clone()))
            return inputs[0]

        modes = [(module, module.training) for module in model.modules()]
        layers = [module for module, _ in modes if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        with torch.no_grad(), hooked(layers, note):
            model.eval()(x)
        for module, training in modes:
            module.training = training


@contextlib.contextmanager
def hooked(modules, hook):
    """Let a forward hook run with each of the modules."""
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def shares_parameters(model, other):
    """Whether two networks have parameters or buffers in common."""
    return Flag(not {t.data_ptr() for t in tensors_of(model)}.isdisjoint(t.data_ptr() for t in tensors_of(other)))


def tensors_of(model):
    return [*model.parameters(), *model.buffers()]


class Flag:
    def __init__(self, value):
        self.value = value


def with_old_gradients(model):
    """Leave gradients in a network's parameters, as an earlier step may have done."""
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 0.5)
    return model


def given_network(student, kind, *arguments):
    """A network on the student's side, to be passed to the student's function."""
    model = student.make("checks:network", kind, *arguments)
    model.name = f"network: {kind}"
    return model


def network_of(student, given, kind="Module"):
    """The student's answer, if it is a network."""
    look = student.make("checks:Look", given) if isinstance(given, StudentObject) else None
    if look is None or not look.get("is_network"):
        what = given.type_name if isinstance(given, StudentObject) else type(given).__name__
        raise Wrong(f"{student.name} returned a {what}, expected a torch.nn.{kind}.", "Return the network itself.")
    return look


def stays(student, before, after, what="the network"):
    """Raise `Wrong` if something about the network that was given has changed."""
    holds(
        after.get("hooks") == before.get("hooks"),
        f"{what} has {after.get('hooks')} hooks now, and had {before.get('hooks')} before.",
        "A hook that stays behind runs with every later call. Keep the handles, and call handle.remove() on each.",
    )
    holds(
        after.get("in_training") == before.get("in_training"),
        f"{what} has another mode: in training mode are now {after.get('in_training') or 'no modules'}, and were "
        f"{before.get('in_training') or 'none'}.",
        "Put back the mode in which it came: model.train(was_training).",
    )
    same_layers = after.get("names") == before.get("names") and after.get("types") == before.get("types")
    holds(
        same_layers,
        f"the layers of {what} have changed: {after.get('names')}, before {before.get('names')}.",
        "Make a copy first, copy.deepcopy(model), and change the copy.",
    )
    old, new = before.get("state"), after.get("state")
    for name, tensor in old.items():
        holds(
            torch.equal(new[name], tensor),
            f"{name} of {what} has changed.",
            "Make a copy first, copy.deepcopy(...), and change the copy.",
        )


# ------------------------------------------------------------------------------------------------- computing here
@torch.no_grad()
def outputs_of(model, batches):
    """What goes into and comes out of every convolution, in the order in which they run: lists over batches."""
    seen = {}

    def note(module, inputs, output):
        seen.setdefault(module, ([], []))
        seen[module][0].append(inputs[0])
        seen[module][1].append(output)

    with hooked([module for module in model.modules() if isinstance(module, nn.Conv2d)], note):
        for batch in batches:
            model(batch)
    return list(seen.values())


def moments(z, correction=0):
    """Mean and variance of each channel, in float64."""
    return z.double().mean((0, 2, 3)), z.double().var((0, 2, 3), correction=correction)


def moment_mistakes(inputs, outputs):
    """What a mean and a variance become through a slip, by what the hint says."""
    means, variances = (torch.stack(rows) for rows in zip(*map(moments, outputs), strict=True))
    share = torch.tensor([float(z[:, 0].numel()) for z in outputs])[:, None].double()
    share = share / share.sum()
    z, z_in, z_relu = torch.cat(outputs), torch.cat(inputs), torch.cat(outputs).relu()
    right, var = moments(z)
    within, spread = (share * variances).sum(0), (means - right) ** 2
    several = {
        "Every batch counts the same here. Weigh each by its number of values: batches differ in size.": (
            means.mean(0),
            (variances + (means - means.mean(0)) ** 2).mean(0),
        ),
        "This is the last batch alone: what was seen before must be merged with it.": (means[-1], variances[-1]),
        "This is the first batch alone: the later ones must be merged in.": (means[0], variances[0]),
        "This is the average of the batches' variances. The batches lie around different means: add the variance of "
        "the means, the term with delta**2.": (None, within),
        "This is the average of the batches' variances, each counted the same. Weigh by the number of values, and add "
        "the variance of the means, the term with delta**2.": (None, variances.mean(0)),
        "The squared distances of the means count the same for every batch: weigh them, too.": (
            None,
            within + spread.mean(0),
        ),
    }
    always = {
        "This is about the layer's *input*. A hook is given (module, inputs, output): take the output.": moments(z_in),
        "These are values behind the ReLU. BN comes before it: watch the convolution itself.": moments(z_relu),
        "These are statistics of each pixel, over the images alone. All positions share one: axes 0, 2 and 3.": (
            z.mean(0),
            z.var(0, correction=0),
        ),
        "This divides by m - 1, the unbiased variance. Asked is the biased one: correction=0.": (
            None,
            moments(z, correction=1)[1],
        ),
        "This is the standard deviation. The variance is its square.": (None, var.sqrt()),
        "This is the mean of the squares. Subtract the mean from the values before you square them.": (
            None,
            var + right**2,
        ),
    }
    rows = (several if len(outputs) > 1 else {}) | always
    return [{text: pair[k] for text, pair in rows.items() if pair[k] is not None} for k in (0, 1)]


def compare(name, given, expected, mistakes, **options):
    """As `agree`, for mistakes that take a while: `mistakes()` is called only where the answer is wrong."""
    try:
        agree(name, given, expected, **options)
    except Wrong:
        agree(name, given, expected, mistakes=mistakes(), **options)


# ----------------------------------------------------------------------------------------------- 1. conv_layers
conv_layers = problem_set.question("conv_layers(model, x) -> names", points=9, borrowed=())

MODULE_ORDER = (
    "This is the order in which the layers were registered, as named_modules() has it. Asked is the order in which "
    "they run: let forward hooks tell you."
)


def names_agree(given, expected, model):
    """Compare names, and say what a wrong list of names is."""
    wanted = "a list of names"
    holds(given is not None and not isinstance(given, str), f"names is {given!r}, expected {wanted}.")
    holds(
        isinstance(given, list | tuple) and all(isinstance(name, str) for name in given),
        f"names holds something else than names: {given!r}, expected {wanted} such as {expected}.",
        "Return the names, which are strings, not the modules: named_modules() gives both.",
    )
    given = list(given)
    if given == expected:
        return
    modules = dict(model.named_modules())
    everything = [name for name, module in modules.items() if isinstance(module, nn.Conv2d)]
    ran_not = [name for name in given if name in everything and name not in expected]
    others = [name for name in given if name not in everything]
    if len(set(given)) == 1 < len(given):
        hint = (
            "Every hook adds the same name: it looks up the loop's variable when it is called, and by then the loop is "
            "over. Bind the name early: with functools.partial, or by a function that makes the hook."
        )
    elif others:
        kinds = {name: type(modules[name]).__name__ if name in modules else "no module at all" for name in others}
        hint = f"{others[0]!r} is {kinds[others[0]]}. Ask isinstance(module, nn.Conv2d), not what a name contains."
        if kinds[others[0]] == "no module at all":
            hint = f"The network has no module {others[0]!r}. Use full names, with all the dots, as in named_modules()."
    elif len(set(given)) < len(given):
        hint = "A layer that runs twice is named once, where it runs first."
    elif ran_not:
        hint = f"{ran_not[0]!r} never runs: forward doesn't use it. {MODULE_ORDER}"
    elif set(given) < set(expected):
        missing = next(name for name in expected if name not in given)
        hint = f"{missing!r} is missing."
        if "." in missing:
            hint += " It lies inside another module: named_children() doesn't look there, named_modules() does."
    elif given == [name for name in everything if name in expected]:
        hint = MODULE_ORDER
    else:
        hint = "These are the right layers in another order. Each hook should add its name when its layer has run."
    raise Wrong(f"names = {given}\nexpected {expected}", hint)


@conv_layers.part("a flat network", weight=2)
def _(student, rng):
    seed = a_seed(rng)
    names = student(given_network(student, "flat", seed), images(rng, 2))
    names_agree(names, ["0", "2", "5"], reference("flat", seed))


@conv_layers.part("modules inside modules", weight=2)
def _(student, rng):
    seed = a_seed(rng)
    names = student(given_network(student, "nested", seed), images(rng, 2))
    expected = ["stem", "body.left.1.first", "body.left.1.second", "body.right"]
    names_agree(names, expected, reference("nested", seed))


@conv_layers.part("the order in which they run", weight=3)
def _(student, rng):
    seed = a_seed(rng)
    names = student(given_network(student, "crossed", seed), images(rng, 2))
    names_agree(names, ["first", "middle.first", "middle.second", "last"], reference("crossed", seed))


@conv_layers.part("leaves the network as it was", weight=2, counts_alone=False)
def _(student, rng):
    model = given_network(student, "flat", a_seed(rng))
    before = student.make("checks:Look", model)
    student(model, images(rng, 2))
    stays(student, before, student.make("checks:Look", model))


# --------------------------------------------------------------------------------------------- 2. merge_moments
merge_moments = problem_set.question(
    "merge_moments(mean_a, var_a, m_a, mean_b, var_b, m_b) -> mean, var, m", points=10, borrowed=()
)


def two_sets(rng, level=0.0, dtype=torch.float64):
    """Two sets of values, 3 channels, of different sizes: the values, and the arguments of merge_moments."""
    m_a, m_b = (int(m) for m in rng.choice([4, 7, 12, 20], 2, replace=False))
    std = rng.uniform(0.8, 2, size=(2, 3))
    a, b = rng.normal(size=(m_a, 3)) * std[0], rng.normal(size=(m_b, 3)) * std[1]
    b = b + rng.choice([-1.0, 1.0], 3) * rng.uniform(1.5, 3, 3)
    a, b = torch.from_numpy(level + a).to(dtype), torch.from_numpy(level + b).to(dtype)
    pieces = [f(z.double()).to(dtype) for z in (a, b) for f in (lambda z: z.mean(0), lambda z: z.var(0, correction=0))]
    return torch.cat([a, b]).double(), (pieces[0], pieces[1], m_a, pieces[2], pieces[3], m_b)


@merge_moments.part("the mean", weight=3)
def _(student, rng):
    values, arguments = two_sets(rng)
    mean_a, _, m_a, mean_b, _, m_b = arguments
    mean, _, _ = student(*arguments)
    mistakes = {
        "Both sets count the same here. Weigh each by its number of values.": (mean_a + mean_b) / 2,
        "The weights are the wrong way round: m_a goes with mean_a.": (m_b * mean_a + m_a * mean_b) / (m_a + m_b),
        "This is the weighted sum. Divide it by m.": m_a * mean_a + m_b * mean_b,
        "This is the mean of the second set alone.": mean_b,
    }
    agree("mean", mean, values.mean(0), mistakes=mistakes, tolerance=NEAR)


@merge_moments.part("the variance", weight=4)
def _(student, rng):
    values, arguments = two_sets(rng)
    _, var, _ = student(*arguments)
    agree("var", var, values.var(0, correction=0), mistakes=merge_mistakes(*arguments), tolerance=NEAR)


def merge_mistakes(mean_a, var_a, m_a, mean_b, var_b, m_b):
    m, delta = m_a + m_b, mean_b - mean_a
    within, right = (m_a * var_a + m_b * var_b) / m, (m_a * m_b / m**2) * delta**2
    return {
        "This is the average of the two variances. The sets lie around different means: add the delta term.": within,
        "This is the average of the two variances, each counted the same. Weigh by the number of values, and add the "
        "term with delta.": (var_a + var_b) / 2,
        "Both sets count the same here. Weigh each by its number of values.": (var_a + var_b) / 2 + delta**2 / 4,
        "The variances count the same for both sets here: weigh them.": (var_a + var_b) / 2 + right,
        "The term with delta counts as if both sets were of the same size: its factor is m_a * m_b / m**2.": (
            within + delta**2 / 4
        ),
        "delta isn't squared.": within + (m_a * m_b / m**2) * delta,
        "This adds delta**2 as it is: its factor is m_a * m_b / m**2.": within + delta**2,
        "The factor of delta**2 is m_a * m_b / m**2: m is squared.": within + (m_a * m_b / m) * delta**2,
        "This divides by m - 1, the unbiased variance. Asked is the biased one.": (within + right) * m / (m - 1),
        "This is the sum of the squared distances. Divide it by m.": (within + right) * m,
        "The term with delta**2 is subtracted. It must be added: together the values are spread more.": within - right,
    }


@merge_moments.part("the number of values", weight=1)
def _(student, rng):
    _, arguments = two_sets(rng)
    _, _, m = student(*arguments)
    agree("m", m, arguments[2] + arguments[5], mistakes={"m is how many values there are together: add.": arguments[5]})


@merge_moments.part("the variance of values with a large mean", weight=3)
def _(student, rng):
    for dtype, level in ((torch.float32, 1e4), (torch.float64, 1e9)):
        values, arguments = two_sets(rng, level, dtype)
        _, var, _ = student(*arguments)
        exact = values.var(0, correction=0)
        arguments = [a.double() if isinstance(a, torch.Tensor) else a for a in arguments]
        hint = (
            f"Rounding. The mean of the squares is near {level**2:.0e} here, and {str(dtype)[6:]} doesn't keep enough "
            "digits of it: subtracting the squared mean leaves nothing of a variance near 1. Use the delta formula."
        )
        agree("var", var, exact, mistakes=merge_mistakes(*arguments), tolerance=0.02, hint=hint)


merge_moments.keeps_its_inputs(lambda rng: two_sets(rng)[1])


# -------------------------------------------------------------------------------------------- 3. output_moments
output_moments = problem_set.question("output_moments(model, names, batches) -> moments", points=14, borrowed=ANSWERS)
NAMES = ["2", "5"]  # of the three convolutions 0, 2, 5; the second has as many input as output channels


def pair_of(given, name):
    """One layer's mean and variance from the dict that the student returned."""
    hint = "Return {name: (mean, var)}, with the names that were given as keys: two tensors of shape (C,) per layer."
    what = given.type_name if isinstance(given, StudentObject) else type(given).__name__
    holds(isinstance(given, dict), f"moments is a {what}, expected a dict.", hint)
    holds(name in given, f"moments has the keys {sorted(given)}, expected {name!r} among them.", hint)
    holds(isinstance(given[name], tuple | list) and len(given[name]) == 2, f"moments[{name!r}] isn't a pair.", hint)
    return given[name]


def moments_agree(given, model, names, batches, tolerance=NEAR, hint=""):
    seen = outputs_of(model, batches)
    convolutions = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    for name in names:
        pair = seen[convolutions.index(name)]
        expected = moments(torch.cat(pair[1]))
        for k, (what, value) in enumerate(zip(("mean", "var"), pair_of(given, name), strict=True)):
            slips = partial(lambda k, pair: moment_mistakes(*pair)[k], k, pair)
            compare(f"{what} of {name!r}", value, expected[k], slips, tolerance=tolerance, hint=hint)
    extra = sorted(set(given) - set(names))
    holds(not extra, f"moments also has {extra}, which nobody asked for.", "Watch the layers in `names` only.")


@output_moments.part("one batch", weight=3)
def _(student, rng):
    seed, batches = a_seed(rng), [images(rng, 5)]
    given = student(given_network(student, "flat", seed), NAMES, batches)
    moments_agree(given, reference("flat", seed), NAMES, batches)


@output_moments.part("several batches of different sizes", weight=5)
def _(student, rng):
    seed, batches = a_seed(rng), unequal(rng)
    given = student(given_network(student, "flat", seed), NAMES, batches)
    moments_agree(given, reference("flat", seed), NAMES, batches)


@output_moments.part("outputs around ten thousand, in float32", weight=2)
def _(student, rng):
    seed, batches = a_seed(rng), [images(rng, n).float() + level for n, level in ((2, -2), (9, 2))]
    arguments = "flat", seed, "float32", 1e4
    given = student(given_network(student, *arguments), ["0"], batches)
    hint = (
        "Rounding. The squares are near 1e8 here and float32 keeps 7 digits of them, which leaves nothing of a "
        "variance near 1. Merge means and variances (question 2), or sum in float64."
    )
    moments_agree(given, reference(*arguments), ["0"], batches, tolerance=0.02, hint=hint)


@output_moments.part("in evaluation mode", weight=2)
def _(student, rng):
    seed, batches = a_seed(rng), [images(rng, 3), images(rng, 4)]
    model = given_network(student, "dropout", seed)
    model.call("train")
    given = student(model, ["3"], batches)
    hint = "The network came in training mode, with dropout on. Call model.eval() before you measure."
    moments_agree(given, reference("dropout", seed), ["3"], batches, hint=hint)


@output_moments.part("one batch at a time, without gradients", weight=1, counts_alone=False)
def _(student, rng):
    model = given_network(student, "watched", a_seed(rng))
    batches = [images(rng, n) for n in (2, 4, 3)]
    student(model, ["3"], batches)
    largest = model.get("2.largest")
    holds(
        largest <= 4,
        f"the network was called with {largest} images at once; the largest batch has 4.",
        "Don't join the batches: the point is that they don't fit into memory together.",
    )
    holds(
        not model.get("2.with_gradients"),
        "the network ran with gradients on.",
        "Call it under torch.no_grad(): else every hidden value is kept for a backward pass that never comes.",
    )


@output_moments.part("leaves the network as it was", weight=2, counts_alone=False)
def _(student, rng):
    for mode in ("train", "eval"):
        model = given_network(student, "flat", a_seed(rng))
        model.call(mode)
        before = student.make("checks:Look", model)
        student(model, NAMES, [images(rng, 3)])
        stays(student, before, student.make("checks:Look", model))


# --------------------------------------------------------------------------------------------- 4. identity_norm
identity_norm = problem_set.question("identity_norm(mean, var, eps) -> bn", points=8, borrowed=ANSWERS)


def statistics(rng, dtype=torch.float64):
    c = int(rng.integers(3, 6))
    mean, var = rng.choice([-1.0, 1.0], c) * rng.uniform(1, 3, c), rng.choice([0.2, 1.0], c) * rng.uniform(0.5, 1, c)
    var[:2] = rng.uniform(3, 6), rng.uniform(0.05, 0.1)
    return torch.from_numpy(mean).to(dtype), torch.from_numpy(var).to(dtype)


def batch_norm_of(student, *arguments):
    bn = student(*arguments)
    network_of(student, bn, "BatchNorm2d")
    holds(
        "BatchNorm2d" in bn.type_name,
        f"identity_norm returned a {bn.type_name}, expected a torch.nn.BatchNorm2d.",
    )
    bn.name = "bn"
    return bn


def unchanged_by(bn, z, mean, var, eps):
    """Check that the layer, in evaluation mode, returns z."""
    bn.call("eval")
    y = bn.call("__call__", z)
    mu, v = mean.double()[:, None, None], var.double()[:, None, None]
    s = (v + eps).sqrt()
    z = z.double()
    centered = z - mu
    mistakes = {
        "gamma is the variance. The layer divides by the standard deviation, so gamma must multiply by that: take the "
        "square root.": v * centered / s + mu,
        "gamma is the variance plus eps. The layer divides by the square root of that.": s * centered + mu,
        "eps is missing in gamma. The layer divides by sqrt(var + eps), so gamma is exactly that.": (
            v.sqrt() * centered / s + mu
        ),
        "eps was added outside the root: the layer divides by sqrt(var + eps).": (v.sqrt() + eps) * centered / s + mu,
        "This is the plain normalization: gamma is still 1 and beta 0. Set bn.weight and bn.bias.": centered / s,
        "beta is still 0. The layer subtracts the mean: beta has to add it back.": centered,
        "gamma is still 1. The layer divides by sqrt(var + eps): gamma has to multiply by it.": centered / s + mu,
        "beta has the wrong sign. The layer subtracts the mean: add it back.": centered - mu,
        "gamma and beta have swapped their places: gamma is the weight, beta the bias.": mu * centered / s + s,
        "beta is the mean divided by the standard deviation. It is added after gamma has multiplied, so it needs no "
        "scaling.": centered + mu / s,
        "gamma is 1 / sqrt(var + eps): that normalizes a second time. To undo a division, multiply.": (
            centered / s**2 + mu
        ),
        "The running statistics are still 0 and 1: copy mean and var into running_mean and running_var.": (
            s * z / (1 + eps) ** 0.5 + mu
        ),
        "running_var is the standard deviation. The layer takes the root itself: give it the variance.": (
            s * centered / (v.sqrt() + eps).sqrt() + mu
        ),
        "The layer's eps is still 1e-5: give it the eps that was asked for, nn.BatchNorm2d(..., eps=eps).": (
            s * centered / (v + 1e-5).sqrt() + mu
        ),
    }
    scale = float(centered.abs().max())
    agree("bn(z)", y, z, mistakes=mistakes, tolerance=NEAR if y.dtype == torch.float64 else None, scale=scale)


def hidden(rng, mean, var):
    noise = torch.from_numpy(rng.normal(size=(4, len(mean), 3, 2)))
    return (mean.double()[:, None, None] + var.double().sqrt()[:, None, None] * noise).to(mean.dtype)


@identity_norm.part("returns its input in evaluation", weight=4)
def _(student, rng):
    mean, var = statistics(rng)
    z = hidden(rng, mean, var)
    unchanged_by(batch_norm_of(student, mean, var, TINY), z, mean, var, TINY)


@identity_norm.part("also for any eps, and where a channel hardly varies", weight=3)
def _(student, rng):
    mean, var = statistics(rng)
    eps = float(rng.uniform(0.3, 0.5))
    unchanged_by(batch_norm_of(student, mean, var, eps), hidden(rng, mean, var), mean, var, eps)
    var[0] = 0.5e-5
    z = hidden(rng, mean, var)
    bn = batch_norm_of(student, mean, var, 1e-5)
    bn.call("eval")
    y = bn.call("__call__", z)
    hint = "Its variance is half of eps. The layer divides by sqrt(var + eps), so gamma is exactly that, eps included."
    scale = float((z - mean[:, None, None])[:, 0].abs().max())
    agree("channel 0 of bn(z)", y[:, 0], z[:, 0], tolerance=1e-4, scale=scale, hint=hint)


@identity_norm.part("the running statistics are those given", weight=2)
def _(student, rng):
    mean, var = statistics(rng)
    bn = batch_norm_of(student, mean, var, 1e-5)
    mistakes = {"It is still what a new layer has. Copy the mean into it.": torch.zeros_like(mean)}
    agree("bn.running_mean", bn.get("running_mean"), mean, mistakes=mistakes, tolerance=NEAR)
    mistakes = {
        "It is still what a new layer has. Copy the variance into it.": torch.ones_like(var),
        "It is the standard deviation. The layer takes the root itself: give it the variance.": var.sqrt(),
        "It is the variance plus eps. The layer adds eps itself.": var + 1e-5,
    }
    agree("bn.running_var", bn.get("running_var"), var, mistakes=mistakes, tolerance=1e-7)


@identity_norm.part("in evaluation mode, ready to learn", weight=1, counts_alone=False)
def _(student, rng):
    mean, var = statistics(rng, torch.float32 if rng.random() < 0.5 else torch.float64)
    bn = batch_norm_of(student, mean, var, 1e-5)
    holds(not bn.get("training"), "bn is in training mode.", "A new layer begins in training mode: return bn.eval().")
    look = student.make("checks:Look", bn)
    for what in ("weight", "bias"):
        holds(
            what not in look.get("frozen") and f"{what}" in look.get("state"),
            f"bn.{what} can't learn: it requires no gradient.",
            "Copy into the parameter that is there, under torch.no_grad(), or make a new nn.Parameter.",
        )
        dtype = bn.get(what).dtype
        holds(
            dtype == mean.dtype,
            f"bn.{what} is {dtype}, expected {mean.dtype}, as mean.",
            "Make the layer with dtype=mean.dtype.",
        )
    shared = look.get("shared")
    holds(
        not shared,
        f"bn's {' and '.join(shared)} are one and the same tensor: when one of them changes, all do.",
        "Copy the numbers into the tensors that are there: bn.bias.copy_(mean).",
    )


identity_norm.keeps_its_inputs(lambda rng: (*statistics(rng), 1e-5))


# ----------------------------------------------------------------------------------------- 5. insert_batch_norm
insert_batch_norm = problem_set.question("insert_batch_norm(model, batches, eps) -> new", points=16, borrowed=ANSWERS)


def inserted(model, batches, gamma, beta, eps):
    """Outputs of a copy with BN behind its convolutions, for a gamma and a beta that may be mistaken.

    gamma and beta are functions of (mean, var, eps). Statistics come from the network as it was, in evaluation mode.
    """
    new, seen = copy.deepcopy(model), outputs_of(model, batches)
    for layer, (_, outputs) in zip(in_running_order(new, batches[0]), seen, strict=True):
        mean, var = moments(torch.cat(outputs))
        g, b = gamma(mean, var, eps), beta(mean, var, eps)

        def hook(module, inputs, z, mean=mean, var=var, g=g, b=b):
            mean, var, g, b = (v[:, None, None] for v in (mean, var, g, b))
            return g * (z - mean) / (var + eps).sqrt() + b

        layer.register_forward_hook(hook)
    return new


def in_running_order(model, x):
    order = []
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad(), hooked(layers, lambda m, i, o: order.append(m)):
        model(x)
    return order


CHOICES = {  # gamma and beta through a slip
    "gamma is the variance. BN divides by the standard deviation, so gamma must multiply by that: take the root.": (
        lambda mean, var, eps: var,
        lambda mean, var, eps: mean,
    ),
    "eps is missing in gamma. The layer divides by sqrt(var + eps), so gamma is exactly that.": (
        lambda mean, var, eps: var.sqrt(),
        lambda mean, var, eps: mean,
    ),
    "gamma is still 1 and beta 0: this is the plain normalization, and the layers behind it were trained on the old "
    "values. Set bn.weight and bn.bias.": (
        lambda mean, var, eps: torch.ones_like(var),
        lambda mean, var, eps: torch.zeros_like(mean),
    ),
    "beta is still 0. The layer subtracts the mean: beta has to add it back.": (
        lambda mean, var, eps: (var + eps).sqrt(),
        lambda mean, var, eps: torch.zeros_like(mean),
    ),
    "beta has the wrong sign. The layer subtracts the mean: add it back.": (
        lambda mean, var, eps: (var + eps).sqrt(),
        lambda mean, var, eps: -mean,
    ),
}
NOT_TWICE = (
    "If you call your own functions here, make their checks pass first. Else: are gamma and beta made from the very "
    "numbers that are the running statistics, and with the same eps?"
)


def inserted_network(student, model, batches, eps):
    new = student(model, batches, eps)
    network_of(student, new)
    new.name = "new"
    return new


def outputs_agree(student, kind, rng, eps):
    seed, batches = a_seed(rng), unequal(rng)
    new = inserted_network(student, given_network(student, kind, seed), batches, eps)
    new.call("eval")
    x, model = images(rng, 6), reference(kind, seed)
    norms = student.make("checks:Norms", new, x)
    count = len(outputs_of(model, [x]))
    found = len(norms.get("inputs"))
    holds(
        found > 0,
        "the new network has no BN layer that runs.",
        "Put nn.Sequential(conv, bn) into the convolution's place in its parent: setattr(parent, name, pair).",
    )

    def mistakes():
        return {text: inserted(model, batches, *choice, eps)(x).detach() for text, choice in CHOICES.items()}

    compare("new(x)", new.call("__call__", x), model(x).detach(), mistakes, tolerance=NEAR, hint=NOT_TWICE)
    return found, count


@insert_batch_norm.part("the outputs stay the same", weight=4)
def _(student, rng):
    outputs_agree(student, "flat", rng, float(rng.uniform(0.05, 0.1)))


@insert_batch_norm.part("a BN layer behind every convolution, before the ReLU", weight=4)
def _(student, rng):
    seed, batches, x = a_seed(rng), unequal(rng), images(rng, 4)
    new = inserted_network(student, given_network(student, "flat", seed), batches, 1e-5)
    new.call("eval")
    given = student.make("checks:Norms", new, x).get("inputs")
    pairs = outputs_of(reference("flat", seed), [x])
    if len(given) == len(pairs) and all(same(z, b[0]) for z, (_, b) in zip(given, pairs, strict=True)):
        return
    hint = "Put nn.Sequential(conv, bn) into the convolution's place, and do it for every convolution of the network."
    if given and all(any(same(z, b[0].relu()) for _, b in pairs) for z in given):
        hint = "They stand behind the ReLU. BN belongs between the convolution and the ReLU."
    elif given and all(any(same(z, a[0]) for a, _ in pairs) for z in given):
        hint = "They stand in front of the convolutions. BN normalizes what a convolution puts out."
    elif len(given) > len(pairs) and any(same(a, b) for a, b in pairwise(given)):
        hint = (
            "Some convolutions have two of them. Collect the names before you change anything: a loop over "
            "named_modules() of the growing network finds the convolutions inside the new pairs again."
        )
    raise Wrong(
        f"new has {len(given)} BN layers that run; expected are {len(pairs)}, each of which gets the outputs of one "
        "convolution.",
        hint,
    )


def same(a, b):
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=0, atol=NEAR * float(b.abs().max()))


@insert_batch_norm.part("the running statistics of the calibration data", weight=3)
def _(student, rng):
    seed, batches = a_seed(rng), unequal(rng)
    new = inserted_network(student, given_network(student, "flat", seed), batches, 1e-5)
    new.call("eval")
    found = student.make("checks:Norms", new, batches[0]).get("statistics")
    seen = outputs_of(reference("flat", seed), batches)
    holds(len(found) == len(seen), f"new has {len(found)} BN layers that run, expected {len(seen)}.")
    fresh = "It is still what a new layer has: copy the statistics into the running buffers."
    for number, ((mean, var), pair) in enumerate(zip(found, seen, strict=True), start=1):
        z = torch.cat(pair[1])
        expected, unbiased = moments(z), moments(z, correction=1)[1]
        if torch.allclose(var.double(), unbiased, rtol=1e-6):
            expected = expected[0], unbiased
        for k, (what, value) in enumerate((("running_mean", mean), ("running_var", var))):
            slips = partial(lambda k, pair, old: {fresh: old} | moment_mistakes(*pair)[k], k, pair, value * 0 + k)
            compare(f"{what} of BN layer {number}", value, expected[k], slips, tolerance=NEAR)


@insert_batch_norm.part("modules inside modules", weight=3)
def _(student, rng):
    found, count = outputs_agree(student, "nested", rng, 1e-3)
    holds(
        found == count,
        f"new has {found} BN layers that run, expected {count}: some convolutions lie inside other modules.",
        "named_modules() finds them at any depth. Their place is an attribute of their parent, the module whose name "
        "is all but the last piece of theirs.",
    )


@insert_batch_norm.part("leaves the old network as it was", weight=1, counts_alone=False)
def _(student, rng):
    model = given_network(student, "flat", a_seed(rng))
    before = student.make("checks:Look", model)
    new = inserted_network(student, model, [images(rng, 4)], 1e-5)
    stays(student, before, student.make("checks:Look", model), "the old network")
    holds(
        not student.make("checks:shares_parameters", new, model).get("value"),
        "the new network shares parameters with the old one: training the one would change the other.",
        "Begin with new = copy.deepcopy(model), and take the convolutions from the copy.",
    )
    holds(
        student.make("checks:Look", new).get("hooks") == 0,
        "the new network has hooks.",
        "A hook that stays behind runs with every later call. Keep the handles, and call handle.remove() on each.",
    )


@insert_batch_norm.part("the new network is in evaluation mode", weight=1, counts_alone=False)
def _(student, rng):
    model = given_network(student, "flat", a_seed(rng))
    new = inserted_network(student, model, [images(rng, 4)], 1e-5)
    training = student.make("checks:Look", new).get("in_training")
    holds(not training, f"in training mode are {training}.", "A new layer begins in training mode: return new.eval().")


problem_set.written("why_not_variance", points=4)


# ------------------------------------------------------------------------------------------------- 7. fold_pair
fold_pair = problem_set.question("fold_pair(conv, bn) -> folded", points=12, borrowed=(*ANSWERS, *FUSIONS))
PLAIN = {"in_channels": 4, "out_channels": 4, "kernel_size": (3, 2)}
SPECIAL = [
    {"in_channels": 4, "out_channels": 6, "kernel_size": 3, "groups": 2, "padding": 1},
    {"in_channels": 4, "out_channels": 4, "kernel_size": 2, "stride": (2, 1), "dilation": (1, 2)},
    {"in_channels": 4, "out_channels": 4, "kernel_size": 3, "groups": 4, "padding": (0, 2), "bias": False},
    {"in_channels": 4, "out_channels": 3, "kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
]


def folding(student, rng, settings, eps=TINY):
    """The student's folded convolution, and a convolution and a BN layer like those that it was made from."""
    seeds = a_seed(rng), a_seed(rng)
    channels = settings["out_channels"]
    given = student.make("checks:convolution", seeds[0], settings), student.make("checks:norm", seeds[1], channels, eps)
    try:
        folded = student(*given)
    except Wrong as wrong:
        if settings.get("bias") is False and wrong.answered:
            wrong.hint = "Here conv.bias is None, which stands for zeros: ask whether it is before you use it."
        raise
    network_of(student, folded, "Conv2d")
    holds(
        "Conv2d" in folded.type_name,
        f"fold_pair returned a {folded.type_name}, expected a torch.nn.Conv2d.",
        "One convolution does the work of both: there is no BN layer any more.",
    )
    folded.name = "folded"
    return folded, convolution(seeds[0], settings), norm(seeds[1], channels, eps)


def scale_mistakes(bn):
    """What s becomes through a slip."""
    gamma, var, eps = (t.detach() if isinstance(t, torch.Tensor) else t for t in (bn.weight, bn.running_var, bn.eps))
    return {
        "s divides by the variance. BN divides by its square root.": gamma / (var + eps),
        "gamma is missing in s: s = gamma / sqrt(running_var + eps).": 1 / (var + eps).sqrt(),
        "s multiplies by the standard deviation. BN divides by it.": gamma * (var + eps).sqrt(),
        "eps is missing in s: it belongs under the root.": gamma / var.sqrt(),
        "eps was added outside the root: s = gamma / sqrt(running_var + eps).": gamma / (var.sqrt() + eps),
        "s is gamma alone: divide by sqrt(running_var + eps).": gamma,
    }


def weights_agree(folded, conv, bn):
    s = (bn.weight / (bn.running_var + bn.eps).sqrt()).detach()
    w = conv.weight.detach()

    def mistakes():
        wrong = {"The weights are the old ones: multiply them by s.": w}
        wrong |= {text: w * slip[:, None, None, None] for text, slip in scale_mistakes(bn).items()}
        if w.shape[0] == w.shape[1]:
            wrong["s went along the input channels, axis 1. It belongs to the output channels, axis 0."] = (
                w * s[None, :, None, None]
            )
        return wrong

    compare("folded.weight", folded.get("weight"), w * s[:, None, None, None], mistakes, tolerance=NEAR)


def bias_agrees(folded, conv, bn, note=""):
    mean, beta = bn.running_mean, bn.bias.detach()
    s = (bn.weight / (bn.running_var + bn.eps).sqrt()).detach()
    b = torch.zeros_like(s) if conv.bias is None else conv.bias.detach()

    def mistakes():
        slips = {
            "The bias is the old one: it becomes s * b + t.": b,
            "s * b is missing: the convolution's own bias goes through BN, too.": beta - s * mean,
            "The convolution's bias is added as it is. It goes through BN: multiply it by s.": b + beta - s * mean,
            "The mean is missing: t = beta - s * running_mean.": s * b + beta,
            "beta is missing: t = beta - s * running_mean.": s * (b - mean),
            "t adds s * running_mean. BN subtracts the mean.": s * (b + mean) + beta,
            "The mean is subtracted as it is. It is divided by the standard deviation, too: "
            "t = beta - s * running_mean.": s * b + beta - mean,
            "beta is multiplied by s. It is added after everything else.": s * (b - mean + beta),
        }
        return slips | {text: wrong * (b - mean) + beta for text, wrong in scale_mistakes(bn).items()}

    given = folded.get("bias")
    holds(
        given is not None,
        "folded.bias is None.",
        "Where would t go? A convolution without bias gets one: folded.bias = nn.Parameter(t).",
    )
    compare("folded.bias", given, s * (b - mean) + beta, mistakes, tolerance=NEAR, hint=note)


@fold_pair.part("the weights", weight=3)
def _(student, rng):
    weights_agree(*folding(student, rng, PLAIN))


@fold_pair.part("the biases", weight=3)
def _(student, rng):
    bias_agrees(*folding(student, rng, PLAIN))


@fold_pair.part("a convolution without bias", weight=2)
def _(student, rng):
    folded, conv, bn = folding(student, rng, PLAIN | {"bias": False})
    bias_agrees(folded, conv, bn, "No bias means b = 0: the folded convolution's bias is t.")


@fold_pair.part("groups, stride, padding and dilation stay", weight=2)
def _(student, rng):
    for settings in SPECIAL:
        folded, conv, bn = folding(student, rng, settings)
        x = torch.from_numpy(rng.normal(size=(2, 4, 7, 6)))
        kept = ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
        lost = [name for name in kept if folded.get(name) != getattr(conv, name)]
        holds(
            not lost,
            f"{' and '.join(lost)} of the folded convolution differ from those of {conv}.",
            "Keep its settings: begin with copy.deepcopy(conv).",
        )
        with torch.no_grad():
            z = conv(x)
        s = (bn.weight / (bn.running_var + bn.eps).sqrt()).detach()
        w = conv.weight.detach()
        given = tuple(folded.get("weight").shape)
        holds(given == tuple(w.shape), f"folded.weight has shape {given}, expected {tuple(w.shape)}, as before.")
        y = folded.call("__call__", x)
        hint = f"The convolution was {conv}."
        t = (bn.bias - s * bn.running_mean).detach()
        expected = s[:, None, None] * z + t[:, None, None]
        if y.shape == expected.shape:
            # a slip in t alone has its own parts: compare without the channels' means
            y, expected = (v - v.mean((0, 2, 3), keepdim=True) for v in (y, expected))
        slips = partial(spread_mistakes, z, bn)
        compare("folded(x), less its mean", y, expected, slips, tolerance=NEAR, hint=hint)


def spread_mistakes(z, bn):
    centered = z - z.mean((0, 2, 3), keepdim=True)
    return {text: wrong[:, None, None] * centered for text, wrong in scale_mistakes(bn).items()}


@fold_pair.part("eps inside the square root", weight=1)
def _(student, rng):
    folded, conv, bn = folding(student, rng, PLAIN, eps=float(rng.uniform(0.3, 0.5)))
    weights_agree(folded, conv, bn)
    bias_agrees(folded, conv, bn)


@fold_pair.part("leaves the two layers as they were", weight=1, counts_alone=False)
def _(student, rng):
    layers = (
        student.make("checks:convolution", a_seed(rng), PLAIN),
        student.make("checks:norm", a_seed(rng), PLAIN["out_channels"], 1e-5),
    )
    before = [student.make("checks:Look", layer) for layer in layers]
    folded = student(*layers)
    network_of(student, folded, "Conv2d")
    for layer, old, what in zip(layers, before, ("the convolution", "the BN layer"), strict=True):
        stays(student, old, student.make("checks:Look", layer), what)
        holds(
            not student.make("checks:shares_parameters", folded, layer).get("value"),
            f"folded shares parameters with {what}.",
            "Make new ones: nn.Parameter of a product is new, nn.Parameter(conv.weight) is not.",
        )


# ------------------------------------------------------------------------------------------- 8. fold_batch_norm
fold_batch_norm = problem_set.question("fold_batch_norm(model) -> folded", points=8, borrowed=(*ANSWERS, *FUSIONS))


def folded_network(student, kind, seed):
    """The student's folded network, and a look at it."""
    folded = student(given_network(student, kind, seed))
    look = network_of(student, folded)
    folded.name = "folded"
    folded.call("eval")
    return folded, dict(zip(look.get("names"), look.get("types"), strict=True))


def folded_outputs_agree(folded, model, x, hint):
    with torch.no_grad():
        agree("folded(x)", folded.call("__call__", x), model(x), tolerance=NEAR, hint=hint)


OWN_FOLD = "If you call your fold_pair here, make its checks pass first. Else compare your formulas with question 7's."


@fold_batch_norm.part("the outputs stay the same", weight=3)
def _(student, rng):
    seed = a_seed(rng)
    folded, layers = folded_network(student, "flat with BN", seed)
    folded_outputs_agree(folded, reference("flat with BN", seed), images(rng, 3), OWN_FOLD)
    holds("BatchNorm2d" not in layers.values() or layers.get("1") != "BatchNorm2d", "no BN layer is folded.")


@fold_batch_norm.part("an Identity in the place of each", weight=2)
def _(student, rng):
    seed = a_seed(rng)
    _, layers = folded_network(student, "flat with BN", seed)
    old = {name: type(module).__name__ for name, module in reference("flat with BN", seed).named_modules()}
    left = [name for name, kind in layers.items() if kind == "BatchNorm2d"]
    holds(not left, f"folded still has the BN layers {left}.", "Look at every pair of neighbors in the Sequential.")
    expected = {name: "Identity" if kind == "BatchNorm2d" else kind for name, kind in old.items()}
    holds(
        layers == expected,
        f"folded has the layers {list(layers.values())[1:]}\nexpected {list(expected.values())[1:]}.",
        "Only BN layers change: sequence[i] = nn.Identity(). Then all names stay the same.",
    )


@fold_batch_norm.part("BN layers elsewhere stay", weight=2)
def _(student, rng):
    seed = a_seed(rng)
    folded, layers = folded_network(student, "BN here and there", seed)
    for name, where in (("0", "at the beginning"), ("4", "behind a ReLU"), ("7", "behind a ReLU")):
        holds(
            layers.get(name) == "BatchNorm2d",
            f"the BN layer {name}, {where}, is gone.",
            "Fold only where the layer directly before it is an nn.Conv2d.",
        )
    hint = f"Here BN stands at the beginning, behind a convolution, and behind ReLUs. {OWN_FOLD}"
    folded_outputs_agree(folded, reference("BN here and there", seed), images(rng, 3), hint)
    holds(layers.get("2") == "Identity", "the BN layer 2, directly behind a convolution, is still there.")


@fold_batch_norm.part("Sequentials inside other modules", weight=2)
def _(student, rng):
    seed = a_seed(rng)
    folded, layers = folded_network(student, "nested with BN", seed)
    left = [name for name, kind in layers.items() if kind == "BatchNorm2d"]
    holds(
        not left,
        f"folded still has the BN layers {left}.",
        "Go through model.modules(): it finds the Sequentials at any depth.",
    )
    folded_outputs_agree(folded, reference("nested with BN", seed), images(rng, 3), OWN_FOLD)


@fold_batch_norm.part("leaves the old network as it was", weight=1, counts_alone=False)
def _(student, rng):
    model = given_network(student, "flat with BN", a_seed(rng))
    before = student.make("checks:Look", model)
    folded = student(model)
    network_of(student, folded)
    stays(student, before, student.make("checks:Look", model), "the old network")
    holds(
        not student.make("checks:shares_parameters", folded, model).get("value"),
        "the folded network shares parameters with the old one.",
        "Begin with copy.deepcopy(model).",
    )
    training = student.make("checks:Look", folded).get("in_training")
    holds(not training, f"in training mode are {training}.", "The copy is in evaluation mode, as the network was.")


# ----------------------------------------------------------------------------------------------- 9. recalibrate
recalibrate = problem_set.question(
    "recalibrate(model, batches) -> model", points=8, borrowed=(*ANSWERS, "torch.optim.swa_utils.update_bn")
)


def batch_statistics(model, batches, live=True):
    """Mean and unbiased variance of the input of every BN layer, batch by batch: two lists of tensors (batches, C)."""
    run, seen = copy.deepcopy(model).eval(), {}

    def note(layer, inputs):
        mean, var = moments(inputs[0], correction=1)
        seen.setdefault(layer, []).append((mean, var, inputs[0][:, 0].numel(), moments(inputs[0])[1]))

    for module in run.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train(live)
            module.register_forward_pre_hook(note)
    with torch.no_grad():
        for batch in batches:
            run(batch)
    return list(seen.values())


def recalibrated(student, kind, rng):
    """What the student made of a network: its layers' statistics; the network as it was; the batches."""
    seed, batches = a_seed(rng), [images(rng, 5) + shift for shift in (0, 0.5, -0.5)]
    model = given_network(student, kind, seed)
    network_of(student, student(model, batches))
    found = student.make("checks:Norms", model, batches[0]).get("statistics")
    return found, reference(kind, seed), batches


def statistics_agree(found, model, batches, number, hint=""):
    rows = batch_statistics(model, batches)[number]
    for k, name in enumerate(("running_mean", "running_var")):
        expected = torch.stack([row[k] for row in rows]).mean(0)
        slips = partial(recalibration_mistakes, model, batches, number, k)
        what = f"{name} of BN layer {number + 1}"
        compare(what, found[number][k], expected, slips, tolerance=NEAR, hint=hint)


def recalibration_mistakes(model, batches, number, k):
    rows, calm = (batch_statistics(model, batches, live)[number] for live in (True, False))
    values, means, biased = (torch.stack([row[i] for row in rows]) for i in (k, 0, 3))
    layer = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)][number]
    old, tracked = (layer.running_mean, layer.running_var)[k], int(layer.num_batches_tracked)
    blend, fading = old, torch.full_like(old, float(k))
    for value in values:
        blend, fading = 0.9 * blend + 0.1 * value, 0.9 * fading + 0.1 * value
    mistakes = {
        "It has not changed: the layer was in evaluation mode, or a copy was changed instead of the network.": old,
        "The old statistics are still in it: with momentum 0.1, 73% of them after these 3 batches. Forget them: "
        "reset_running_stats(), momentum = None.": blend,
        "It is what a new layer has: after the reset nothing was measured. Is the layer in training mode?": (
            torch.full_like(old, float(k))
        ),
        "The statistics were reset, but the momentum is still 0.1, so most of it is the 0 or 1 of a new layer. "
        "Set momentum = None.": fading,
        "The old statistics are still in it: momentum is None, but the layer counts the batches that it has seen "
        "before. Call reset_running_stats() first.": (tracked * old + values.sum(0)) / (tracked + len(values)),
        "This is the last batch alone. Average over all of them.": values[-1],
        "This is the first batch alone. Average over all of them.": values[0],
        "This is the sum over the batches. Divide it by how many there are.": values.sum(0),
        "The layers before it still normalized with their old running statistics. In this pass every BN layer "
        "normalizes with the batch: training mode.": torch.stack([row[k] for row in calm]).mean(0),
    }
    if k == 1:
        mistakes |= {
            "These are averages of the biased variances. Asked are the unbiased ones, m - 1.": biased.mean(0),
            "The variance of the batches' means went in, too. Asked is the plain average of the unbiased variances.": (
                biased.mean(0) + means.var(0, correction=0)
            ),
        }
    return mistakes


@recalibrate.part("the running statistics of the first BN layer", weight=3)
def _(student, rng):
    found, model, batches = recalibrated(student, "flat with BN", rng)
    statistics_agree(found, model, batches, 0)


@recalibrate.part("of the layer behind it", weight=2)
def _(student, rng):
    found, model, batches = recalibrated(student, "flat with BN", rng)
    statistics_agree(found, model, batches, 1)


@recalibrate.part("with dropout off", weight=1)
def _(student, rng):
    found, model, batches = recalibrated(student, "BN and dropout", rng)
    hint = (
        "Dropout stands before this layer. Put everything into evaluation mode first, then the BN layers into training."
    )
    statistics_agree(found, model, batches, 1, hint)


@recalibrate.part("nothing else changes", weight=2, counts_alone=False)
def _(student, rng):
    model = given_network(student, "BN and dropout", a_seed(rng))
    before = student.make("checks:Look", model)
    network_of(student, student(model, [images(rng, 4), images(rng, 4)]))
    after = student.make("checks:Look", model)
    training = after.get("in_training")
    holds(not training, f"in training mode are now {training}.", "Put everything back into evaluation mode at the end.")
    holds(
        after.get("settings") == before.get("settings"),
        f"eps and momentum (-1 for None) of the BN layers are now {list(after.get('settings').values())}, and were "
        f"{list(before.get('settings').values())}.",
        "Remember each layer's momentum, and put it back.",
    )
    holds(after.get("hooks") == before.get("hooks"), "there are hooks left.", "Call handle.remove() on each.")
    holds(after.get("types") == before.get("types"), "the layers have changed.", "Keep the BN layers that are there.")
    old, new = before.get("state"), after.get("state")
    for name, tensor in old.items():
        holds(
            name.endswith(("running_mean", "running_var", "num_batches_tracked")) or torch.equal(new[name], tensor),
            f"{name} has changed.",
            "Only running statistics change: weights, gamma and beta stay. (reset_parameters() resets gamma and beta, "
            "too; reset_running_stats() doesn't.)",
        )


# ------------------------------------------------------------------------------------------------ 10. fine_tune
fine_tune = problem_set.question(
    "fine_tune(model, batches, rate, frozen) -> losses", points=7, borrowed=ANSWERS, seconds=60
)
RATE = 0.05


def descend(model, batches, frozen, mode=True, zero="always", reduction="mean", update=True, after=False):
    """Train a copy further: losses, and the copy's state. The options are mistakes."""
    model = with_old_gradients(copy.deepcopy(model)).train(mode)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and frozen:
            module.eval()
    losses = []
    if zero == "once":
        model.zero_grad()
    for x, y in batches:
        if zero == "always":
            model.zero_grad()
        loss = F.cross_entropy(model(x), y, reduction=reduction)
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= RATE * parameter.grad * update
            losses.append(float(F.cross_entropy(model(x), y)) if after else float(loss))
    return losses, {name: tensor.detach() for name, tensor in model.state_dict().items()}


def tuned(student, rng, kind, frozen, count=2):
    """The student's losses and a look at the network afterwards; the network as it was; the batches."""
    seed, batches = a_seed(rng), labeled(rng, count)
    model = student.make("checks:with_old_gradients", given_network(student, kind, seed))
    model.name = f"network: {kind}"
    losses = student(model, batches, RATE, frozen)
    if not isinstance(losses, torch.Tensor) and hasattr(losses, "__len__"):
        losses = [float(loss) if isinstance(loss, torch.Tensor) and loss.numel() == 1 else loss for loss in losses]
    elif isinstance(losses, torch.Tensor):
        losses = losses.numpy()
    return losses, model, reference(kind, seed), batches


def losses_agree(losses, model, batches, frozen):
    def mistakes():
        def of(frozen=frozen, **options):
            return descend(model, batches, frozen, **options)[0]

        calm = "These are losses in evaluation mode, with the running statistics. Call model.train() first."
        live = (
            "The BN layers normalize with the batch here. frozen=True means: with the running statistics. And "
            "model.train() puts all layers back into training mode, so eval() for the BN layers comes after it."
        )
        begins_live = frozen and len(losses) and abs(losses[0] - of(frozen=False)[0]) < NEAR
        return {
            live if frozen else calm: losses if begins_live else of(mode=False) if not frozen else of(frozen=False),
            "The network doesn't learn: every loss is that of the network as it came. Take a step for each batch.": (
                of(update=False)
            ),
            "Gradients add up: those of earlier batches, and those that the network came with, are still in the later "
            "steps. Call zero_grad() before every backward().": of(zero="never"),
            "Gradients add up from step to step. Call zero_grad() before every backward(), not only once.": (
                of(zero="once")
            ),
            "These are sums over the batch. Asked is the mean cross-entropy.": of(reduction="sum"),
            "This is the loss after the step. Note it before.": of(after=True),
        }

    hint = f"Expected is one loss for each of the {len(batches)} batches, before its step."
    compare("losses", losses, descend(model, batches, frozen)[0], mistakes, tolerance=NEAR, hint=hint)


def states_agree(look, model, batches, frozen, names):
    given, expected = look.get("state"), descend(model, batches, frozen)[1]

    def mistakes(name):
        def of(frozen=frozen, **options):
            return descend(model, batches, frozen, **options)[1][name]

        if "running" in name:
            live = {"It followed the batches. frozen=True means that it stays.": of(frozen=False)} if frozen else {}
            return live or {"It has not changed.": model.state_dict()[name]}
        return {
            "It has not changed. Every parameter learns: weights, biases, gamma and beta.": model.state_dict()[name],
            "Gradients of earlier batches, or those that the network came with, went into the steps. Call zero_grad() "
            "before every backward().": of(zero="never"),
            "Gradients add up from step to step. Call zero_grad() before every backward(), not only once.": (
                of(zero="once")
            ),
            "These are steps along the gradient of the summed loss. Take the mean over the batch.": of(reduction="sum"),
            "These are steps uphill: subtract rate times gradient.": of(update=-1),
            "These steps used the running statistics. Call model.train() first.": of(mode=False),
        }

    for name in names:
        what = f"{name} after {len(batches)} step{'s' * (len(batches) > 1)}"
        compare(what, given[name], expected[name], partial(mistakes, name), tolerance=NEAR)


PARAMETERS = ["0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "8.weight", "8.bias"]


@fine_tune.part("the losses, with live statistics", weight=2)
def _(student, rng):
    losses, _, model, batches = tuned(student, rng, "flat with BN", False, count=3)
    losses_agree(losses, model, batches, False)


@fine_tune.part("the steps of all parameters", weight=2)
def _(student, rng):
    for count in (1, 2):
        _, given, model, batches = tuned(student, rng, "flat with BN", False, count)
        look = student.make("checks:Look", given)
        states_agree(look, model, batches, False, PARAMETERS)


@fine_tune.part("live statistics follow the batches", weight=1)
def _(student, rng):
    _, given, model, batches = tuned(student, rng, "flat with BN", False, count=1)
    look = student.make("checks:Look", given)
    states_agree(look, model, batches, False, ["1.running_mean", "1.running_var"])


@fine_tune.part("frozen statistics", weight=2)
def _(student, rng):
    losses, given, model, batches = tuned(student, rng, "BN and a probe", True)
    losses_agree(losses, model, batches, True)
    look = student.make("checks:Look", given)
    names = ["1.running_mean", "1.running_var", "1.weight", "1.bias", "0.weight"]
    states_agree(look, model, batches, True, names)
    holds(
        all(given.get("3.modes")),
        "with frozen=True all layers were in evaluation mode.",
        "Only the BN layers go into evaluation mode: everything else, such as dropout, trains.",
    )


@fine_tune.part("ends in evaluation mode", weight=1, counts_alone=False)
def _(student, rng):
    for frozen in (False, True):
        _, given, _, _ = tuned(student, rng, "flat with BN", frozen, count=1)
        look = student.make("checks:Look", given)
        training = look.get("in_training")
        holds(not training, f"in training mode are still {training}.", "Call model.eval() at the end.")
        holds(
            not look.get("frozen"),
            f"{look.get('frozen')} require no gradient any more.",
            "Freezing the statistics is a matter of modes. All parameters learn, gamma and beta among them.",
        )


problem_set.written("first_step", points=4)

check = problem_set.check
