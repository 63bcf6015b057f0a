# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Problem set 7: Retrofitting a trained VGG
#
# Somebody hands you a network that was trained without batch normalization (BN). You put BN into it without changing a
# single answer, move its statistics to new data, train it further, and take the BN out again. At the end you have
# a small toolbox that does this to convolutional networks of your own, and the network to try it on comes with the
# course: a small VGG that tells clothes apart.
#
# **Afterwards you can**
#
# - find the layers of a network in the order in which they run, with forward hooks that leave no trace;
# - gather the mean and variance of hidden values batch by batch, exactly, whatever the sizes of the batches;
# - insert BN such that the network computes what it did before, and say what goes wrong with `gamma = var`;
# - fold BN into the convolution before it;
# - renew running statistics for other data, without labels and without a gradient;
# - train the result further, with live or with frozen statistics.
#
# **Time:** about three hours. **You need:** PyTorch (`nn.Module`, `nn.Sequential`, a training step) and problem set 2, or
# what it teaches. The chapters *Retrofitting VGG* and *Folding for inference* of the book are the theory to this
# practice. No graphics card.
#
# ## How to work
#
# 1. Run the cells from the top. Where a cell says `raise NotImplementedError()`, replace that line by your code.
# 2. Run the cell below it. It checks your function on small random networks and tells you what is right, what isn't
#    yet, and what the likely mistake is. Try again as often as you like.
# 3. Points are given part by part, so half a solution earns something. The questions don't depend on each other,
#    unless you call your earlier functions: skip one and come back later. A figure that uses an unanswered function
#    shows `NotImplementedError`; this costs nothing.
# 4. Stuck? Every question has three hints. Open one at a time.
# 5. Two questions want a few sentences instead of code. A person reads them.
# 6. Before you hand in, type `bnlab check ps7_vgg_retrofit.ipynb` in a terminal. It runs the notebook from top to
#    bottom in a fresh kernel, as the grader will, with a table of your points. The grader draws other networks.
#
# Keep the cells that are here. You may add cells of your own.
#
# **Conventions.** A batch of images has the shape $(N, C, H, W)$; one BN layer has one mean, variance, $\gamma$ and
# $\beta$ per channel. Where nothing else is said, a variance is the biased one (divide by $m$). Functions that return a
# new network leave the old one exactly as it was. Networks compute in `float32` or `float64`; don't change that.
#
# The two `nn.Module` methods that you need most: `model.named_modules()` lists every module inside with its name, such
# as `features.3`, and `model.get_submodule("features.3")` finds it.
#
# | question | difficulty | minutes | points |
# |---|---|---|---|
# | 1. `conv_layers` | ●●○○○ | 15 | 9 |
# | 2. `merge_moments` | ●●○○○ | 15 | 10 |
# | 3. `output_moments` | ●●●○○ | 25 | 14 |
# | 4. `identity_norm` | ●●○○○ | 10 | 8 |
# | 5. `insert_batch_norm` | ●●●●○ | 30 | 16 |
# | 6. `why_not_variance` | ●●○○○ | 10 | 4 |
# | 7. `fold_pair` | ●●●○○ | 20 | 12 |
# | 8. `fold_batch_norm` | ●●●○○ | 15 | 8 |
# | 9. `recalibrate` | ●●●○○ | 20 | 8 |
# | 10. `fine_tune` | ●●○○○ | 15 | 7 |
# | 11. `first_step` | ●●○○○ | 10 | 4 |

# %%
import copy
import time

import matplotlib.pyplot as plt
import numpy as np
import torch
from checks import check
from torch import nn
from torch.nn import functional as F

from bnlab import trained
from bnlab.datasets import fashion

clothes = fashion(10_000, 2_000)
new_images = torch.from_numpy(clothes.x_train[8000:])  # 2,000 images that the trained network has never seen
new_labels = torch.from_numpy(clothes.y_train[8000:])
test_images = torch.from_numpy(clothes.x_test[:200])
test_labels = torch.from_numpy(clothes.y_test[:200])


def accuracy(model, images=test_images):
    """Percentage of the (first) test images that a network names rightly, in the mode that it is in."""
    with torch.no_grad():
        return 100 * (model(images).argmax(1) == test_labels[: len(images)]).float().mean().item()


# %% [markdown]
# ## The network
#
# `trained.small_vgg()` gives a new copy of the trained network each time: six convolutions of 3 × 3 in a flat
# `nn.Sequential` called `features`, with a ReLU behind each and a pooling behind every second one, and a dense layer
# `classifier`. No BN anywhere. It saw 8,000 garments; the 2,000 in `new_images` are new to it.

# %%
print(trained.small_vgg())
print(f"\nright on {accuracy(trained.small_vgg()):.1f}% of 200 test images")

# %% [markdown]
# ## 1. Where does BN go?
#
# *Difficulty* ●●○○○ · *15 minutes* · *9 points*
#
# BN goes behind a convolution and before its ReLU. So first of all: which convolutions are there, and in which order do
# they run?
#
# `model.named_modules()` knows which layers a network *has*, in the order in which somebody wrote them into
# `__init__`. It doesn't know whether `forward` uses them in this order, or at all. A *forward hook* does: a function that
# PyTorch calls each time a module has run.
#
# ```python
# handle = module.register_forward_hook(hook)   # from now on: hook(module, inputs, output) after every run
# handle.remove()                               # until here
# ```
#
# Run the network once on `x`, and return the names of the `nn.Conv2d` that ran, in the order in which they ran. One that
# runs twice is named once, one that never runs isn't named. Nothing else counts as a convolution here, and the network
# keeps no hook.
#
# <details><summary>Hint 1: a question</summary>
#
# A hook gets the module, but not its name. Where could the name come from, if every module has a hook of its own?
#
# </details>
#
# <details><summary>Hint 2: a trap with loops</summary>
#
# A function that is defined in a loop looks up the loop's variable when it is *called*; by then the loop is over, and all
# hooks would see the last name. Make the hook inside a little function `remember(name)` that returns it, or bind the
# name early with `functools.partial` or a default argument. Or use a dictionary that takes a module to its name.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# 1. For every `name, module` of `named_modules()` that is an `nn.Conv2d`: register a hook that appends `name` to a list,
#    if it isn't there yet. Keep the handles.
# 2. Call `model(x)` under `torch.no_grad()`.
# 3. Remove all handles, and return the list.
#
# </details>


# %% nbgrader={"grade_id": "conv_layers-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def conv_layers(model, x):
    """Names of the convolutions of a network, in the order in which they run.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode. It is left as it was, without hooks.
    x : torch.Tensor
        An input: ``model(x)`` works.

    Returns
    -------
    names : list of str
        Names as in ``model.named_modules()`` of all `torch.nn.Conv2d` that ran, each once.
    """
    ### BEGIN SOLUTION
    names = []

    def remember(name):
        def hook(module, inputs, output):
            if name not in names:
                names.append(name)

        return hook

    handles = [
        module.register_forward_hook(remember(name))
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    try:
        with torch.no_grad():
            model(x)
    finally:
        for handle in handles:
            handle.remove()
    return names
    ### END SOLUTION


# %% nbgrader={"grade_id": "conv_layers", "grade": true, "locked": true, "points": 9, "schema_version": 3, "solution": false, "task": false}
check("conv_layers", conv_layers)

# %% [markdown]
# **See it.** The places for BN in the trained VGG, by your function. *What you should see:* six lines, from `features.0`
# with 16 channels to `features.12` with 64, and a ReLU behind every one of them.

# %%
model = trained.small_vgg()
for name in conv_layers(model, new_images[:1]):
    container, position = name.rsplit(".", 1)
    behind = model.get_submodule(container)[int(position) + 1]
    channels = model.get_submodule(name).out_channels
    print(f"{name:12} {channels:3} channels    BN goes here    then {type(behind).__name__}")

# %% [markdown]
# ## 2. Two batches make one
#
# *Difficulty* ●●○○○ · *15 minutes* · *10 points*
#
# The images for which you want statistics often don't fit into memory at once. So you look at them batch by batch. Let
# $a$ be what you have seen so far and $b$ the next batch: of both you know, per channel, the number of values $m$, their
# mean $\mu$ and their (biased) variance $\sigma^2$. What are these for all values together? With $m = m_a + m_b$ and
# $\delta = \mu_b - \mu_a$:
#
# $$
# \mu = \frac{m_a \mu_a + m_b \mu_b}{m}
# \qquad
# \sigma^2 = \frac{m_a \sigma^2_a + m_b \sigma^2_b}{m} + \frac{m_a m_b}{m^2} \, \delta^2
# $$
#
# The last term is what people forget: if two batches lie around different means, the values together are spread more
# than in either batch. (Chan, Golub & LeVeque published this in 1983; it needs no second look at the data and loses no
# digits.)
#
# On paper you may as well go through the mean of the squares, $\sigma^2 + \mu^2$. In a computer that loses the digits that
# matter where the mean is large: the check tries `float32` with a mean of ten thousand, `float64` with a billion.
#
# <details><summary>Hint 1: a question</summary>
#
# The batches {0, 0} and {2, 2} have variance 0 each. What is the variance of {0, 0, 2, 2}?
#
# </details>
#
# <details><summary>Hint 2: rounding</summary>
#
# $\mu_a + \frac{m_b}{m} \delta$ is the same mean. Which numbers does each form add? For the variance, every term in the
# formula above is about as small as the result, so nothing cancels.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# Four lines: `m`, `delta`, the mean, the variance. `m_a` and `m_b` are whole numbers, the others tensors of shape $(C,)$.
# `m_a * m_b / m**2` is a plain number.
#
# </details>


# %% nbgrader={"grade_id": "merge_moments-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def merge_moments(mean_a, var_a, m_a, mean_b, var_b, m_b):
    """Mean and variance of two sets of values together, from those of each.

    Parameters
    ----------
    mean_a, var_a, mean_b, var_b : torch.Tensor of shape (C,)
        float32 or float64; var is biased (divided by m). Must not be changed.
    m_a, m_b : int
        Values per channel, at least 1.

    Returns
    -------
    mean, var : torch.Tensor of shape (C,)
        var is biased.
    m : int

    References
    ----------
    Chan, Golub & LeVeque (1983), Algorithms for Computing the Sample Variance.
    """
    ### BEGIN SOLUTION
    m = m_a + m_b
    delta = mean_b - mean_a
    mean = mean_a + delta * (m_b / m)
    var = (m_a * var_a + m_b * var_b) / m + delta**2 * (m_a * m_b / m**2)
    return mean, var, m
    ### END SOLUTION


# %% nbgrader={"grade_id": "merge_moments", "grade": true, "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
check("merge_moments", merge_moments)

# %% [markdown]
# **See it.** The gray levels of 1,000 garments, which come sorted: first all T-shirts, then all trousers, and so on, one
# batch per class. *What you should see:* the dots, one variance per batch, lie all over the place. Your running result
# (line with squares) ends exactly on the variance of all images together. The average of the batches' variances
# (dashed) stays below it to the end: it doesn't know that some classes are brighter than others.

# %%
by_class = [new_images[new_labels == label][:100] for label in range(10)]
mean, var, m = by_class[0].mean().reshape(1), by_class[0].var(correction=0).reshape(1), by_class[0].numel()
variances, yours = [float(var)], [float(var)]
for images in by_class[1:]:
    batch_var = images.var(correction=0).reshape(1)
    mean, var, m = merge_moments(mean, var, m, images.mean().reshape(1), batch_var, images.numel())
    variances.append(float(batch_var))
    yours.append(float(var))

fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
seen = np.arange(1, 11)
ax.plot(seen, variances, "o", label="each batch alone")
ax.plot(seen, np.cumsum(variances) / seen, "--", label="average of the variances so far")
ax.plot(seen, yours, "s-", label="yours: all values so far")
ax.axhline(float(torch.cat(by_class).var(correction=0)), color="black", linewidth=1, label="all images at once")
ax.set(xlabel="batches seen (one class each)", ylabel="variance of the gray levels", xticks=seen)
ax.legend(fontsize=9)
plt.show()

# %% [markdown]
# ## 3. The statistics of hidden values
#
# *Difficulty* ●●●○○ · *25 minutes* · *14 points*
#
# Now let the network look at calibration data and gather, for each of the layers named, the mean and (biased) variance of
# each *output* channel, over all images of all batches and all positions:
#
# $$
# \mu_c = \frac{1}{m} \sum_{n,h,w} z_{nchw}
# \qquad
# \sigma^2_c = \frac{1}{m} \sum_{n,h,w} (z_{nchw} - \mu_c)^2
# $$
#
# where $n$ runs over the images of *all* batches and $z$ is what the layer puts out. The batches needn't be of
# equal size: the last one of an epoch rarely is.
#
# - **One batch at a time.** Joining all batches into one is what we can't afford. Neither can we keep all the outputs.
# - **No gradients.** Nothing is learned here; with gradients on, every hidden value would be kept.
# - **In evaluation mode,** whatever mode the network comes in, so that dropout is off. Afterwards it is back in the mode
#   in which it came.
# - **No trace.** The hooks are removed.
#
# The check includes a layer whose outputs lie around ten thousand, in `float32`.
#
# <details><summary>Hint 1: a question</summary>
#
# A hook has `output` in its hand, of shape $(N, C, H, W)$. Which three axes should be gone from its mean? And which $m$
# belongs to it?
#
# </details>
#
# <details><summary>Hint 2: what to keep</summary>
#
# Per layer three things: mean, variance and $m$ of all that was seen so far. The first batch sets them; every further
# batch is merged in, as in question 2. `output.var(dim=..., correction=0)` is the biased variance. (Summing $z$ and $z^2$
# instead loses the digits of a large mean, unless you subtract something near the mean first, or sum in `float64`.)
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# 1. Remember `model.training`; call `model.eval()`.
# 2. For every name, put a hook on `model.get_submodule(name)` which merges the output's moments into `seen[name]`.
# 3. Under `torch.no_grad()`, call the model on every batch.
# 4. In a `finally:` remove the hooks and put the mode back with `model.train(was_training)`.
# 5. Return `{name: (mean, var)}`.
#
# </details>


# %% nbgrader={"grade_id": "output_moments-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def output_moments(model, names, batches):
    """Mean and variance of each output channel of the named layers, over all batches.

    Parameters
    ----------
    model : torch.nn.Module
        As a whole in training or in evaluation mode. It is left as it was.
    names : list of str
        Layers whose outputs have the shape (N, C, H, W); each runs once per batch.
    batches : list of torch.Tensor
        Inputs of the network, not necessarily of equal size: ``model(batch)`` works.

    Returns
    -------
    moments : dict
        name -> (mean, var), tensors of shape (C,) which don't require gradients; var is biased.
    """
    ### BEGIN SOLUTION
    seen = {}

    def watch(name):
        def hook(module, inputs, output):
            axes = (0, 2, 3)
            mean, var, m = output.mean(axes), output.var(axes, correction=0), output[:, 0].numel()
            if name in seen:
                mean_a, var_a, m_a = seen[name]
                m_b, m, delta = m, m_a + m, mean - mean_a
                var = (m_a * var_a + m_b * var) / m + delta**2 * (m_a * m_b / m**2)
                mean = mean_a + delta * (m_b / m)
            seen[name] = mean, var, m

        return hook

    was_training = model.training
    handles = [model.get_submodule(name).register_forward_hook(watch(name)) for name in names]
    try:
        model.eval()
        with torch.no_grad():
            for batch in batches:
                model(batch)
    finally:
        for handle in handles:
            handle.remove()
        model.train(was_training)
    return {name: (mean, var) for name, (mean, var, m) in seen.items()}
    ### END SOLUTION


# %% nbgrader={"grade_id": "output_moments", "grade": true, "locked": true, "points": 14, "schema_version": 3, "solution": false, "task": false}
check("output_moments", output_moments)

# %% [markdown]
# **See it.** The standard deviations of all channels behind the six convolutions of the trained VGG, on 200 garments.
# *What you should see:* they aren't near 1. Without BN nothing has kept them there: channels of one layer differ several
# times over, and the layers differ, too. So a BN layer, which divides by these numbers, would change the network
# thoroughly, if its $\gamma$ and $\beta$ were the usual 1 and 0.

# %%
names = [f"features.{i}" for i in (0, 2, 5, 7, 10, 12)]
moments = output_moments(trained.small_vgg(), names, new_images[:200].split(64))

fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
for position, name in enumerate(names):
    std = moments[name][1].sqrt()
    spread = np.linspace(-0.25, 0.25, len(std))  # side by side, so that the dots don't cover each other
    ax.semilogy(position + spread, std.sort().values, "o", markersize=3, color="C0")
ax.axhline(1, color="black", linewidth=1)
ax.set_xticks(range(6), names)
ax.set(xlabel="layer (its channels from the smallest to the largest)", ylabel="standard deviation")
plt.show()

# %% [markdown]
# ## 4. A BN layer that changes nothing
#
# *Difficulty* ●●○○○ · *10 minutes* · *8 points*
#
# In evaluation mode an `nn.BatchNorm2d` computes, channel by channel,
#
# $$
# y = \gamma \, \frac{z - \text{running\_mean}}{\sqrt{\text{running\_var} + \varepsilon}} + \beta
# $$
#
# Its $\gamma$ is called `weight`, its $\beta$ `bias`; both are parameters. `running_mean` and `running_var` are buffers.
#
# Make such a layer from a mean, a variance and an $\varepsilon$: the mean and variance become its running
# statistics, as they are, and $\gamma$ and $\beta$ are the ones with which $y = z$ for every $z$. The layer is returned in
# evaluation mode. $\gamma$ and $\beta$ stay parameters that training can change.
#
# "Changes nothing" means: up to rounding, also for a channel that hardly varies, and for any $\varepsilon$.
#
# <details><summary>Hint 1: a question</summary>
#
# The layer subtracts one thing and divides by another. Which $\gamma$ and $\beta$ take that back, to the last term under
# the root?
#
# </details>
#
# <details><summary>Hint 2: filling in</summary>
#
# Parameters may be written in place where no gradient is recorded:
#
# ```python
# with torch.no_grad():
#     bn.running_mean.copy_(...)
#     bn.weight.copy_(...)
# ```
#
# The layer should have the dtype of `mean`: `nn.BatchNorm2d(..., dtype=mean.dtype)`.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# Make `nn.BatchNorm2d(len(mean), eps=eps, dtype=mean.dtype)`. Under `no_grad`, copy four things into it: the two buffers as
# given, `weight` is the root of variance plus eps, `bias` is the mean. Return `bn.eval()`.
#
# </details>


# %% nbgrader={"grade_id": "identity_norm-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def identity_norm(mean, var, eps):
    """A BN layer for images that is the identity in evaluation mode.

    Parameters
    ----------
    mean, var : torch.Tensor of shape (C,)
        Its running statistics. Must not be changed.
    eps : float
        Its eps. Positive.

    Returns
    -------
    bn : torch.nn.BatchNorm2d
        In evaluation mode, with the dtype of mean.

    References
    ----------
    Ioffe & Szegedy (2015), Section 3.
    """
    ### BEGIN SOLUTION
    bn = nn.BatchNorm2d(len(mean), eps=eps, dtype=mean.dtype)
    with torch.no_grad():
        bn.running_mean.copy_(mean)
        bn.running_var.copy_(var)
        bn.weight.copy_((var + eps).sqrt())
        bn.bias.copy_(mean)
    return bn.eval()
    ### END SOLUTION


# %% nbgrader={"grade_id": "identity_norm", "grade": true, "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
check("identity_norm", identity_norm)

# %% [markdown]
# **See it.** 73 channels whose variances go from a hundred-millionth to ten thousand pass through three BN layers: yours,
# one whose $\gamma$ forgets $\varepsilon = 10^{-5}$, and one with $\gamma$ = the variance. *What you should see:* yours
# stays at the bottom, at the rounding of `float32`. Without $\varepsilon$ the layer is fine for large variances and gets
# worse towards small ones, where it loses the channel altogether. The variance is right at exactly one place, where it
# is its own root: at 1.

# %%
var = torch.logspace(-8, 4, 73)
mean = torch.linspace(-1, 1, 73)
z = mean[:, None, None] + var.sqrt()[:, None, None] * torch.randn(1, 73, 8, 8, generator=torch.manual_seed(0))
layers = {"yours": identity_norm(mean, var, 1e-5)}
for label, gamma in (("gamma = sqrt(var)", var.sqrt()), ("gamma = var", var)):
    layers[label] = identity_norm(mean, var, 1e-5)
    layers[label].weight.data = gamma

fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
for (label, bn), style in zip(layers.items(), ("-", "--", ":"), strict=True):
    change = (bn(z) - z).detach().abs().amax((0, 2, 3)) / var.sqrt()
    ax.loglog(var, change + 1e-8, style, linewidth=2, label=label)
ax.set(xlabel="variance of the channel", ylabel="largest change, in standard deviations", ylim=(1e-8, 1e4))
ax.legend()
plt.show()

# %% [markdown]
# ## 5. Insert
#
# *Difficulty* ●●●●○ · *30 minutes* · *16 points*
#
# Now the operation itself: a new network, with a BN layer directly behind *every* `nn.Conv2d`, before whatever comes
# next. Its running statistics are those of the convolution's outputs on the calibration batches, and with its $\gamma$ and
# $\beta$ it changes nothing. In evaluation mode the new network answers what the old one did.
#
# Any way of putting the layer there is right. One that works for every network, however it is built: take the convolution
# out and put `nn.Sequential(convolution, bn)` in its place. Whoever called the convolution now calls the pair. If the
# convolution is called `features.block.conv`, its place is the attribute `conv` of the module `features.block`. That
# works for the numbered places of an `nn.Sequential` as well: `setattr(parent, "3", pair)`.
#
# - The new network is a copy that shares no parameter with the old one, which stays as it was: its layers, its mode,
#   without hooks.
# - It is returned in evaluation mode. All of the network's convolutions run, once per batch.
# - For the running variance take the biased or the unbiased one, as you like. Here it makes no difference worth
#   mentioning.
#
# You may call your functions from above, or write it out afresh. If you call them, their mistakes count here too.
#
# <details><summary>Hint 1: a question</summary>
#
# The statistics behind the fourth convolution depend on what the first three pass on. Must you insert the first BN, run
# the network again, insert the second, and so on? (What does an exact insertion do to what is passed on?)
#
# </details>
#
# <details><summary>Hint 2: the parent</summary>
#
# `"features.block.conv".rpartition(".")` is `("features.block", ".", "conv")`, and `"conv".rpartition(".")` is
# `("", "", "conv")`. `model.get_submodule("")` is the model itself.
#
# Collect the names *before* you change anything: a loop over `named_modules()` of a network that grows meanwhile finds the
# convolutions inside your new pairs again.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# 1. `new = copy.deepcopy(model).eval()`, and the names of all its `nn.Conv2d`.
# 2. One pass over the batches gives the moments behind all of them.
# 3. For every name: make the BN layer, find the parent, and set its attribute to `nn.Sequential(conv, bn)`.
# 4. Return `new.eval()`: a new layer begins in training mode.
#
# </details>


# %% nbgrader={"grade_id": "insert_batch_norm-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def insert_batch_norm(model, batches, eps):
    """A copy of a network with a BN layer behind every convolution, and the same outputs in evaluation.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode, without BN. It is left as it was.
    batches : list of torch.Tensor
        Calibration data: inputs of the network, not necessarily of equal size.
    eps : float
        Of the new layers. Positive.

    Returns
    -------
    new : torch.nn.Module
        In evaluation mode, of the same dtype.

    References
    ----------
    Ioffe & Szegedy (2015), Section 3.
    """
    ### BEGIN SOLUTION
    new = copy.deepcopy(model).eval()
    convolutions = {name: m for name, m in new.named_modules() if isinstance(m, nn.Conv2d)}

    seen = {}  # name -> mean, var, m of all values so far

    def watch(name):
        def hook(module, inputs, output):
            mean, var, m = output.mean((0, 2, 3)), output.var((0, 2, 3), correction=0), output[:, 0].numel()
            if name in seen:
                old_mean, old_var, old_m = seen[name]
                share, delta = m / (old_m + m), mean - old_mean
                var = (1 - share) * old_var + share * var + share * (1 - share) * delta**2
                mean, m = old_mean + share * delta, old_m + m
            seen[name] = mean, var, m

        return hook

    handles = [module.register_forward_hook(watch(name)) for name, module in convolutions.items()]
    with torch.no_grad():
        for batch in batches:
            new(batch)
    for handle in handles:
        handle.remove()

    for name, conv in convolutions.items():
        mean, var, _ = seen[name]
        bn = nn.BatchNorm2d(conv.out_channels, eps=eps, dtype=conv.weight.dtype)
        with torch.no_grad():
            bn.running_mean.copy_(mean)
            bn.running_var.copy_(var)
            bn.weight.copy_((var + eps).sqrt())
            bn.bias.copy_(mean)
        parent, _, child = name.rpartition(".")
        setattr(new.get_submodule(parent), child, nn.Sequential(conv, bn))
    return new.eval()
    ### END SOLUTION


# %% nbgrader={"grade_id": "insert_batch_norm", "grade": true, "locked": true, "points": 16, "schema_version": 3, "solution": false, "task": false}
check("insert_batch_norm", insert_batch_norm)

# %% [markdown]
# **See it.** The logits of the trained VGG for 200 test images, before (across) and after BN was inserted by your function
# (up). On the right the same network with $\gamma$ set to the variances instead of their roots. *What you should see:* on
# the left one straight line; loss and predictions are the old ones. On the right a cloud, with logits about ten times as
# large as before. Six layers, whose standard deviations aren't far from 1, still name most garments rightly, but the loss,
# which counts how sure a network is of its mistakes, is many times as large. Question 6 asks what 13 layers would do.

# %%
plain = trained.small_vgg()
inserted = insert_batch_norm(plain, new_images[:200].split(64), 1e-5)
spoiled = copy.deepcopy(inserted)
for module in spoiled.modules():
    if isinstance(module, nn.BatchNorm2d):
        module.weight.data = module.running_var.clone()

fig, axes = plt.subplots(1, 2, figsize=(6.4, 3.4), layout="constrained")
with torch.no_grad():
    before = plain(test_images)
    for ax, (label, network) in zip(axes, (("yours", inserted), ("gamma = var", spoiled)), strict=True):
        after = network(test_images)
        right, loss = 100 * (after.argmax(1) == test_labels).float().mean(), F.cross_entropy(after, test_labels)
        ax.plot(before.flatten(), after.flatten(), ".", markersize=2)
        ax.set_title(f"{label}: loss {loss:.2f}, {right:.1f}% right", fontsize=10)
        ax.set(xlabel="logit before", ylabel="logit after")
        print(f"{label:12} largest change of a logit {(after - before).abs().max():.1e}")
plt.show()

# %% [markdown]
# ## 6. Why is `gamma = var` hard to notice?
#
# *Difficulty* ●●○○○ · *10 minutes* · *4 points* · *a person reads this answer*
#
# A colleague inserts BN with `gamma = var` and `beta = mean` behind all convolutions. In a test with a single layer, fed
# with standard normal noise, "the outputs are the same but for rounding". In a trained VGG with 13 convolutions the
# outputs are nonsense.
#
# Explain both in about four sentences: by which factor does one such layer multiply the deviations from the mean? Why
# did the test miss it, and what happens over 13 layers? Which single change would have made the test notice?

# %% [markdown] nbgrader={"grade_id": "why_not_variance", "grade": true, "locked": false, "points": 4, "schema_version": 3, "solution": true, "task": false}
# The layer divides the deviations from the mean by $\sqrt{\sigma^2 + \varepsilon}$ and multiplies them by $\sigma^2$, so
# together by $\sigma^2 / \sqrt{\sigma^2 + \varepsilon} \approx \sigma$ instead of 1. Standard normal noise has $\sigma =
# 1$ in all channels, and 1 is its own square root: there the wrong factor happens to be right. In a trained network the
# channels' standard deviations are anything but 1, and the next layer gets the stretched values and stretches them again,
# so 13 factors multiply up (a mere 2 per layer makes $2^{13} = 8192$), differently for every channel. A test with channels
# whose standard deviations are far from 1 and differ from each other, 0.1 and 5, say, would have noticed.

# %% [markdown]
# ## 7. Fold one pair
#
# *Difficulty* ●●●○○ · *20 minutes* · *12 points*
#
# In evaluation mode BN multiplies each channel by a constant and adds another one:
#
# $$
# y = s z + t
# \qquad
# s = \frac{\gamma}{\sqrt{\text{running\_var} + \varepsilon}}
# \qquad
# t = \beta - s \cdot \text{running\_mean}
# $$
#
# The convolution before it is linear, $z = w * x + b$. So one convolution can do the work of both, with the weights and
# biases
#
# $$
# w' = s \, w
# \qquad
# b' = s \, b + t
# $$
#
# The weights of an `nn.Conv2d` have the shape (output channels, input channels / groups, height, width), and $s$
# belongs to the *output* channels. A convolution without bias has `conv.bias is None`; the folded one always has a bias.
# Everything else about it stays: kernel size, stride, padding, dilation, groups, dtype. (Padding with zeros is no
# problem here: it happens before the convolution, and BN comes behind.)
#
# <details><summary>Hint 1: a question</summary>
#
# If there are as many input as output channels, no shape complains when you multiply the wrong axis. Which shape must $s$
# have so that it lines up with the first axis of the weights?
#
# </details>
#
# <details><summary>Hint 2: the same convolution, with a bias</summary>
#
# `copy.deepcopy(conv)` keeps all settings. If it has no bias, give it one: `new.bias = nn.Parameter(torch.zeros(...))`.
# Which value of $b$ does "no bias" stand for?
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# 1. `s` and `t` from the layer's `weight`, `bias`, `running_mean`, `running_var`, `eps`.
# 2. The copy's weights are `conv.weight * s.reshape(-1, 1, 1, 1)`.
# 3. Its bias is `s * b + t`, with zeros for `b` if there is none. Wrap both in `nn.Parameter`, and `detach()` them.
#
# </details>


# %% nbgrader={"grade_id": "fold_pair-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def fold_pair(conv, bn):
    """One convolution that computes what a convolution and the BN layer behind it compute in evaluation.

    Parameters
    ----------
    conv : torch.nn.Conv2d
        With or without bias, with any stride, padding, dilation and groups. It is left as it was.
    bn : torch.nn.BatchNorm2d
        In evaluation mode, with gamma, beta and running statistics. It is left as it was.

    Returns
    -------
    folded : torch.nn.Conv2d
        A new one, with bias.

    References
    ----------
    Jacob et al. (2018), Quantization and Training of Neural Networks, Section 3.2.
    """
    ### BEGIN SOLUTION
    with torch.no_grad():
        s = bn.weight / torch.sqrt(bn.running_var + bn.eps)
        t = bn.bias - s * bn.running_mean
        b = torch.zeros_like(t) if conv.bias is None else conv.bias
        folded = copy.deepcopy(conv)
        folded.weight = nn.Parameter(conv.weight * s.reshape(-1, 1, 1, 1))
        folded.bias = nn.Parameter(s * b + t)
    return folded
    ### END SOLUTION


# %% nbgrader={"grade_id": "fold_pair", "grade": true, "locked": true, "points": 12, "schema_version": 3, "solution": false, "task": false}
check("fold_pair", fold_pair)

# %% [markdown]
# **See it.** The first convolution of the trained VGG, with a BN layer behind it, looks at a shoe. Left: one channel after
# convolution and BN. Middle: the same channel after your folded convolution alone. Right: their difference, a million
# times enlarged. *What you should see:* twice the same picture, and a speckle of rounding errors of less than one
# millionth.

# %%
conv = trained.small_vgg().features[0]
bn = nn.BatchNorm2d(16).eval()
generator = torch.manual_seed(1)
with torch.no_grad():
    bn.running_mean.uniform_(-1, 1, generator=generator)
    bn.running_var.uniform_(0.5, 2, generator=generator)
    bn.bias.uniform_(-1, 1, generator=generator)
    shoe = new_images[new_labels == 9][:1]
    two, one = bn(conv(shoe))[0, 3], fold_pair(conv, bn)(shoe)[0, 3]

fig, axes = plt.subplots(1, 3, figsize=(6.4, 2.5), layout="constrained")
titles = ("convolution, then BN", "your folded convolution", "difference × 1,000,000")
for ax, title, picture in zip(axes, titles, (two, one, 1e6 * (one - two)), strict=True):
    shown = ax.imshow(picture, cmap="gray")
    fig.colorbar(shown, ax=ax, orientation="horizontal", shrink=0.9)
    ax.set_title(title, fontsize=10)
    ax.set_axis_off()
plt.show()

# %% [markdown]
# ## 8. Fold a network
#
# *Difficulty* ●●●○○ · *15 minutes* · *8 points*
#
# Before a network goes into use, its BN layers can go. Return a copy in which each `nn.BatchNorm2d` that stands
# *directly behind* an `nn.Conv2d` in the same `nn.Sequential` is folded into that convolution. In its place comes an
# `nn.Identity()`, which returns what it is given. So all positions, and the names of all other layers, stay the same.
#
# A BN layer that stands elsewhere, behind a ReLU or a pooling or at the beginning, stays: a ReLU stands between the two
# straight lines, and then they don't make one. The `nn.Sequential`s may lie inside other modules, to any depth.
#
# You may call your `fold_pair`, or write it out afresh. If you call it, its mistakes count here too.
#
# <details><summary>Hint 1: a question</summary>
#
# How do you get every `nn.Sequential` of a network, including those inside others and the network itself, if it is one?
#
# </details>
#
# <details><summary>Hint 2: neighbors</summary>
#
# An `nn.Sequential` is like a list: `len(seq)`, `seq[i]`, `seq[i] = layer`. Look at `seq[i - 1]` and `seq[i]` for `i` from 1 on.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# 1. Copy the network with `copy.deepcopy`.
# 2. For each of its `modules()` that is an `nn.Sequential`, and each pair of neighbors in it: if the first is an
#    `nn.Conv2d` and the second an `nn.BatchNorm2d`, put the folded convolution into the first place and an `nn.Identity()`
#    into the second.
# 3. Return the copy.
#
# (`list(new.modules())` first: then nothing is changed while you walk over it.)
#
# </details>


# %% nbgrader={"grade_id": "fold_batch_norm-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def fold_batch_norm(model):
    """A copy of a network in which BN layers are folded into the convolutions directly before them.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode. It is left as it was.

    Returns
    -------
    folded : torch.nn.Module
        In evaluation mode, with the same outputs. Where a BN layer was folded there is a `torch.nn.Identity`.
    """
    ### BEGIN SOLUTION
    folded = copy.deepcopy(model)
    for sequence in list(folded.modules()):
        if not isinstance(sequence, nn.Sequential):
            continue
        for i in range(1, len(sequence)):
            conv, bn = sequence[i - 1], sequence[i]
            if isinstance(conv, nn.Conv2d) and isinstance(bn, nn.BatchNorm2d):
                with torch.no_grad():
                    s = bn.weight / torch.sqrt(bn.running_var + bn.eps)
                    b = 0 if conv.bias is None else conv.bias
                    conv.bias = nn.Parameter(s * (b - bn.running_mean) + bn.bias)
                    conv.weight = nn.Parameter(conv.weight * s[:, None, None, None])
                sequence[i] = nn.Identity()
    return folded
    ### END SOLUTION


# %% nbgrader={"grade_id": "fold_batch_norm", "grade": true, "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
check("fold_batch_norm", fold_batch_norm)

# %% [markdown]
# **See it.** The round trip: the trained VGG, with BN behind every convolution (as a finished tool of the course inserts
# it), and folded again by your function. *What you should see:* 448 parameters more in the middle, in six BN layers.
# After folding the six are gone, the number of parameters is the old one, and no weight differs from the original by more
# than rounding. Without BN the network is a little faster, too; how much depends on the machine.

# %%
from bnlab import retrofit

plain = trained.small_vgg()
with_bn = retrofit.insert_batch_norm(plain, new_images[:50], layers=["features"]).eval()
networks = {"as trained": plain, "with BN": with_bn, "folded": fold_batch_norm(with_bn)}
for label, network in networks.items():
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    parameters = sum(parameter.numel() for parameter in network.parameters())
    durations = []
    with torch.no_grad():
        for _ in range(5):
            start = time.perf_counter()
            network(test_images[:20])
            durations.append(1000 * (time.perf_counter() - start))
    print(f"{label:12} {norms} BN layers  {parameters:,} parameters  {np.median(durations):5.1f} ms for 20 images")
pairs = zip(plain.parameters(), networks["folded"].parameters(), strict=True)
print(f"largest difference of a weight after the round trip: {max((a - b).abs().max().item() for a, b in pairs):.0e}")

# %% [markdown]
# ## 9. Recalibrate
#
# *Difficulty* ●●●○○ · *20 minutes* · *8 points*
#
# BN's running statistics are numbers about data. If the data change, or if the running averages lag behind the weights, you
# can measure them anew: no labels, no gradient, no step. This is called *precise BN*; on data of another kind, AdaBN.
#
# - **Every BN layer normalizes with the statistics of the batch,** as in training, while you measure: each layer must see
#   what the layers before it will send once they are repaired.
# - The new `running_mean` of a layer is the plain average, over the batches, of the means of its input; the new
#   `running_var` is the plain average of the *unbiased* variances. What was there before is forgotten.
# - **Everything else is in evaluation mode** (dropout off), and nothing else changes: no weight, no $\gamma$, no $\beta$,
#   and the layers' `momentum` and modes are afterwards what they were.
#
# (Didn't question 2 say that averaging variances misses something? There the batches differed: each was a class of its
# own. These here are drawn at random and of equal size, so each *unbiased* variance is an estimate of the same number,
# and the average is a better one.)
#
# PyTorch can do the averaging for you. With `momentum = None` a BN layer doesn't forget: its running statistics are
# the plain average over all batches since `reset_running_stats()`, and `num_batches_tracked` counts them.
#
# <details><summary>Hint 1: a question</summary>
#
# With `momentum = 0.1`, how much of the old statistics is left after 5 batches? ($0.9^5$ = ?)
#
# </details>
#
# <details><summary>Hint 2: who is in which mode</summary>
#
# `model.eval()` puts everything into evaluation mode, then `layer.train()` puts one layer into training mode. Remember
# for each BN layer what its `momentum` was.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# 1. `model.eval()`; the list of all `nn.BatchNorm2d`; their momenta.
# 2. For each: `reset_running_stats()`, `momentum = None`, `train()`.
# 3. Under `torch.no_grad()`, call the model on every batch.
# 4. For each: `momentum` back, `eval()`. Return the model.
#
# </details>


# %% nbgrader={"grade_id": "recalibrate-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def recalibrate(model, batches):
    """Replace the running statistics of all BN layers by averages over the given batches.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode, with `torch.nn.BatchNorm2d` layers that each run once per batch. It is changed in place: the
        running statistics, nothing else.
    batches : list of torch.Tensor
        Inputs of the network, all of equal size.

    Returns
    -------
    model : torch.nn.Module
        The same one, in evaluation mode.

    References
    ----------
    Wu & Johnson (2021), Rethinking "Batch" in BatchNorm, Section 3.
    Li et al. (2016), Revisiting Batch Normalization for Practical Domain Adaptation.
    """
    ### BEGIN SOLUTION
    model.eval()
    layers = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    with torch.no_grad():
        for batch in batches:
            model(batch)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()
    return model
    ### END SOLUTION


# %% nbgrader={"grade_id": "recalibrate", "grade": true, "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
check("recalibrate", recalibrate)

# %% [markdown]
# **See it.** The trained VGG with BN looks at garments through three kinds of bad light: *dim* (gray levels times 0.15),
# *fog* (everything is gray, with little contrast), and *negatives* (black for white). Then your function recalibrates it on
# 75 other images in the same light, without their labels. *What you should see:* in clear light the network is right on
# nearly 90%. Dim light costs about 15 points and recalibration gives all of them back. In fog the network only guesses, and
# after recalibration it is nearly as good as in clear light. But negatives stay at guessing: there it isn't the mean and
# the spread of the hidden values that are wrong.

# %%
from bnlab import retrofit

with_bn = retrofit.insert_batch_norm(trained.small_vgg(), new_images[:100], layers=["features"]).eval()
some_images = test_images[:100]
lights = {
    "clear": lambda x: x,
    "dim": lambda x: 0.15 * x,
    "fog": lambda x: 0.3 + 0.3 * x,
    "negatives": lambda x: 1 - x,
}
before, after = [], []
for light in lights.values():
    network = copy.deepcopy(with_bn)
    before.append(accuracy(network, light(some_images)))
    network = recalibrate(network, light(new_images[:75]).split(25))
    after.append(accuracy(network, light(some_images)))

fig, axes = plt.subplots(1, 2, figsize=(6.4, 3.4), layout="constrained", width_ratios=(1, 2))
looks = [light(test_images[9, 0]) for light in lights.values()]
axes[0].imshow(torch.cat([torch.cat(looks[:2], 1), torch.cat(looks[2:], 1)]), cmap="gray", vmin=0, vmax=1)
axes[0].set_title("clear, dim\nfog, negatives", fontsize=10)
axes[0].set_axis_off()
places = np.arange(len(lights))
axes[1].bar(places - 0.2, before, 0.4, label="as it was")
axes[1].bar(places + 0.2, after, 0.4, hatch="//", label="recalibrated")
axes[1].axhline(10, color="black", linewidth=1, linestyle=":", label="guessing")
axes[1].set_xticks(places, list(lights))
axes[1].set(ylabel="right, in %", ylim=(0, 125), yticks=range(0, 101, 20))
axes[1].legend(ncols=3, fontsize=8)
plt.show()

# %% [markdown]
# ## 10. Train further
#
# *Difficulty* ●●○○○ · *15 minutes* · *7 points*
#
# Last, train the network a few steps further: plain gradient descent, one step per batch, every parameter $p$ by
#
# $$
# p \leftarrow p - \text{rate} \cdot \frac{\partial \text{loss}}{\partial p}
# $$
#
# where the loss is the mean cross-entropy of the batch (`F.cross_entropy`). All parameters learn: weights, biases, and every
# $\gamma$ and $\beta$. There are two ways to treat the statistics:
#
# | | the BN layers normalize with | running statistics |
# |---|---|---|
# | `frozen=False` | the statistics of the batch | follow the batches, as always in training |
# | `frozen=True` | the running statistics | stay as they are |
#
# The second is for batches too small to have statistics worth the name. Everything but the BN layers (dropout, for
# example) is in training mode in both cases.
#
# Return the losses, each computed *before* its step. The network is changed in place and left in evaluation mode. Gradients
# that it carries from earlier must not count.
#
# <details><summary>Hint 1: a question</summary>
#
# Which of these freezes a BN layer's *statistics*: `requires_grad_(False)` on its parameters, or `eval()`?
#
# </details>
#
# <details><summary>Hint 2: the order of two calls</summary>
#
# `model.train()` puts *everything* inside into training mode. So it comes first, and the exceptions after it.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# 1. `model.train()`; if frozen, `eval()` for each `nn.BatchNorm2d`.
# 2. For each batch: forget old gradients, compute the loss, `backward()`, note `loss.item()`, take the step (with
#    `torch.optim.SGD`, or by hand under `torch.no_grad()`).
# 3. `model.eval()`; return the list.
#
# </details>


# %% nbgrader={"grade_id": "fine_tune-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def fine_tune(model, batches, rate, frozen):
    """Train a network further by gradient descent, with live or frozen BN statistics.

    Parameters
    ----------
    model : torch.nn.Module
        Maps images to logits. It is changed in place and left in evaluation mode.
    batches : list of (x, y)
        Images, and their classes as whole numbers of shape (N,). One step for each.
    rate : float
        Learning rate.
    frozen : bool
        Whether the BN layers (`torch.nn.BatchNorm2d`) normalize with their running statistics and keep them.

    Returns
    -------
    losses : list of float
        Mean cross-entropy of each batch, before its step.
    """
    ### BEGIN SOLUTION
    model.train()
    if frozen:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    losses = []
    for x, y in batches:
        model.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= rate * parameter.grad
        losses.append(loss.item())
    model.eval()
    return losses
    ### END SOLUTION


# %% nbgrader={"grade_id": "fine_tune", "grade": true, "locked": true, "points": 7, "schema_version": 3, "solution": false, "task": false}
check("fine_tune", fine_tune)

# %% [markdown]
# **See it.** Negatives again, which recalibration alone couldn't repair. The trained VGG with BN is trained further on 160
# labeled negatives: ten steps with 16 images each, with live and with frozen statistics, at two learning rates. (With
# frozen statistics BN layers are fixed straight lines, so the network learns much as one without BN does.) *What you
# should see:* before, about one in nine of 100 test images is right, and with the smaller rate ten steps bring it to
# around 40% or more. Live statistics bear the larger rate as well. For frozen ones it is too large: there they fall far
# behind. On the left, live statistics begin with the *higher* loss; question 11 asks why. (It is one run each: don't read
# anything into small gaps.)

# %%
from bnlab import retrofit

with_bn = retrofit.insert_batch_norm(trained.small_vgg(), new_images[:100], layers=["features"]).eval()
batches = [(1 - new_images[i : i + 16], new_labels[i : i + 16]) for i in range(0, 160, 16)]
negatives, rates = 1 - test_images[:100], (0.03, 0.1)
fig, axes = plt.subplots(1, 2, figsize=(6.4, 3.4), layout="constrained")
for label, frozen, style in (("live statistics", False, "o-"), ("frozen statistics", True, "s--")):
    right = []
    for rate in rates:
        network = copy.deepcopy(with_bn)
        losses = fine_tune(network, batches, rate, frozen)
        right.append(accuracy(network, negatives))
        if rate == 0.03:
            axes[0].plot(range(1, 11), losses, style, markersize=4, label=label)
    axes[1].plot(rates, right, style, label=label)
axes[0].set(xlabel="step", ylabel="loss before the step", title="rate 0.03")
axes[1].axhline(accuracy(with_bn, negatives), color="black", linewidth=1, linestyle=":", label="before")
axes[1].set(xlabel="learning rate", ylabel="negatives right, in %", xscale="log", ylim=(0, 80), title="after 10 steps")
axes[1].minorticks_off()
axes[1].set_xticks(rates, [str(rate) for rate in rates], minor=False)
axes[1].legend(fontsize=8)
plt.show()

# %% [markdown]
# ## 11. The first step
#
# *Difficulty* ●●○○○ · *10 minutes* · *4 points* · *a person reads this answer*
#
# You have inserted BN, and your test shows: in evaluation mode no output changes. You start to train further, with batches
# of 8 images. The very first loss, computed before any step, is clearly higher than that of the network without BN on the
# same batch. A classmate says: "So the insertion must have been wrong."
#
# In about four sentences: why is it not wrong? On what does the size of the jump depend? Name one thing you could do
# about it, and what that costs.

# %% [markdown] nbgrader={"grade_id": "first_step", "grade": true, "locked": false, "points": 4, "schema_version": 3, "solution": true, "task": false}
# The insertion is exact in evaluation mode, where BN divides by the running statistics for which $\gamma$ and $\beta$ were
# made. In training mode it normalizes with the mean and variance of the batch, and $\gamma$ and $\beta$ undo *other* numbers
# than these; so the outputs change before any step, and each image's output depends on its batch mates. The jump grows with
# the distance between the batch's statistics and the running ones: it is larger for small batches (noisier statistics, worst
# where a layer has few positions), for calibration data unlike the training data, and it adds up over the layers. One can
# keep the BN layers in evaluation mode (frozen statistics): then there is no jump, but the layers are fixed affine maps and
# the network trains without BN's normalization of the batch. Or use larger batches, which costs memory and time.

# %% [markdown]
# ## What you learned
#
# - A hook sees what a layer puts out, in the order in which layers really run. Hooks that stay behind are a bug.
# - Moments of batches merge exactly: weigh by the number of values, and add the variance *of the means*.
# - BN can be put into a trained network without changing an answer: $\gamma = \sqrt{\sigma^2 + \varepsilon}$ and $\beta =
#   \mu$, for whatever statistics. Not $\gamma = \sigma^2$, which is right for $\sigma = 1$ alone.
# - This holds in evaluation mode. In training mode the batch's own statistics come in, at once.
# - In evaluation BN is a straight line per channel, and folds into the convolution before it: $w' = s\,w$, $b' = s\,b + t$.
# - Running statistics can be measured anew, without labels. Forget the old ones, and average over all batches.
# - Freezing the statistics is a matter of modes, freezing parameters is a matter of gradients. They are different things.
#
# ## Going further
#
# Not graded.
#
# 1. `bnlab.retrofit.insert_batch_norm` also treats linear layers, transposed convolutions, and layers that are called
#    twice. Which of your functions would have to change for each of them?
# 2. Two straight lines in the other order: fold a BN layer into the convolution *behind* it. When does padding with zeros
#    forbid it? (The chapter *Folding for inference* has the answer.)
# 3. Do it to a real VGG-16: `python -m bnlab.pretrained fetch .` gets its convolutions, 61 MB. How large is $\gamma$ in each
#    layer for your own photographs?
# 4. Recalibrate with batches of 2 images and with batches of 100. Are the statistics the same? Which would you use for a
#    network that will see one image at a time?
