"""Checks of problem set 5, covariate shift outside and inside.

They are public: reading them shows what is asked, and grading runs them with other random numbers. Expected values are
formulas in float64, properties that must hold, or come from `bnlab.retrofit.recalibrate`.
A named mistake is a wrong value that the hint explains. Networks are tiny, in float64, and made from a seed, so the
same one can be made here and where the student's code lives.
"""

from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from bnlab.checks import ProblemSet, Wrong, agree, holds
from bnlab.retrofit import recalibrate

problem_set = ProblemSet("ps5_covariate_shift")

# Difference allowed, relative to the largest expected value: a right computation in float32 stays well within it,
# every mistake looked for is farther off.
NEAR = 2e-4


# ------------------------------------------------------------------------------------- networks, the same on both sides
class Net(nn.Sequential):
    """A sequence of modules that can say what is not in its state_dict."""

    def modes(self):
        """Which modules are in training mode, by name."""
        return {name or "the model": module.training for name, module in self.named_modules()}

    def momenta(self):
        """The momentum of each BN layer, by name."""
        return {name: module.momentum for name, module in self.named_modules() if isinstance(module, BATCH_NORMS)}

    def hooks(self):
        """How many forward hooks are registered."""
        return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in self.modules())

    def freeze(self, *names):
        """Set some modules to evaluation mode, whatever the others are in."""
        for name in names:
            self.get_submodule(name).eval()


class Witness(nn.Module):
    """Passes its input on, and remembers whether gradients were ever recorded meanwhile."""

    def __init__(self):
        super().__init__()
        self.saw_gradients = False

    def forward(self, x):
        self.saw_gradients |= torch.is_grad_enabled()
        return x


BATCH_NORMS = nn.modules.batchnorm._BatchNorm

torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)  # the first optimizer imports for seconds: not in a check


def settled(net, seed, training=True):
    """Give a network parameters and buffers that depend on the seed alone, none of them 0 or 1."""
    rng = np.random.default_rng(seed)
    net = net.double().train(training)
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            low, high = (0.5, 2.5) if "running_var" in name else (-1.0, 1.0)
            value.copy_(torch.from_numpy(rng.uniform(low, high, tuple(value.shape))))
    for module in net.modules():
        if isinstance(module, BATCH_NORMS):
            with torch.no_grad():
                module.weight.copy_(1.5 + 0.5 * module.weight)
    return net


def made(build):
    """Decorate a function that builds modules: their own random initialization leaves torch's generator alone."""

    def make(*args, **kwargs):
        with torch.random.fork_rng(devices=[]):
            return build(*args, **kwargs)

    return make


@made
def classifier(seed, training=True):
    """Five features, three classes, a BN layer ("1")."""
    return settled(
        Net(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), Witness(), nn.Linear(6, 3)), seed, training=training
    )


@made
def adaptable(seed, training=True, dropout=0.0):
    """Images of one channel and 6x6 pixels, two BN layers ("1" and "5"); BN 1 has its own momentum."""
    net = Net(
        nn.Conv2d(1, 3, 3),
        nn.BatchNorm2d(3, momentum=0.2),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        nn.Linear(16, 3),
    )
    return settled(net, seed, training)


@made
def layers(seed, bn=False):
    """Five features, three classes, four linear layers at positions 0, 2, 4, 6 (or with BN at 0, 3, 6, 9)."""
    sizes, modules = (5, 7, 6, 8), []
    for fan_in, fan_out in pairwise(sizes):
        modules += [nn.Linear(fan_in, fan_out), *([nn.BatchNorm1d(fan_out)] if bn else []), nn.Tanh()]
    return settled(Net(*modules, nn.Linear(8, 3)), seed)


@made
def softmax_regression(seed):
    """Five features, three classes, one linear layer: its loss and gradient are two lines of NumPy."""
    return settled(Net(nn.Linear(5, 3)), seed, training=False)


def seed_of(rng):
    return int(rng.integers(2**31))


def tensor(values):
    return torch.from_numpy(np.asarray(values))


def examples(rng, n, features=5, classes=3):
    """n examples (x, y): each feature with its own mean and spread."""
    x = rng.normal(size=(n, features)) * rng.uniform(0.5, 2, features) + rng.uniform(-1, 1, features)
    return tensor(x), tensor(rng.integers(classes, size=n))


def again(student, *args):
    """Name the call to the student's function as the one that was tried, after questions to the model it left."""
    student.asks(student.name, student.arguments, args, {})


def agree_or_name(name, given, expected, mistakes, hint=""):
    """`agree`, with named mistakes that are worked out only where they are needed: ``mistakes()``."""
    try:
        agree(name, given, expected, tolerance=NEAR)
    except Wrong:
        agree(name, given, expected, mistakes=mistakes(), tolerance=NEAR, hint=hint)


def unchanged(before, state, which, message, hint):
    """Whether the entries of a state_dict whose names fulfil `which` are what they were."""
    for name in filter(which, before):
        same = name in state and torch.equal(before[name], state[name])
        holds(same, f"{name} of the model {message}", hint)


def is_statistic(name):
    return "running_" in name


def is_parameter(name):
    return "running_" not in name and "num_batches" not in name


# --------------------------------------------------------------------------------------------------------- 1. tint
tint = problem_set.question(
    "tint(images, colors) -> colored", points=6, borrowed=("bnlab.experiments.color_shift.dye",)
)


def gray_images(rng, n):
    """Images and colors; no two axes of the same length, and none as long as the number of channels."""
    h, w = rng.choice([4, 5, 6, 7], 2, replace=False)
    images = np.float32(rng.uniform(0.1, 1, (n, 1, h, w)) * (rng.uniform(size=(n, 1, h, w)) < 0.8))
    return tensor(images), tensor(np.float32(rng.uniform(0.1, 0.9, (n, 3))))


def check_tint(student, images, colors):
    n = len(images)
    x, c = images.double().numpy(), colors.double().numpy()
    expected = np.einsum("nihw,nc->nchw", x, c)
    gray = np.repeat(x, 3, axis=1)
    mixed = np.reshape(c, (3, n)).T
    mistakes = {
        "All images have the color of the first one. Image n has colors[n].": gray * c[:1, :, None, None],
        "All images have the same color, the average one. Image n has colors[n].": (
            gray * c.mean(axis=0)[:, None, None]
        ),
        "The color was added. A dye takes light away: multiply, so that black stays black.": gray + c[:, :, None, None],
        "Image and color are mixed half and half here. Black must stay black: multiply.": (
            (gray + c[:, :, None, None]) / 2
        ),
        "The channels are in the order blue, green, red. Channel c gets colors[:, c].": (gray * c[:, ::-1, None, None]),
        "The channels are the last axis here. PyTorch has them as axis 1: shape (N, 3, H, W).": (
            expected.transpose(0, 2, 3, 1)
        ),
        "The colors went to the wrong images: reshape(3, N) does not swap axes.": gray * mixed[:, :, None, None],
        "Every image was made as bright as before. Nothing of that kind was asked: multiply, that's all.": (
            gray * (c / c.mean(axis=1, keepdims=True))[:, :, None, None]
        ),
        "The three channels are equal: the images are still gray. Channel c gets colors[:, c].": (
            gray * c.mean(axis=1)[:, None, None, None]
        ),
        "This is the image three times: multiply channel c by colors[:, c].": gray,
    }
    hint = "colored[n, c] is images[n, 0] * colors[n, c]."
    agree("colored", student(images, colors), tensor(expected), mistakes=mistakes, tolerance=NEAR, hint=hint)


@tint.part("one image, one color", weight=2)
def _(student, rng):
    check_tint(student, *gray_images(rng, 1))


@tint.part("each image has a color of its own", weight=3)
def _(student, rng):
    for n in (5, 3):  # three images as well: then shapes fit that should not
        check_tint(student, *gray_images(rng, n))


tint.keeps_its_inputs(lambda rng: gray_images(rng, 3))


# --------------------------------------------------------------------------------------------------- 2. shift_size
shift_size = problem_set.question("shift_size(source, target) -> d, r", points=10, borrowed=())


def two_samples(rng):
    """Samples of different sizes whose features have different means and spreads, and moved by different amounts."""
    n, m, d = (int(size) for size in rng.choice(np.arange(4, 10), 3, replace=False))
    mean, std = rng.uniform(-5, 5, d), rng.uniform(0.5, 5, d)
    source = mean + std * rng.normal(size=(n, d))
    target = mean + std * (
        rng.choice([-1, 1], d) * rng.uniform(1, 2, d) + rng.uniform(1.5, 3, d) * rng.normal(size=(m, d))
    )
    return source, target


def moments(values, ddof=1):
    return values.mean(axis=0), values.var(axis=0, ddof=ddof)


def d_mistakes(source, target):
    (mu, var), (mu_t, var_t) = moments(source), moments(target)
    move, pooled = mu_t - mu, np.sqrt((var + var_t) / 2)
    n, m = len(source), len(target)
    biased = np.sqrt((source.var(axis=0) + target.var(axis=0)) / 2)
    weighted = np.sqrt(((n - 1) * var + (m - 1) * var_t) / (n + m - 2))
    joined = np.concatenate([source, target])
    return {
        "The sign is turned around: d is positive where the target's mean is larger.": -move / pooled,
        "This is the distance without its sign: d is negative where the target's mean is smaller.": (
            np.abs(move) / pooled
        ),
        "This is the move itself, in the units of the feature. Divide by a standard deviation, so that features can be "
        "compared.": move,
        "This divides by the variance. Take the root: d has no unit then.": move / pooled**2,
        "This divides by the standard deviation of the source alone. Both samples take part, half each.": (
            move / np.sqrt(var)
        ),
        "This divides by the standard deviation of the target alone. Both samples take part, half each.": (
            move / np.sqrt(var_t)
        ),
        "This averages the two standard deviations. Average the variances, then take the root.": (
            move / ((np.sqrt(var) + np.sqrt(var_t)) / 2)
        ),
        "This adds the variances without halving the sum.": move / np.sqrt(var + var_t),
        "The variances divide by N here. The unbiased ones, by N - 1, are asked.": move / biased,
        "The larger sample has more weight here. Both variances count half, whatever the sizes.": move / weighted,
        "This joins the two samples and takes the standard deviation of all: then the move itself counts as spread. "
        "Take "
        "each sample's variance by itself, and average the two.": move / joined.std(axis=0, ddof=1),
        "This is a t statistic: it grows with the sizes of the samples. Divide by a standard deviation of the values, "
        "not of their mean.": move / np.sqrt(var / n + var_t / m),
    }


def r_mistakes(source, target):
    (_, var), (_, var_t) = moments(source), moments(target)
    return {
        "This is the ratio of the variances. Take its root.": var_t / var,
        "This is upside down: the target's standard deviation over the source's.": np.sqrt(var / var_t),
        "The variances divide by N here. The unbiased ones, by N - 1, are asked.": target.std(axis=0)
        / source.std(axis=0),
        "This is a difference. r is a ratio.": np.sqrt(var_t) - np.sqrt(var),
        "This is the logarithm of the ratio.": np.log(np.sqrt(var_t / var)),
    }


PER_FEATURE = "One number per feature: take the statistics over the examples, axis 0."


@shift_size.part("d: the move of the mean", weight=4)
def _(student, rng):
    source, target = two_samples(rng)
    d, _ = student(tensor(source), tensor(target))
    expected = (target.mean(axis=0) - source.mean(axis=0)) / np.sqrt(
        (source.var(axis=0, ddof=1) + target.var(axis=0, ddof=1)) / 2
    )
    mistakes = d_mistakes(source, target)
    agree("d", d, tensor(expected), mistakes=mistakes, tolerance=NEAR, hint=PER_FEATURE)


@shift_size.part("r: the ratio of the spreads", weight=3)
def _(student, rng):
    source, target = two_samples(rng)
    _, r = student(tensor(source), tensor(target))
    expected = target.std(axis=0, ddof=1) / source.std(axis=0, ddof=1)
    agree("r", r, tensor(expected), mistakes=r_mistakes(source, target), tolerance=NEAR, hint=PER_FEATURE)


@shift_size.part("a feature that is the same constant in both samples", weight=2)
def _(student, rng):
    source, target = two_samples(rng)
    source, target = (np.insert(sample, 1, 0.25, axis=1) for sample in (source, target))  # exact in any dtype
    d, r = student(tensor(source), tensor(target))
    for name, values, right in (("d", d, 0.0), ("r", r, 1.0)):
        holds(
            np.shape(values) == (source.shape[1],),
            f"{name} has shape {np.shape(values)}, expected {(source.shape[1],)}.",
            PER_FEATURE,
        )
        agree(
            f"{name} of feature 1, which is 0.25 in all examples of both samples,",
            values[1],
            right,
            mistakes={"The ratio of two equal spreads is 1, even if both are 0.": 0.0} if name == "r" else {},
            tolerance=NEAR,
            hint="A feature that is the same constant in both samples has not shifted, but 0/0 is nan. Set d = 0 "
            "and r = 1 there: torch.where does it.",
        )
        others = np.delete(np.asarray(values, dtype=float), 1)
        holds(bool(np.isfinite(others).all()), f"{name} = {others} for the other features is not finite.")


shift_size.keeps_its_inputs(lambda rng: tuple(map(tensor, two_samples(rng))))


# ----------------------------------------------------------------------------------------------------- 3. accuracy
accuracy = problem_set.question(
    "accuracy(model, batches) -> fraction", points=10, borrowed=("bnlab.training.evaluate", "sklearn.metrics")
)


def fraction_right(votes, labels):
    return float(np.mean(np.concatenate(votes) == np.concatenate(labels)))


def votes_of(net, inputs):
    with torch.no_grad():
        return [net(x).argmax(dim=1).numpy() for x in inputs]


def evaluation(rng, sizes):
    """A network's seed, batches of these sizes, and the fraction that the network gets right, with named mistakes."""
    seed, inputs = seed_of(rng), [examples(rng, n)[0] for n in sizes]
    votes = votes_of(classifier(seed, training=False), inputs)
    noisy_votes = votes_of(classifier(seed, training=True), inputs)
    for _ in range(100):  # until all mistakes give different fractions
        labels = [np.where(rng.random(len(v)) < 0.5, v, rng.integers(3, size=len(v))) for v in votes]
        fraction = fraction_right(votes, labels)
        mistakes = accuracy_mistakes(votes, noisy_votes, labels)
        if 0.25 < fraction < 0.8 and np.diff(np.sort([fraction, *mistakes.values()])).min() > 0.005:
            return seed, [(x, tensor(y)) for x, y in zip(inputs, labels, strict=True)], fraction, mistakes
    return evaluation(rng, sizes)


def accuracy_mistakes(votes, noisy_votes, labels):
    single = [np.mean(v == y) for v, y in zip(votes, labels, strict=True)]
    fraction = fraction_right(votes, labels)
    right = fraction * sum(map(len, labels))
    mistakes = {
        "The model was in training mode: BN normalized by the batch, so the answers depend on the batch mates. Call "
        "model.eval() before you evaluate.": fraction_right(noisy_votes, labels),
        "This is the fraction of wrong answers.": 1 - fraction,
        "This is the number of right answers. Divide by the number of examples.": right,
        "This is in percent. A fraction between 0 and 1 is asked.": 100 * fraction,
        "This is the accuracy of the last batch alone. Add up over the batches.": single[-1],
        "This is the accuracy of the first batch alone. Does a return stand inside the loop?": single[0],
    }
    if len(labels[-1]) < len(labels[0]):
        mistakes |= {
            "This is the mean of the batches' accuracies: an example in the small last batch counts more than the "
            "others. Add up right answers and examples, divide at the end.": np.mean(single),
            "This divides by the number of batches times the size of the first. The last batch is smaller.": (
                right / (len(labels) * len(labels[0]))
            ),
            "The last, smaller batch was left out. Its examples count, too.": fraction_right(votes[:-1], labels[:-1]),
        }
    return mistakes


@accuracy.part("batches of equal size", weight=2)
def _(student, rng):
    seed, batches, fraction, mistakes = evaluation(rng, (4, 4, 4))
    model = student.make("checks:classifier", seed, training=False)
    agree("fraction", student(model, batches), fraction, mistakes=mistakes, tolerance=NEAR)


@accuracy.part("a smaller last batch", weight=2)
def _(student, rng):
    seed, batches, fraction, mistakes = evaluation(rng, (7, 7, 3))
    model = student.make("checks:classifier", seed, training=False)
    agree("fraction", student(model, batches), fraction, mistakes=mistakes, tolerance=NEAR)


@accuracy.part("a model that comes in training mode", weight=2)
def _(student, rng):
    seed, batches, fraction, mistakes = evaluation(rng, (5, 5, 5))
    model = student.make("checks:classifier", seed, training=True)
    agree("fraction", student(model, batches), fraction, mistakes=mistakes, tolerance=NEAR)


@accuracy.part("parameters and statistics stay", weight=1, counts_alone=False)
def _(student, rng):
    seed, batches = seed_of(rng), [examples(rng, 5) for _ in range(3)]
    model = student.make("checks:classifier", seed, training=True)
    student(model, batches)
    state = model.call("state_dict")
    again(student, model, batches)
    hint = "An evaluation only looks. In training mode every forward pass moves the running statistics."
    unchanged(classifier(seed).state_dict(), state, lambda name: True, "changed.", hint)


@accuracy.part("the model is back in its mode", weight=1, counts_alone=False)
def _(student, rng):
    for training in (True, False):
        check_modes_after(student, rng, training)


@accuracy.part("a frozen layer stays frozen", weight=1, counts_alone=False)
def _(student, rng):
    check_modes_after(student, rng, True, frozen=("1",))


def check_modes_after(student, rng, training, frozen=()):
    batches = [examples(rng, 5), examples(rng, 5)]
    model = student.make("checks:classifier", seed_of(rng), training=training)
    model.call("freeze", *frozen)
    before = model.call("modes")
    student(model, batches)
    after = model.call("modes")
    again(student, model, batches)
    check_modes({name: mode for name, mode in before.items() if not frozen or name in frozen}, after, frozen)


def check_modes(before, after, frozen=()):
    word = {True: "training mode", False: "evaluation mode"}
    for name, mode in after.items():
        if name not in before:
            continue
        who = name if name == "the model" else f"module {name} of the model"
        hint = "Write every module's mode down before you change any, and put it back at the end."
        if frozen and name in frozen:
            hint = (
                "This BN layer was frozen: in evaluation mode within a model in training mode. model.train() at the "
                "end "
                "sets all modules alike. Note the mode of each module in model.modules() and write it back to its "
                "attribute training."
            )
        holds(mode == before[name], f"{who} was in {word[before[name]]} and is now in {word[mode]}.", hint)


@accuracy.part("no gradients are recorded", weight=1, counts_alone=False)
def _(student, rng):
    batches = [examples(rng, 5), examples(rng, 5)]
    model = student.make("checks:classifier", seed_of(rng), training=False)
    student(model, batches)
    recorded = model.get("3.saw_gradients")
    again(student, model, batches)
    holds(
        recorded is False,
        "The model was called with gradients on: it recorded all operations for a backward pass that never comes.",
        "Call it within `with torch.no_grad():`.",
    )


# -------------------------------------------------------------------------------------------------------- 4. adapt
adapt = problem_set.question(
    "adapt(model, batches) -> model",
    points=18,
    borrowed=("bnlab.retrofit", "bnlab.experiments.color_shift.adapt", "torch.optim.swa_utils.update_bn"),
)
BN_LAYERS = ("1", "5")


def domain(rng, sizes, apart=0.0):
    """Batches of images of a new kind. Those of different batches have different brightness, as far as `apart`."""
    level, contrast = rng.uniform(1, 2), rng.uniform(1.5, 3)
    shifts = apart * rng.permutation(np.linspace(-1, 1, len(sizes)))
    return [
        tensor(level + shift + contrast * (rng.normal(size=(n, 1, 1, 1)) / 2 + rng.normal(size=(n, 1, 6, 6))))
        for n, shift in zip(sizes, shifts, strict=True)
    ]


def statistics(net):
    return {name: value.numpy().copy() for name, value in net.state_dict().items() if is_statistic(name)}


def passed(net, batches, momentum, *, everything=False):
    """Statistics after the batches went through with this momentum of every BN layer."""
    net.train(everything)
    for module in net.modules():
        if isinstance(module, BATCH_NORMS):
            module.train()
            module.momentum = momentum
            if momentum is None:
                module.reset_running_stats()
    with torch.no_grad():
        found = []
        for x in batches:
            net(x)
            found.append(statistics(net))
    return found


def adaptation_mistakes(seed, batches, right):
    """Statistics that known mistakes give, by the hint and the name of the entry in the state_dict."""
    old = statistics(adaptable(seed))
    single = passed(adaptable(seed), batches, 1.0)
    sizes = np.array([len(x) for x in batches])
    average = passed(adaptable(seed), batches, None)[-1]
    weighted = {name: np.average([one[name] for one in single], axis=0, weights=sizes) for name in right}
    net = adaptable(seed).train()
    with torch.no_grad():
        for x in batches:
            net(x)
    kept = statistics(net)
    values = {"1": sizes.sum() * 16, "5": sizes.sum() * 4}
    biased = {name: right[name] * (1 - 1 / values[name[0]]) if "var" in name else right[name] for name in right}
    mistakes = {
        "These are the old statistics: nothing was estimated. Were the BN layers in training mode when the images went "
        "through, and was it this model, not a copy?": old,
        "A part of the old statistics is left: BN's own update gives each batch only the weight momentum. Nothing of "
        "the old domain may stay.": kept,
    }
    if len(batches) > 1:
        mistakes |= {
            "These are the statistics of the last batch alone: with momentum = 1 each batch erases those before it. "
            "All "
            "batches count.": single[-1],
            "These are the statistics of the first batch alone. All batches count.": single[0],
            "This is the average over the batches, as momentum = None makes it: every batch has the same weight, "
            "however "
            "small, and the variance between the batches is missing. As if in one batch was asked.": average,
            "This is the weighted average of the batches' variances. The variance between the batches, of their means, "
            "is missing: add it, or take the variance of all values together.": weighted,
        }
    mistakes |= {
        "This variance divides by m, the number of values. running_var takes the unbiased one: m - 1.": biased,
    }
    return mistakes


def adapted(student, seed, batches, training=False):
    """The state_dict of the student's model after adapt."""
    model = student.make("checks:adaptable", seed, training=training)
    student(model, batches)
    state = model.call("state_dict")
    again(student, model, batches)
    return state


def check_statistics(student, seed, batches, kinds):
    check_state(adapted(student, seed, batches), seed, batches, kinds, {"1": "first", "5": "second"})


def check_state(state, seed, batches, kinds, which, hint=""):
    right = statistics(recalibrate(adaptable(seed), batches))
    hint = hint or (
        "It should be that of all values that entered the layer in one pass, with BN normalizing by the batch. Do all "
        "BN "
        "layers listen?"
    )
    for layer, called in which.items():
        for kind in kinds:
            name = f"{layer}.running_{kind}"

            def mistakes(name=name):
                found = adaptation_mistakes(seed, batches, right)
                return {text: wrong[name] for text, wrong in found.items()}

            agree_or_name(f"running_{kind} of the {called} BN layer", state[name], right[name], mistakes, hint)


@adapt.part("one batch of images", weight=5)
def _(student, rng):
    check_statistics(student, seed_of(rng), domain(rng, (9,)), ("mean", "var"))


@adapt.part("several batches: the mean", weight=3)
def _(student, rng):
    check_statistics(student, seed_of(rng), domain(rng, (5, 5, 5), apart=2.0), ("mean",))


@adapt.part("a smaller last batch: the mean", weight=2)
def _(student, rng):
    check_statistics(student, seed_of(rng), domain(rng, (6, 6, 2), apart=2.0), ("mean",))


@adapt.part("the variance between the batches counts", weight=3)
def _(student, rng):
    check_statistics(student, seed_of(rng), domain(rng, (5, 4, 5), apart=3.0), ("var",))


@adapt.part("dropout is off", weight=1, counts_alone=False)
def _(student, rng):
    seed, batches = seed_of(rng), domain(rng, (9,))
    model = student.make("checks:adaptable", seed, training=True, dropout=0.5)
    student(model, batches)
    state = model.call("state_dict")
    again(student, model, batches)
    hint = (
        "Dropout seems to have been on: model.train() switches it on, too. Set the model to evaluation mode and then "
        "the BN "
        "layers alone to training mode."
    )
    check_state(state, seed, batches, ("mean", "var"), {"5": "second (behind dropout)"}, hint)


@adapt.part("no parameter changes", weight=2, counts_alone=False)
def _(student, rng):
    seed = seed_of(rng)
    state = adapted(student, seed, domain(rng, (5, 5)), training=True)
    hint = (
        "AdaBN touches running_mean and running_var alone: no step of an optimizer, and no reset_parameters(), which "
        "sets "
        "gamma and beta to 1 and 0."
    )
    unchanged(adaptable(seed).state_dict(), state, is_parameter, "changed, but it is a parameter.", hint)


@adapt.part("modes, momentum and hooks are as before", weight=2, counts_alone=False)
def _(student, rng):
    for training, frozen in ((True, ()), (False, ()), (True, BN_LAYERS)):
        batches = domain(rng, (5, 5))
        model = student.make("checks:adaptable", seed_of(rng), training=training)
        model.call("freeze", *frozen)
        before = model.call("modes"), model.call("momenta")
        student(model, batches)
        after, hooks = (model.call("modes"), model.call("momenta")), model.call("hooks")
        again(student, model, batches)
        check_modes(before[0], after[0], frozen)
        for name, momentum in before[1].items():
            given = after[1][name]
            same = given is not None and abs(given - momentum) < 1e-12
            hint = "The next training would go on with it. Write the momentum of each layer down and put it back."
            holds(same, f"BN layer {name} had momentum {momentum:g} and now has {given}.", hint)
        hint = "Whatever register_forward_pre_hook returned has a method remove(): call it when you are done."
        holds(
            hooks == 0, f"{hooks} hooks are still registered: they go on collecting whenever the model is used.", hint
        )


# ---------------------------------------------------------------------------------------------- 5. what_adabn_repairs
problem_set.written("what_adabn_repairs", points=4)


# ---------------------------------------------------------------------------------------------- 6. gradient_change
gradient_change = problem_set.question(
    "gradient_change(model, layer, x, y, lr) -> cosine, change",
    points=14,
    borrowed=("bnlab.experiments.internal_shift.gradient_shift",),
)


def gradients(net, x, y):
    """The gradient of the cross-entropy, by name of the parameter."""
    names, parameters = zip(*net.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(F.cross_entropy(net(x), y), parameters), strict=True))


def compared(before, after):
    """Cosine and relative change of one gradient against another."""
    g, h = before.flatten(), after.flatten()
    return float(g @ h / (g.norm() * h.norm())), float((h - g).norm() / g.norm())


class Situation:
    """A network, a layer, a batch and a rate."""

    def __init__(self, rng, bn=False):
        self.seed, self.bn = seed_of(rng), bn
        self.layer = int(rng.choice((3, 6) if bn else (2, 4)))
        self.x, self.y = examples(rng, 12)
        self.lr = float(rng.uniform(1.5, 3))
        self.args = self.layer, self.x, self.y, self.lr

    def solve(self):
        """The gradients G and G', and whether they differ enough to tell the mistakes apart."""
        self.step = gradients(layers(self.seed, self.bn), self.x, self.y)
        self.before = self.step[f"{self.layer}.weight"]
        self.right = self.after(lambda k, _: k < self.layer)
        self.cosine, self.change = compared(self.before, self.right)
        return 0.1 < self.cosine < 0.95

    def after(self, moves, factor=1.0):
        """The gradient after the parameters that `moves` chooses have taken their step."""
        net = layers(self.seed, self.bn)
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                if moves(int(name.split(".")[0]), name):
                    parameter -= factor * self.lr * self.step[name]
        return gradients(net, self.x, self.y)[f"{self.layer}.weight"]

    def mistakes(self, which):
        """What known mistakes give, by the hint: `which` is 0 for the cosine, 1 for the change."""
        layer, last = self.layer, self.layer - (3 if self.bn else 2)
        others = {
            "Nothing has changed between the two gradients. Did the layers before this one take their step? And is G a "
            "copy of its own? `G = W.grad` is the same tensor that the second backward() writes to.": self.before,
            "G' contains G: loss.backward() adds to what W.grad holds already. Use torch.autograd.grad, or set W.grad "
            "to "
            "None in between.": self.before + self.right,
            "All layers took their step here, with this one and those behind it. Only those before it may: "
            "model[:layer].": self.after(lambda k, _: True),
            "The layer itself took its step, too. Only those before it may: model[:layer].": (
                self.after(lambda k, _: k <= layer)
            ),
            "The step goes uphill: subtract lr times the gradient.": self.after(lambda k, _: k < layer, factor=-1),
            "Only the linear layer right before took its step. All modules before this one do.": (
                self.after(lambda k, _: k == last)
            ),
            "The layers behind this one took their step here. Those before it should: model[:layer].": (
                self.after(lambda k, _: k > layer)
            ),
            "Only the weights took their step. The biases do, too (and gamma and beta): all parameters of "
            "model[:layer].": self.after(lambda k, name: k < layer and name.endswith("weight")),
            "The step is as long as the gradient here: multiply by lr.": (
                self.after(lambda k, _: k < layer, factor=1 / self.lr)
            ),
        }
        return {text: compared(self.before, other)[which] for text, other in others.items()}


def situation(rng, bn=False):
    while True:
        drawn = Situation(rng, bn)
        if drawn.solve():
            return drawn


@gradient_change.part("the cosine", weight=4)
def _(student, rng):
    s = situation(rng)
    cosine, _ = student(student.make("checks:layers", s.seed), *s.args)

    def mistakes():
        angle = np.arccos(s.cosine)
        return s.mistakes(0) | {
            "This is the angle. Its cosine is asked.": angle,
            "This is the angle in degrees. Its cosine is asked.": np.degrees(angle),
            "This is 1 - cosine.": 1 - s.cosine,
            "This is the change: it comes second.": s.change,
        }

    agree_or_name("cosine", cosine, s.cosine, mistakes)


@gradient_change.part("the change", weight=4)
def _(student, rng):
    s = situation(rng)
    _, change = student(student.make("checks:layers", s.seed), *s.args)

    def mistakes():
        difference = float((s.right - s.before).norm())
        return s.mistakes(1) | {
            "This is the norm of G' - G itself. Divide it by the norm of G.": difference,
            "This divides by the norm of G'. The change is relative to G, the gradient that the layer uses.": (
                difference / float(s.right.norm())
            ),
            "This is the difference of the two norms. Subtract the gradients first, then take the norm.": (
                float((s.right.norm() - s.before.norm()).abs() / s.before.norm())
            ),
            "This is the square of the change: take the root.": s.change**2,
            "This is the cosine: it comes first.": s.cosine,
        }

    agree_or_name("change", change, s.change, mistakes)


@gradient_change.part("layers with batch normalization, in training mode", weight=2)
def _(student, rng):
    s = situation(rng, bn=True)
    cosine, change = student(student.make("checks:layers", s.seed, bn=True), *s.args)
    hint = "All parameters of model[:layer] take their step, gamma and beta, too. Leave the model in its mode."
    agree_or_name("cosine", cosine, s.cosine, lambda: s.mistakes(0), hint)
    agree_or_name("change", change, s.change, lambda: s.mistakes(1), hint)


@gradient_change.part("the parameters are as before", weight=3, counts_alone=False)
def _(student, rng):
    s = Situation(rng)
    model = student.make("checks:layers", s.seed)
    student(model, *s.args)
    state = model.call("state_dict")
    again(student, model, *s.args)
    hint = (
        "Put them back at the end: keep copies (`value.clone()`) of model.state_dict() and load them. The state_dict "
        "itself holds the very tensors that you change."
    )
    unchanged(layers(s.seed).state_dict(), state, is_parameter, "is not what it was before the call.", hint)


@gradient_change.part("the running statistics are as before", weight=1, counts_alone=False)
def _(student, rng):
    s = Situation(rng, bn=True)
    model = student.make("checks:layers", s.seed, bn=True)
    student(model, *s.args)
    state = model.call("state_dict")
    again(student, model, *s.args)
    hint = "Every forward pass in training mode moves the running statistics. They are buffers: put them back, too."
    unchanged(layers(s.seed, bn=True).state_dict(), state, is_statistic, "is not what it was before the call.", hint)


# ---------------------------------------------------------------------------------------------- 7. what_noisy_bn_shows
problem_set.written("what_noisy_bn_shows", points=4)


# --------------------------------------------------------------------------------------------------- 8. scale_test
scale_test = problem_set.question("scale_test(loss, weight, a) -> difference, ratio", points=8, borrowed=())
INPUTS = tensor(np.random.default_rng(8).normal(size=(12, 4)))
TARGETS = tensor(np.random.default_rng(9).normal(size=(12, 3)))


def loss_with_bn(weight):
    """A linear layer (3, 4) whose outputs are normalized, eps 0: blind to the scale of the weights."""
    z = INPUTS @ weight.T
    x_hat = (z - z.mean(dim=0)) / z.var(dim=0, correction=0).sqrt()
    return (x_hat * TARGETS).sum() + (x_hat**3).sum() / 3


def loss_of_degree_4(weight):
    """Sum of the fourth powers: gradient 4 * weight ** 3."""
    return (weight**4).sum()


def loss_of_degree_1(weight):
    """Sum of the absolute values: its gradient does not depend on the scale."""
    return weight.abs().sum()


def loss_exponential(weight):
    """Sum of the exponentials, its own gradient: no power law."""
    return weight.exp().sum()


def weights(rng):
    return rng.choice([-1.0, 1.0], (3, 4)) * rng.uniform(0.5, 1.5, (3, 4))


def scale_of(rng):
    return float(rng.choice([rng.uniform(0.2, 0.6), rng.uniform(1.7, 3)]))


def ratio_mistakes(right, a):
    return {
        "There is a factor a too much: this is the gradient of loss(a * W) with respect to W, so the chain rule has "
        "put "
        "in another a. Differentiate with respect to a new tensor that holds a * W.": right * a,
        "This is upside down: the norm at a * W over the norm at W.": 1 / right,
        "This is the square of the ratio: take the root of the sums of squares.": right**2,
        "There is no difference between the two gradients. Is the second one taken at a * W?": 1.0,
    }


@scale_test.part("a layer with BN: the gradient goes with 1/a", weight=3)
def _(student, rng):
    a = scale_of(rng)
    _, ratio = student(student.the("checks:loss_with_bn"), tensor(weights(rng)), a)
    hint = "For weights that BN makes scale-free the ratio is 1/a."
    mistakes = {"The two gradients were added up: W.grad keeps what the first backward() left.": 1 + 1 / a}
    agree("ratio", ratio, 1 / a, mistakes=mistakes | ratio_mistakes(1 / a, a), tolerance=NEAR, hint=hint)


@scale_test.part("layers without BN", weight=2)
def _(student, rng):
    w, a = weights(rng), scale_of(rng)
    for name, right in (
        ("loss_of_degree_4", a**3),
        ("loss_of_degree_1", 1.0),
        ("loss_exponential", np.linalg.norm(np.exp(a * w)) / np.linalg.norm(np.exp(w))),
    ):
        _, ratio = student(student.the(f"checks:{name}"), tensor(w), a)
        sums = {"loss_of_degree_4": np.linalg.norm(w**3 + (a * w) ** 3) / np.linalg.norm(w**3)}
        mistakes = {
            "This takes the sum of the gradient's entries, or their largest, for its size. The Euclidean norm is "
            "asked.": (np.exp(a * w).sum() / np.exp(w).sum() if name == "loss_exponential" else np.nan),
            "The two gradients were added up: W.grad keeps what the first backward() left.": sums.get(name, np.nan),
        }
        agree("ratio", ratio, right, mistakes=ratio_mistakes(right, a) | mistakes, tolerance=NEAR)


@scale_test.part("the difference of the losses", weight=2)
def _(student, rng):
    w, a = weights(rng), scale_of(rng)
    for name, before, after in (
        ("loss_of_degree_4", (w**4).sum(), ((a * w) ** 4).sum()),
        ("loss_exponential", np.exp(w).sum(), np.exp(a * w).sum()),
        ("loss_with_bn", 0.0, 0.0),
    ):
        difference, _ = student(student.the(f"checks:{name}"), tensor(w), a)
        mistakes = {
            "The sign is turned around: the loss at a * W minus the loss at W.": before - after,
            "This has no sign: the loss at a * W minus the loss at W.": abs(after - before),
            "This is relative to the loss at W. The difference itself is asked.": (
                (after - before) / before if before else np.nan
            ),
            "This is the loss at a * W. Subtract the loss at W.": after if before else np.nan,
        }
        agree(
            "difference",
            difference,
            after - before,
            mistakes=mistakes,
            tolerance=NEAR,
            scale=max(abs(after - before), 1),
        )


@scale_test.part("leaves its inputs as they were", weight=1, counts_alone=False)
def _(student, rng):
    args = student.the("checks:loss_of_degree_4"), tensor(weights(rng)), scale_of(rng)
    if student.changed_by(*args):
        raise Wrong(
            "scale_test changed its input weight in place.",
            "The caller still needs those numbers: make a new tensor, a * weight, instead of weight *= a.",
        )


# --------------------------------------------------------------------------------------------------- 9. range_test
range_test = problem_set.question(
    "range_test(model, batches, low, high) -> rates, losses",
    points=12,
    borrowed=("bnlab.experiments.learning_rate_range_test.range_test",),
)
LIMIT = 4.0


def descent(seed, batches, rates, *, sign=-1.0, keep_gradient=False, step=True):
    """The losses of softmax regression before each step, and after it, in NumPy."""
    state = softmax_regression(seed).state_dict()
    w, b = state["0.weight"].numpy().copy(), state["0.bias"].numpy().copy()
    dw, db = np.zeros_like(w), np.zeros_like(b)

    def loss_and_error(x, y):
        with np.errstate(invalid="ignore"):
            logits = x @ w.T + b
            shifted = logits - logits.max(axis=1, keepdims=True)
            log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return -log_p[np.arange(len(y)), y].mean(), (np.exp(log_p) - np.eye(3)[y]) / len(y)

    before, after = [], []
    for (x, y), rate in zip(batches, rates, strict=True):
        x, y = x.numpy(), y.numpy()
        loss, error = loss_and_error(x, y)
        before.append(loss)
        with np.errstate(invalid="ignore"):
            dw, db = error.T @ x + keep_gradient * dw, error.sum(axis=0) + keep_gradient * db
        if step:
            w, b = w + sign * rate * dw, b + sign * rate * db
        after.append(loss_and_error(x, y)[0])
    return np.array(before), np.array(after)


def stop_at(losses):
    """How many losses are recorded before the test stops."""
    for k, loss in enumerate(losses):
        if not np.isfinite(loss) or loss > LIMIT * np.min(losses[: k + 1]):
            return k + 1
    return len(losses)


def clear_cut(losses):
    """Whether rounding can't decide when to stop."""
    ratios = [loss / np.min(losses[: k + 1]) for k, loss in enumerate(losses[: stop_at(losses)])]
    return all(not 0.9 * LIMIT < ratio < 1.1 * LIMIT for ratio in ratios)


def quiet_run(rng):
    """A seed, batches, rates: the losses stay within bounds."""
    while True:
        seed, low, count = seed_of(rng), float(rng.uniform(0.002, 0.01)), int(rng.integers(6, 9))
        high = low * float(rng.uniform(50, 100))
        batches = [examples(rng, 8) for _ in range(count)]
        rates = np.geomspace(low, high, count)
        losses, after = descent(seed, batches, rates)
        if stop_at(losses) == count and clear_cut(losses) and np.abs(after - losses).max() > 0.01:
            return seed, batches, low, high, rates, losses


def diverging_run(rng):
    """The same, where the rates become so large that the test must stop before the last batch."""
    while True:
        seed, low, count = seed_of(rng), float(rng.uniform(0.02, 0.05)), int(rng.integers(9, 12))
        high = low * 1e5
        batches = [examples(rng, 8) for _ in range(count)]
        rates = np.geomspace(low, high, count)
        losses, _ = descent(seed, batches, rates)
        if 3 < stop_at(losses) < count - 2 and clear_cut(losses):
            return seed, batches, low, high, rates, losses


def sequence(name, given, length, hint=""):
    """Whether it is one number for each step; returns it as an array."""
    try:
        values = np.asarray(given, dtype=float)
    except (TypeError, ValueError):
        raise Wrong(f"{name} is a {type(given).__name__}, expected {length} numbers.", hint) from None
    holds(values.shape == (length,), f"{name} has shape {values.shape}, expected {(length,)}.", hint)
    return values


@range_test.part("the rates grow geometrically", weight=3)
def _(student, rng):
    seed, batches, low, high, rates, _ = quiet_run(rng)
    given, _ = student(student.make("checks:softmax_regression", seed), batches, low, high)
    given = sequence("rates", given, len(rates), "One rate for each batch, as long as the test does not stop early.")
    count = len(rates)
    mistakes = {
        "The rates grow linearly here. Each should be the one before it times a constant factor: np.geomspace.": (
            np.linspace(low, high, count)
        ),
        "The last rate should be high itself: with K rates there are K - 1 factors between low and high.": (
            np.geomspace(low, high, count + 1)[:-1]
        ),
        "The first rate should be low itself.": np.geomspace(low, high, count + 1)[1:],
        "The rates fall here. They should grow from low to high.": rates[::-1],
        "low and high are rates, not exponents: np.logspace wants their logarithms.": np.logspace(low, high, count),
    }
    agree("rates", np.log(np.abs(given) + 1e-300), np.log(rates), tolerance=1.0)
    agree("rates", given, rates, mistakes=mistakes, tolerance=NEAR, hint="From low to high, by a constant factor.")


@range_test.part("the losses, each before its step", weight=4)
def _(student, rng):
    seed, batches, low, high, rates, losses = quiet_run(rng)
    _, given = student(student.make("checks:softmax_regression", seed), batches, low, high)
    given = sequence("losses", given, len(losses), "One loss for each batch, as long as the test does not stop early.")
    linear = np.linspace(low, high, len(rates))

    def mistakes():
        return {
            "These are the losses after the step, on the same batch. Record the loss that the gradient comes from.": (
                descent(seed, batches, rates)[1]
            ),
            "The gradients add up from step to step: loss.backward() adds to p.grad. Set it to None after each step, "
            "or use "
            "torch.autograd.grad.": descent(seed, batches, rates, keep_gradient=True)[0],
            "The model took no step: these are the losses of its first weights on all batches.": (
                descent(seed, batches, rates, step=False)[0]
            ),
            "The steps go uphill: subtract rate times the gradient.": descent(seed, batches, rates, sign=1.0)[0],
            "All steps have the same rate, low. Step k has the k-th rate.": (
                descent(seed, batches, np.full(len(rates), low))[0]
            ),
            "The rates lag one step behind: the first step has the first rate.": (
                descent(seed, batches, np.r_[0.0, rates[:-1]])[0]
            ),
            "The steps have rates that grow linearly. Each should be the one before it times a constant factor.": (
                descent(seed, batches, linear)[0]
            ),
            "These losses are smoothed or added up. Record each as it is.": np.cumsum(losses),
        }

    agree_or_name("losses", given, losses, mistakes, hint="Plain gradient descent, no momentum.")


@range_test.part("stops when it diverges", weight=2)
def _(student, rng):
    seed, batches, low, high, rates, losses = diverging_run(rng)
    end = stop_at(losses)
    check_stop(student, seed, batches, low, high, rates, losses, end, "is more than four times the smallest so far")
    seed, batches, low, high, _, _ = quiet_run(rng)
    end = int(rng.integers(3, len(batches) - 1))
    batches[end - 1][0][0, 0] = np.inf  # the loss of this batch is nan
    rates = np.geomspace(low, high, len(batches))
    losses, _ = descent(seed, batches[:end], rates[:end])
    check_stop(student, seed, batches, low, high, rates, losses, end, "is not finite")


def check_stop(student, seed, batches, low, high, rates, losses, end, why):
    found = dict(
        zip(
            ("rates", "losses"),
            student(student.make("checks:softmax_regression", seed), batches, low, high),
            strict=True,
        )
    )
    for name, right in (("losses", losses), ("rates", rates)):
        given = np.asarray(found[name], dtype=float)
        message = f"{name} has {given.size} numbers, expected {end}: loss {end - 1} of {len(batches)} {why}."
        hint = "Stop there. The loss that made you stop is the last one that you return, and its rate the last rate."
        if given.size == len(batches) and why == "is not finite":
            hint = "A comparison with nan is always False: ask np.isfinite as well. " + hint
        if name == "rates" and given.size == len(batches):
            hint = "Return the rates of the recorded losses only: rates[:len(losses)]."
        holds(given.shape == (end,), message, hint)
        agree(name, given[:-1], right[: end - 1], tolerance=NEAR)


@range_test.part("in training mode", weight=1)
def _(student, rng):
    seed, batches = seed_of(rng), [examples(rng, 8) for _ in range(3)]
    _, losses = student(student.make("checks:classifier", seed, training=False), batches, 1e-9, 1e-8)
    with torch.no_grad():
        x, y = batches[0]
        right, wrong = (float(F.cross_entropy(classifier(seed, training=mode)(x), y)) for mode in (True, False))
    hint = {"The model was in evaluation mode: BN used its running statistics. Call model.train() first.": wrong}
    first = np.asarray(losses, dtype=float).reshape(-1)[0]
    agree("the first loss of a model with BN", first, right, mistakes=hint, tolerance=NEAR)


@range_test.part("the model is as before", weight=2, counts_alone=False)
def _(student, rng):
    for training in (True, False):
        seed, batches = seed_of(rng), [examples(rng, 8) for _ in range(4)]
        model, args = student.make("checks:classifier", seed, training=training), (batches, 0.01, 0.1)
        student(model, *args)
        state, modes = model.call("state_dict"), model.call("modes")
        again(student, model, *args)
        before = classifier(seed, training=training)
        hint = (
            "A test is not a training run. Keep copies (`value.clone()`) of all entries of model.state_dict() and load "
            "them at the end: the state_dict itself holds the very tensors that change."
        )
        unchanged(before.state_dict(), state, is_parameter, "is not what it was: the model was trained.", hint)
        hint = "The running statistics are buffers: they are in the state_dict, but not among the parameters."
        unchanged(before.state_dict(), state, is_statistic, "is not what it was.", hint)
        check_modes(before.modes(), modes)


# ------------------------------------------------------------------------------------------------ 10. suggest_rate
suggest_rate = problem_set.question(
    "suggest_rate(rates, losses, window) -> rate",
    points=6,
    borrowed=(
        "bnlab.experiments.learning_rate_range_test.read_off",
        "bnlab.experiments.learning_rate_range_test.smooth",
    ),
)


def curve(rng, count, noise):
    """Rates and losses of a range test: a plateau, a valley, an explosion."""
    rates = np.geomspace(10 ** rng.uniform(-4, -3), 10 ** rng.uniform(0.5, 1.5), count)
    position = np.linspace(0, 1, count)
    valley = rng.uniform(0.5, 0.7)
    losses = 2.3 - 0.6 * np.exp(-(((position - valley) / 0.18) ** 2)) + 8 * np.clip(position - valley - 0.1, 0, None)
    return rates, losses + noise * rng.normal(size=count)


def smoothed_by(losses, window, finite=np.inf):
    """The mean over a window around each loss, and what zeros beyond the ends would make of it."""
    losses, half = np.where(np.isfinite(losses), losses, finite), window // 2
    padded = np.concatenate([np.full(half, np.nan), losses, np.full(half, np.nan)])
    return np.nanmean(np.lib.stride_tricks.sliding_window_view(padded, window), axis=1)


def one_winner(smoothed):
    """Whether the smallest value is the smallest by far more than rounding."""
    lowest, second = np.sort(smoothed)[:2]
    return second - lowest > 1e-4


def suggestion_mistakes(rates, losses, window):
    finite, half = np.isfinite(losses), window // 2
    smooth = smoothed_by(losses, window)
    best = int(np.argmin(smooth))
    ends = np.convolve(np.where(finite, losses, 1e9), np.ones(window) / window, mode="same")
    late = np.array(
        [np.where(finite, losses, np.inf)[max(k - window + 1, 0) : k + 1].mean() for k in range(len(losses))]
    )
    shrunk = np.convolve(np.where(finite, losses, 1e9), np.ones(window) / window, mode="valid")
    falls = np.diff(np.where(np.isfinite(smooth), smooth, 1e9))[: max(best, 1)]
    return {
        "This is the rate at which the smoothed loss is smallest. That is at the edge already: a tenth of it is "
        "asked.": (rates[best]),
        "The losses were not smoothed: this follows the luckiest batch.": rates[np.nanargmin(losses)] / 10,
        "The losses were not smoothed, and a tenth of the rate is asked.": rates[np.nanargmin(losses)],
        "At the ends, the smoothed loss counts zeros for the neighbors that don't exist, and so the end wins. Take the "
        "mean of those that exist.": rates[np.argmin(ends)] / 10,
        "The window lies before each step. It should reach as far to the left as to the right.": rates[np.argmin(late)]
        / 10,
        "The positions have slipped: a smoothed curve without its ends is shorter, and its first value belongs to rate "
        "(window - 1) / 2.": rates[np.argmin(shrunk)] / 10,
        "This is where the loss falls fastest. A tenth of the rate at the minimum is asked.": rates[np.argmin(falls)],
        "This is a tenth of the loss, not of the rate.": smooth[best] / 10,
        "The window is twice as wide: window steps on each side. It counts all its steps, the middle one and half of "
        "the "
        "others on each side.": rates[np.argmin(smoothed_by(losses, 2 * window + 1))] / 10,
        "nan won: np.argmin takes the first nan for the smallest number. Replace what is not finite by inf first.": (
            rates[np.argmin(~np.isfinite(losses) * -1.0)] / 10 if not finite.all() else np.nan
        ),
        "nan won: a window with a nan in it has the mean nan, and np.argmin takes the first nan for the smallest "
        "number. "
        "Replace what is not finite by inf first.": (
            rates[max(int(np.argmin(finite)) - half, 0)] / 10 if not finite.all() else np.nan
        ),
    }


def check_suggestion(student, rates, losses, window):
    right = rates[np.argmin(smoothed_by(losses, window))] / 10
    mistakes = suggestion_mistakes(rates, losses, window)
    hint = "A tenth of the rate at which the mean over the window is smallest."
    agree("rate", student(rates, losses, window), right, mistakes=mistakes, tolerance=NEAR, hint=hint)


def told_apart(rates, losses, window, but=()):
    """Whether the known mistakes suggest another rate (`but` lists those that need not)."""
    smooth = smoothed_by(losses, window)
    right = rates[np.argmin(smooth)] / 10
    found = suggestion_mistakes(rates, losses, window)
    wrong = [value for text, value in found.items() if np.isfinite(value) and not text.startswith(but)]
    return one_winner(smooth) and all(abs(value / right - 1) > 0.01 for value in wrong)


@suggest_rate.part("a clean curve", weight=2)
def _(student, rng):
    while True:
        rates, losses = curve(rng, int(rng.integers(20, 30)), noise=0.0)
        if np.argmin(smoothed_by(losses, 5)) == np.argmin(losses):
            if told_apart(rates, losses, 5, but=("The losses were not smoothed: ", "The window is twice")):
                break
    check_suggestion(student, rates, losses, 5)


@suggest_rate.part("a noisy curve", weight=2)
def _(student, rng):
    while True:
        window = int(rng.choice([5, 7, 9]))
        rates, losses = curve(rng, int(rng.integers(30, 40)), noise=0.1)
        losses[rng.integers(3, 9)] = 0.9  # one lucky batch
        if told_apart(rates, losses, window, but=("The window is twice", "This is where the loss falls")):
            break
    check_suggestion(student, rates, losses, window)


@suggest_rate.part("a curve that ends in inf or nan", weight=2)
def _(student, rng):
    for bad in (np.inf, np.nan):
        while True:
            rates, losses = curve(rng, int(rng.integers(20, 30)), noise=0.0)
            end = int(np.argmin(losses)) + 2
            rates, losses = rates[:end], losses[:end]
            losses[-1] = bad
            if told_apart(rates, losses, 5, but=("The window is twice", "This is where the loss falls")):
                break
        check_suggestion(student, rates, losses, 5)


# ----------------------------------------------------------------------------------------------------- 11. compare
compare = problem_set.question(
    "compare(rates, plain, bn) -> rate_plain, rate_bn, speedup, inside",
    points=8,
    borrowed=("bnlab.ensemble.best_rate",),
)


def sweep(rng, count, best, typical, seeds=5):
    """Steps to a target for each rate and seed: smallest in the middle at position `best`."""
    distance = np.abs(np.arange(count) - best)[:, None]
    return np.round(typical * 1.6**distance * rng.uniform(0.85, 1.15, (count, seeds))) + 1


def contest(rng, *, at_end="", never=False):
    """Rates and the steps of both arms. `at_end`: the arm whose best rate is at an end. `never`: some never arrive."""
    for _ in range(1000):
        count = int(rng.integers(6, 9))
        rates = np.geomspace(0.01, 10, count)
        k, j = (int(i) for i in rng.choice(np.arange(1, count - 1), 2, replace=False))
        if at_end:
            end = int(rng.choice([0, count - 1]))
            k, j = (end, j) if at_end == "plain" else (k, end)
        plain, bn = sweep(rng, count, k, rng.uniform(60, 90)), sweep(rng, count, j, rng.uniform(20, 40))
        for steps, best in ((plain, k), (bn, j)):
            lucky = rng.choice([row for row in range(1, count - 1) if row != best])
            steps[lucky, rng.integers(5)] = 3  # one lucky seed, at some rate inside that is not the best
            if never:
                for row in range(count):
                    steps[row, rng.permutation(5)[: 2 if row == best else int(rng.integers(3))]] = np.inf
                worst = 0 if best > count // 2 else count - 1
                steps[worst] = np.inf
        if all(clear_best(steps, best) for steps, best in ((plain, k), (bn, j))):
            return rates, plain, bn, k, j
    raise RuntimeError("no such sweep found")


def clear_best(steps, best):
    middle = np.sort(np.median(steps, axis=1))
    return np.argmin(np.median(steps, axis=1)) == best and middle[1] > 1.05 * middle[0]


def rate_mistakes(rates, steps, other):
    finite = np.where(np.isfinite(steps), steps, 1e9)
    lucky = np.unravel_index(np.argmin(steps), steps.shape)[0]
    with np.errstate(invalid="ignore"):
        averaged = np.argmin(steps.mean(axis=1)) if np.isfinite(steps.mean(axis=1)).any() else 0
    return {
        "This is the rate of the best single run. One lucky seed is not a result: take the median over the seeds.": (
            rates[lucky]
        ),
        "This is the rate with the smallest mean. The mean of a row with one inf is inf: take the median.": rates[
            averaged
        ],
        "This is the rate that is best for the other arm. Each arm has its own.": rates[
            np.argmin(np.median(other, axis=1))
        ],
        "This is the rate of the most steps. Fewer are better.": rates[np.argmax(np.median(finite, axis=1))],
    }


def speedup_mistakes(plain, bn, k, j):
    a, b = np.median(plain, axis=1), np.median(bn, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "This is upside down: the plain network's steps over those with BN.": b[j] / a[k],
            "Both arms at the rate that is best for BN: that is the unfair comparison. The plain arm has a best rate "
            "of "
            "its own.": a[j] / b[j],
            "Both arms at the rate that is best for the plain network. The BN arm has a best rate of its own.": a[k]
            / b[k],
            "This takes the best single run of each arm. One lucky seed is not a result: take medians.": (
                plain.min() / bn.min()
            ),
            "This takes the mean over the seeds. The median is asked: it is not spoilt by one run that never "
            "arrives.": (plain[k].mean() / bn[j].mean()),
            "This compares the means of the best rows chosen by the mean. Take the median.": (
                plain.mean(axis=1).min() / bn.mean(axis=1).min()
            ),
            "Every seed has its own best rate here. Choose one rate for all seeds, by the median.": (
                np.median(plain.min(axis=0)) / np.median(bn.min(axis=0))
            ),
            "This is the largest quotient over all rates. Each arm at its own best rate is asked.": (
                np.nanmax(np.where(np.isfinite(a / b), a / b, -1))
            ),
        }


def check_speedup(student, rates, plain, bn, k, j):
    _, _, speedup, _ = student(rates, plain, bn)
    right = np.median(plain[k]) / np.median(bn[j])
    agree("speedup", speedup, right, mistakes=speedup_mistakes(plain, bn, k, j), tolerance=NEAR)


@compare.part("the best rate of each arm", weight=3)
def _(student, rng):
    rates, plain, bn, k, j = contest(rng)
    rate_plain, rate_bn, _, _ = student(rates, plain, bn)
    agree("rate_plain", rate_plain, rates[k], mistakes=rate_mistakes(rates, plain, bn), tolerance=NEAR)
    agree("rate_bn", rate_bn, rates[j], mistakes=rate_mistakes(rates, bn, plain), tolerance=NEAR)


@compare.part("the speedup", weight=2)
def _(student, rng):
    check_speedup(student, *contest(rng))


@compare.part("runs that never arrive", weight=1)
def _(student, rng):
    rates, plain, bn, k, j = contest(rng, never=True)
    rate_plain, rate_bn, _, _ = student(rates, plain, bn)
    agree("rate_plain", rate_plain, rates[k], mistakes=rate_mistakes(rates, plain, bn), tolerance=NEAR)
    agree("rate_bn", rate_bn, rates[j], mistakes=rate_mistakes(rates, bn, plain), tolerance=NEAR)
    check_speedup(student, rates, plain, bn, k, j)


@compare.part("whether both best rates lie inside", weight=2)
def _(student, rng):
    for at_end in ("", "plain", "BN"):
        rates, plain, bn, k, j = contest(rng, at_end=at_end)
        _, _, _, inside = student(rates, plain, bn)
        holds(
            np.shape(inside) == () and np.asarray(inside).dtype.kind == "b",
            f"inside is {inside!r}, expected True or False.",
        )
        message = f"inside is False, but both best rates, {rates[k]:.3g} and {rates[j]:.3g}, lie inside the range."
        if at_end:
            rate = rates[k] if at_end == "plain" else rates[j]
            message = f"inside is True, but the best rate of the {at_end} arm, {rate:.3g}, is at an end of the range"
            message += f" from {rates[0]:.3g} to {rates[-1]:.3g}: a better one may lie beyond."
        hint = "Look at both arms, and at both ends: neither best rate may be the first or the last of rates."
        holds(bool(inside) != bool(at_end), message, hint)


check = problem_set.check
