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
# # Problem set 5: Covariate shift, outside and inside
#
# A network learns from dark gray clothes and then meets colored ones. You break it, measure what moved, and repair it
# without a single label. Then you look inside: do the layers of a network shift the ground under each other, as the
# paper on batch normalization (BN) says, and does BN stop that? At the end you measure what BN does to gradients and
# learning rates, with instruments that can also say no.
#
# **Afterwards you can**
#
# - say how far a feature has moved, in units that compare across features;
# - evaluate a network without changing it, and without letting the examples influence each other;
# - repair a network under covariate shift by its BN statistics alone (AdaBN), and say when that backfires;
# - measure internal covariate shift by the gradients, and scale invariance by an experiment of two lines;
# - run a learning-rate range test that leaves no trace, and compare two networks at their own best learning rates.
#
# **Time:** a bit more than three hours; questions 1 to 4 and questions 5 to 9 make two good halves. **You need:**
# PyTorch (modules, `torch.autograd.grad`, training and evaluation mode) and NumPy. The chapters *Covariate shift*,
# *Internal covariate shift* and *Training speed* of the book are the theory to this practice. No graphics card: the
# networks are tiny.
#
# ## How to work
#
# 1. Run the cells from the top. Where a cell says `raise NotImplementedError()`, replace that line by your code.
# 2. Run the cell below it. It checks your function on several random inputs and tells you what is right, what isn't
#    yet, and what the likely mistake is. Try again as often as you like.
# 3. Points are given part by part, so half a solution earns something. The questions don't depend on each other: skip
#    one and come back later. A figure that uses an unanswered function shows `NotImplementedError`; this costs nothing.
# 4. Stuck? Every question has three hints. Open one at a time.
# 5. Two questions ask for a few sentences instead of code. A person reads those.
# 6. Before you hand in, type `bnlab check ps5_covariate_shift.ipynb` in a terminal. It runs the notebook from top to
#    bottom in a fresh kernel, as the grader will, with a table of your points. The grader draws other random inputs.
#
# Keep the cells that are here. You may add cells of your own.
#
# **Conventions.** Images are tensors of shape $(N, C, H, W)$. Where a function is given a model, the model it leaves
# behind matters as much as what it returns: read what may change. The checks allow for rounding, in `float32` and in
# `float64`; numbers may be Python's, NumPy's or tensors without axes.
#
# | question | difficulty | minutes | points |
# |---|---|---|---|
# | 1. `tint` | ●○○○○ | 10 | 6 |
# | 2. `shift_size` | ●●○○○ | 15 | 10 |
# | 3. `accuracy` | ●●○○○ | 20 | 10 |
# | 4. `adapt` | ●●●●○ | 40 | 18 |
# | 5. `what_adabn_repairs` | ●●○○○ | 10 | 4 |
# | 6. `gradient_change` | ●●●●○ | 25 | 14 |
# | 7. `what_noisy_bn_shows` | ●●○○○ | 10 | 4 |
# | 8. `scale_test` | ●●●○○ | 15 | 8 |
# | 9. `range_test` | ●●●○○ | 25 | 12 |
# | 10. `suggest_rate` | ●●○○○ | 10 | 6 |
# | 11. `compare` | ●●○○○ | 15 | 8 |

# %%
import copy

import matplotlib.pyplot as plt
import numpy as np
import torch
from checks import check
from torch import nn
from torch.nn import functional as F

from bnlab import datasets
from bnlab.ensemble import BatchNorm, Ensemble, fit
from bnlab.experiments import color_shift
from bnlab.models import MLP, SmallConv
from bnlab.training import seeded, sgd, train

digits = datasets.digits()  # 1,797 handwritten digits of 8x8 pixels, for figures

# %% [markdown]
# ## 1. Give the images a color
#
# *Difficulty* ●○○○○ · *10 minutes* · *6 points*
#
# A *covariate shift* changes the inputs $x$ and leaves the relation of $x$ to the label $y$ alone. Color is the
# simplest one: a ginger cat is a cat. So the first thing to build is a shift. Gray images have one channel, colored
# ones three: red, green, blue. Under a light (or a dye) of color $t_n = (t_{n1}, t_{n2}, t_{n3})$ every pixel of image
# $n$ is as bright in channel $c$ as it was before, times $t_{nc}$:
#
# $$
# \text{colored}_{nchw} = t_{nc} \; \text{gray}_{n1hw}
# $$
#
# Every image has a color of its own. Black stays black. The labels need no function: they stay what they are.
#
# <details><summary>Hint 1: a question</summary>
#
# The images have the shape $(N, 1, H, W)$, the result has $(N, 3, H, W)$. Which axes of the colors, $(N, 3)$, belong to
# which axes of the result?
#
# </details>
#
# <details><summary>Hint 2: broadcasting</summary>
#
# PyTorch lines up shapes from the right, as NumPy does, and stretches axes of length 1. So the colors need two more
# axes of length 1, at the end. Indexing with `None` makes one, and so do `reshape` and `unsqueeze`.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# One line: the images times the colors, after the colors have been given the shape $(N, 3, 1, 1)$. The images' axis of
# length 1 is stretched to the three channels by itself.
#
# </details>


# %% nbgrader={"grade_id": "tint-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def tint(images, colors):
    """Give each gray image a color.

    Parameters
    ----------
    images : tensor of shape (N, 1, H, W)
        Brightness in [0, 1]. Must not be changed.
    colors : tensor of shape (N, 3)
        Red, green and blue in [0, 1], one color for each image.

    Returns
    -------
    colored : tensor of shape (N, 3, H, W)
        Channel c of image n is the image times colors[n, c].
    """
    ### BEGIN SOLUTION
    return images * colors[:, :, None, None]
    ### END SOLUTION


# %% nbgrader={"grade_id": "tint", "grade": true, "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
check("tint", tint)

# %% [markdown]
# **See it.** Ten garments from Fashion-MNIST, one of each class, in gray and with your `tint` in colors all around the
# color circle. *What you should see:* the same ten garments twice, in gray above and each in another color below. You
# have no trouble naming them in either row: that is what "the relation of $x$ to $y$ is unchanged" means.

# %%
garments = torch.tensor(datasets.fashion(10, 10).x_test)
colors = torch.tensor(color_shift.hues(10, 1.0, seed=4), dtype=torch.float32)
rows = {"gray": garments.expand(-1, 3, -1, -1), "yours": tint(garments, colors)}

fig, axes = plt.subplots(2, 10, figsize=(6.4, 1.8), layout="constrained")
for row, (name, images) in zip(axes, rows.items(), strict=True):
    for ax, image in zip(row, images, strict=True):
        ax.imshow(image.permute(1, 2, 0).clamp(0, 1))
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(name)
plt.show()

# %% [markdown]
# ## 2. How far has a feature moved?
#
# *Difficulty* ●●○○○ · *15 minutes* · *10 points*
#
# Two samples: `source`, what the network learned from, and `target`, what it meets now. Has anything shifted, and how
# much? "The mean rose by 3" says nothing as long as nobody knows whether the feature varies by 0.1 or by 1000. So the
# move of the mean is measured in standard deviations. This is the *standardized mean difference*, one number for each
# feature $j$:
#
# $$
# d_j = \frac{\mu^\text{target}_j - \mu^\text{source}_j}
#            {\sqrt{\tfrac12 \left( \sigma^{2\,\text{source}}_j + \sigma^{2\,\text{target}}_j \right)}}
# \qquad\qquad
# r_j = \frac{\sigma^\text{target}_j}{\sigma^\text{source}_j}
# $$
#
# The denominator takes both samples alike, whatever their sizes: average the two *variances*, then take the root. The
# second number, the ratio of the standard deviations, sees what the first one can't: a feature may keep its mean and
# become twice as wide. Both samples stand for more data than you have, so the variances are the unbiased ones
# (divide by $N - 1$).
#
# The pixel in the corner of an image is often black in all images. Such a feature is constant, has the same value in
# both samples, and clearly has not shifted: there, return $d_j = 0$ and $r_j = 1$, not `nan`.
#
# <details><summary>Hint 1: a question</summary>
#
# `source` has shape $(N, D)$ and `target` $(M, D)$. What must the shape of `d` be, and over which axis are the
# statistics taken? Can you subtract the samples themselves?
#
# </details>
#
# <details><summary>Hint 2: two variances, one root</summary>
#
# Compute the mean and the variance of each sample by itself, along axis 0. Joining the samples and taking the standard
# deviation of all would count the move itself as spread. What does `Tensor.var` divide by unless you tell it otherwise?
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# Two means, two variances. `d` is a difference divided by a root, `r` the root of a ratio. Find the features where
# both variances are 0 and the means are equal, and use `torch.where(still, 0.0, d)` and the like for them. (0/0 is
# `nan` in a tensor, not an error, so you may divide first and mend afterwards.)
#
# </details>


# %% nbgrader={"grade_id": "shift_size-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def shift_size(source, target):
    """How far each feature has moved and how much wider it has become, from one sample to another.

    Parameters
    ----------
    source : tensor of shape (N, D)
        N >= 2. Must not be changed.
    target : tensor of shape (M, D)
        M >= 2, and not necessarily N. Must not be changed.

    Returns
    -------
    d : tensor of shape (D,)
        Standardized mean difference, positive where the target's mean is larger.
    r : tensor of shape (D,)
        Standard deviation of the target divided by that of the source. A feature that is one and the same constant in
        both samples has d = 0 and r = 1.

    References
    ----------
    Cohen (1988), Statistical power analysis for the behavioral sciences, section 2.2.
    """
    ### BEGIN SOLUTION
    move = target.mean(dim=0) - source.mean(dim=0)
    var_source, var_target = source.var(dim=0), target.var(dim=0)
    still = (var_source == 0) & (var_target == 0) & (move == 0)
    d = move / ((var_source + var_target) / 2).sqrt()
    r = (var_target / var_source).sqrt()
    return torch.where(still, 0.0, d), torch.where(still, 1.0, r)
    ### END SOLUTION


# %% nbgrader={"grade_id": "shift_size", "grade": true, "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
check("shift_size", shift_size)

# %% [markdown]
# **See it.** Four versions of 500 garments on a gray background: dark gray ones, as the networks below learn them, against
# dark garments under an orange lamp, garments that are all orange, and garments with a color each. The features are the
# mean brightness of an image in red, green and blue. *What you should see:* the lamp moves blue by many standard
# deviations and makes it far narrower; the orange dye moves red up and blue down. With a color for each garment the means
# move by about half a standard deviation, and what changes most is the spread: three times as wide. Whoever looks at
# means alone finds little there.

# %%
garments = datasets.fashion(10, 500).x_test[:, 0, ::2, ::2]
versions = color_shift.shifted(garments, seed=3)
features = {key: torch.tensor(images).mean(dim=(2, 3)) for key, images in versions.items()}
source = features["colors", 0.0]
kinds = ("lamp", "ginger", "colors")

fig, axes = plt.subplots(1, 2, figsize=(6.4, 3.2), layout="constrained")
for k, kind in enumerate(kinds):
    d, r = shift_size(source, features[kind, 1.0])
    for ax, values in zip(axes, (d, r), strict=True):
        for channel, (color, marker) in enumerate(zip(("tab:red", "tab:green", "tab:blue"), "os^", strict=True)):
            ax.plot(k + 0.2 * (channel - 1), values[channel], marker, color=color)
for ax, title, nothing in zip(axes, ("d: move of the mean", "r: ratio of spreads"), (0, 1), strict=True):
    ax.axhline(nothing, color="black", linewidth=1)
    ax.set(title=title, xticks=range(3), xticklabels=kinds, xlim=(-0.5, 2.5))
axes[1].set_yscale("log")
plt.show()

# %% [markdown]
# ## A network to break
#
# Nothing to do in this cell but to run it: in about a second it trains two small convolutional networks, with BN and
# without, on 2,000 *dark gray* garments of 14x14 pixels. The figures of questions 3 and 4 use them.


# %%
def halved(garments):  # 28x28 pixels become 14x14
    return garments.reshape(len(garments), 14, 2, 14, 2).mean(axis=(2, 4))


def in_batches(images, labels, size=100):
    return list(zip(torch.tensor(images).split(size), torch.tensor(labels).split(size), strict=True))


shipped = datasets.fashion(3000, 500)
gray = color_shift.dye(halved(shipped.x_train[:2000]), np.full(3, color_shift.GRAY))
unlabeled = color_shift.shifted(halved(shipped.x_train[2000:]), seed=4)  # for adapting, without their labels
to_test = color_shift.shifted(halved(shipped.x_test), seed=3)  # other garments, for testing
learned = datasets.Dataset(gray, shipped.y_train[:2000], gray[:1], shipped.y_train[:1], shipped.classes)
networks = {}
for name, norm, rate in (("without BN", None, 0.05), ("with BN", nn.BatchNorm2d, 0.1)):
    plan = (8, "M", 16, "M", 32)
    network = seeded(0, lambda norm=norm, plan=plan: SmallConv(norm, plan, size=14, in_channels=3))
    networks[name] = nn.Sequential(color_shift.InputScaling(gray), network).to(memory_format=torch.channels_last)
    optimizer = sgd(networks[name], rate)
    history = train(networks[name], learned, optimizer, steps=80, batch_size=50, seed=0, schedule=lambda done: 1 - done)
    print(f"{name}: loss of the last batches {history.train_loss[-10:].mean():.2f}")

# %% [markdown]
# ## 3. Evaluate, and change nothing
#
# *Difficulty* ●●○○○ · *20 minutes* · *10 points*
#
# How many of the examples does a classifier get right? The data come in batches, and the model's output for a batch is
# an array of scores (logits), one row for each example: it votes for the class with the largest. So far it is one line.
# What makes it a question worth asking is everything around that line:
#
# - **The mode.** In training mode BN normalizes by the batch, so the answer for one example depends on which others it
#   came with, and every batch you show moves the running statistics: you would be changing what you measure. Evaluate in
#   evaluation mode.
# - **Manners.** The caller may be in the middle of training. Leave every module in the mode in which you found it. Not
#   all of them must be in the same: a BN layer may have been *frozen* on purpose, that is, set to evaluation mode
#   within a model that trains.
# - **The last batch** is often smaller. Every example counts alike, so not every batch does.
# - **No gradients.** Recording the operations for a backward pass costs memory and is of no use here.
#
# <details><summary>Hint 1: a question</summary>
#
# Ten batches of 100 and a last one with a single example. If the network gets that one wrong, by how much may the
# accuracy fall?
#
# </details>
#
# <details><summary>Hint 2: the tools</summary>
#
# `model.eval()` switches every module inside `model`; `model.modules()` lists them all, and each has an attribute
# `training` that you can read and set. `with torch.no_grad():` switches recording off. `logits.argmax(dim=1)` is the
# vote for each example.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# Note the mode of every module in a dictionary. Switch to evaluation mode. Without gradients, for each batch, add up
# the number of right answers and the number of examples. Write the noted modes back. Return the one sum divided by the
# other. (With `try ... finally`, the modes come back even if a batch raises an error.)
#
# </details>


# %% nbgrader={"grade_id": "accuracy-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def accuracy(model, batches):
    """Fraction of the examples that a classifier gets right, in evaluation mode.

    Parameters
    ----------
    model : torch.nn.Module
        Maps (N, ...) to logits (N, classes). Afterwards its parameters, buffers and the mode of every module are
        what they were before.
    batches : list of (x, y)
        x a tensor of shape (N, ...), y a tensor of int64 of shape (N,) with the labels. N may differ between batches.

    Returns
    -------
    fraction : float
        Between 0 and 1.
    """
    ### BEGIN SOLUTION
    modes = {module: module.training for module in model.modules()}
    model.eval()
    right = total = 0
    try:
        with torch.no_grad():
            for x, y in batches:
                right += (model(x).argmax(dim=1) == y).sum().item()
                total += len(y)
    finally:
        for module, mode in modes.items():
            module.training = mode
    return right / total
    ### END SOLUTION


# %% nbgrader={"grade_id": "accuracy", "grade": true, "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
check("accuracy", accuracy)

# %% [markdown]
# **See it.** The two networks, trained on dark gray, are evaluated on 500 other garments whose color gets stronger and
# stronger. (Each network sees its inputs standardized with the statistics of the gray images.) *What you should see:*
# both begin near 80% and both fall, in pure colors to about half of that or less. BN does not save its network. The
# third line is the network with BN, left in *training* mode by mistake, with the garments sorted by class: it gives
# another accuracy altogether, and the wrong one. Its answers depend on the batch mates.

# %%
strengths = color_shift.STRENGTHS
lines = {name: [] for name in networks}
lines["with BN, in training mode, sorted"] = []
order = np.argsort(shipped.y_test, kind="stable")
for strength in strengths:
    images = to_test["colors", strength]
    for name, network in networks.items():
        lines[name].append(accuracy(network, in_batches(images, shipped.y_test)))
    careless = copy.deepcopy(networks["with BN"]).train()
    with torch.no_grad():
        votes = [careless(x).argmax(dim=1) for x in torch.tensor(images[order]).split(50)]
    right = torch.cat(votes).numpy() == shipped.y_test[order]
    lines["with BN, in training mode, sorted"].append(right.mean())

fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
for (name, values), style in zip(lines.items(), ("o--", "s-", "x:"), strict=True):
    ax.plot(strengths, values, style, label=name)
ax.axhline(0.1, color="black", linewidth=1)
ax.set(xlabel="strength of the colors (0: dark gray, as in training)", ylabel="accuracy", ylim=(0, 1))
ax.legend()
plt.show()

# %% [markdown]
# ## 4. AdaBN: repair it without labels
#
# *Difficulty* ●●●●○ · *40 minutes* · *18 points*
#
# A network with BN carries a description of its training data around: the running mean and variance of every channel.
# When the inputs shift, this description is out of date, and the normalization that was to help does harm. *AdaBN*
# (Li et al. 2016) writes it anew: show the network images of the new kind, *without labels*, and replace the running
# statistics of every BN layer by what you see there. Weights, biases, $\gamma$ and $\beta$ stay as they are. No step of
# gradient descent is taken.
#
# The images come in batches. To be precise about what is asked:
#
# - The batches go through the network once, in their order. In this pass every BN layer normalizes by the batch, as in
#   training. All other modules are in evaluation mode: a dropout layer that goes on dropping values would add its own
#   noise to the statistics.
# - Afterwards `running_mean` and `running_var` of a BN layer are the mean and the unbiased variance of *all the values*
#   that entered it in this pass, channel by channel, **as if they had come in one batch**. Nothing is left of the old
#   statistics.
# - Everything else is as before: parameters, the mode of every module, every layer's `momentum`.
#   (`num_batches_tracked` may be anything.)
#
# "As if in one batch" is more than an average over the batches. Let batch $k$ have $m_k$ values of a channel, with mean
# $\mu_k$ and (biased) variance $\sigma^2_k$, and $m = \sum_k m_k$. Then
#
# $$
# \mu = \sum_k \frac{m_k}{m} \mu_k
# \qquad
# \sigma^2 = \underbrace{\sum_k \frac{m_k}{m} \sigma^2_k}_{\text{within the batches}}
#          + \underbrace{\sum_k \frac{m_k}{m} (\mu_k - \mu)^2}_{\text{between them}}
# $$
#
# The popular recipe with `momentum = None` averages over batches and forgets the second sum. It is close where batches
# are large and shuffled. It is far off where they are not: photographs sorted by the lamp they were taken under, say.
#
# <details><summary>Hint 1: a question</summary>
#
# A BN layer in training mode updates its running statistics by itself, with weight `momentum`. With `momentum = 0.1`
# and five batches, how much of the old statistics is left? With `momentum = 1`, which batches count?
#
# </details>
#
# <details><summary>Hint 2: listening in</summary>
#
# `handle = layer.register_forward_pre_hook(function)` has `function(layer, inputs)` called whenever the layer is, with
# a tuple of its inputs; `handle.remove()` ends that. So you can look at what enters a BN layer, whatever the layer does
# with it, and your own arithmetic makes `momentum` unimportant: in the end you overwrite both statistics. BN layers of
# all kinds are instances of `nn.modules.batchnorm._BatchNorm`. For a tensor `v` of shape $(N, C)$ or $(N, C, H, W)$,
# `v.transpose(0, 1).flatten(1)` has shape $(C, \text{values})$.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# Note the modes of all modules. Put a pre-hook on every BN layer that appends the layer's input to a list of its own.
# Set the model to evaluation mode and the BN layers to training mode. Without gradients, run the batches through. For
# every BN layer, join its list along axis 0 and copy mean and variance of each channel into `running_mean` and
# `running_var` with `copy_`. Remove the hooks and restore the modes.
#
# </details>


# %% nbgrader={"grade_id": "adapt-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def adapt(model, batches):
    """AdaBN: replace the running statistics of a network by those of unlabeled data.

    Parameters
    ----------
    model : torch.nn.Module
        With BN layers (nn.BatchNorm1d, nn.BatchNorm2d) that keep running statistics. These statistics are replaced, in
        place; parameters, modes and momentum are afterwards what they were before.
    batches : list of tensors of shape (N, ...)
        Inputs of the new kind, no labels. N may differ between batches.

    Returns
    -------
    model : torch.nn.Module
        The same object. running_mean and running_var of each BN layer are the mean and the unbiased variance of all
        values that entered it, over all batches together; BN layers normalize by the batch meanwhile, all other
        modules are in evaluation mode.

    References
    ----------
    Li et al. (2016), Revisiting batch normalization for practical domain adaptation, algorithm 1.
    Wu & Johnson (2021), Rethinking "Batch" in BatchNorm, section 3.
    """
    ### BEGIN SOLUTION
    layers = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    modes = {module: module.training for module in model.modules()}
    seen = {layer: [] for layer in layers}
    hooks = [layer.register_forward_pre_hook(lambda layer, inputs: seen[layer].append(inputs[0])) for layer in layers]
    model.eval()
    for layer in layers:
        layer.train()
    try:
        with torch.no_grad():
            for x in batches:
                model(x)
            for layer in layers:
                values = torch.cat(seen[layer]).transpose(0, 1).flatten(1)
                layer.running_mean.copy_(values.mean(dim=1))
                layer.running_var.copy_(values.var(dim=1))
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
    return model
    ### END SOLUTION


# %% nbgrader={"grade_id": "adapt", "grade": true, "locked": true, "points": 18, "schema_version": 3, "solution": false, "task": false}
check("adapt", adapt)

# %% [markdown]
# **See it.** The network with BN meets three kinds of new images. Your `adapt` shows a copy of it 1,000 other images of
# the kind, without labels. *What you should see:* under the orange lamp the network is close to guessing, and new
# statistics alone bring it most of the way back to where it was on gray, without a label and within a blink. Where all garments
# are orange it helps some, and where every garment has a color of its own, hardly. The last pair is the bill: the
# network that was adapted to the lamp, tested on gray again.

# %%
fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
cases = {kind: (unlabeled[kind, 1.0], to_test[kind, 1.0]) for kind in ("lamp", "ginger", "colors")}
cases["gray again,\nadapted to the lamp"] = unlabeled["lamp", 1.0], to_test["colors", 0.0]
for k, (seen, images) in enumerate(cases.values()):
    batches = in_batches(images, shipped.y_test)
    before = networks["with BN"].eval()
    after = adapt(copy.deepcopy(before), list(torch.tensor(seen).split(200)))
    for shift, network, color, name in ((-0.2, before, "C1", "before"), (0.2, after.eval(), "C0", "after adapt")):
        with torch.no_grad():
            right = torch.cat([network(x).argmax(dim=1) == y for x, y in batches])
        bar = ax.bar(k + shift, right.double().mean(), width=0.38, color=color, label=None if k else name)
        ax.bar_label(bar, fmt="%.2f", padding=2)
ax.set(xticks=range(4), xticklabels=list(cases), ylabel="accuracy", ylim=(0, 1))
ax.axhline(0.1, color="black", linewidth=1)
ax.legend(loc="upper center", ncols=2)
plt.show()

# %% [markdown]
# ## 5. What AdaBN repairs
#
# *Difficulty* ●●○○○ · *10 minutes* · *4 points*
#
# The figure above shows three covariate shifts. AdaBN repairs one of them for the most part (the lamp: the three channels
# of *every* image are multiplied by the same three numbers) and another one hardly at all (each garment has a color of
# its own).
#
# In four to eight sentences: Why? Start from what exactly AdaBN changes in a layer. Which kind of shift can it undo, and
# which can't it? And a shop that adapts its network every night with that day's photographs: name one way in which this
# may do harm, and what the shop could check before it adopts the statistics of a night.
#
# *Write your answer in the cell below. A person reads it.*

# %% [markdown] nbgrader={"grade_id": "what_adabn_repairs", "grade": true, "locked": false, "points": 4, "schema_version": 3, "solution": true, "task": false}
# In evaluation mode a BN layer moves and stretches each channel, by the same two numbers for all images and all
# positions. AdaBN replaces these two numbers, nothing else. So it can undo what moves or stretches a channel alike in all
# images. The lamp comes close to that: it multiplies each input channel by a constant, and most of what this does to the
# channels inside the network is a common shift and stretch of each, which new statistics take back.
#
# Where every garment has a color of its own, one image has more red than before and the next one less. Their mean hardly
# moves and their spread grows; there are no two numbers per channel that are right for all of these images. Statistics of
# all images together cannot undo what is different in each. Only other features could: learned from colored images, or
# from images whose color has been taken out.
#
# Harm: adapted to one domain, the network is worse on the old one, so a night with other light than the next day's
# customers have would hurt. Statistics also describe the mixture of the classes and the number of images: from a few
# photographs, or from a day on which nearly all show boots, AdaBN takes chance, or the shape of boots, for a property of
# the light (label shift). The shop could keep a few labeled photographs and adopt new statistics only if the accuracy on
# them does not fall; compare the frequencies of the predicted classes with the usual ones; measure, as in question 2,
# whether the inputs have shifted at all; ask for a minimum number of images.

# %% [markdown]
# ## 6. Internal covariate shift, by the gradients
#
# *Difficulty* ●●●●○ · *25 minutes* · *14 points*
#
# The paper that introduced BN says why training is slow: while a layer learns, the layers before it learn too, so its
# inputs keep shifting. It calls this *internal covariate shift*. Santurkar et al. (2018) turned this into something
# that can be measured in a single step, as far as it matters to gradient descent. All layers compute their gradients at
# once, as if the others stood still. How wrong is that?
#
# Take a layer with weights $W$, one batch, and the cross-entropy loss $\mathcal{L}$.
#
# 1. $G = \nabla_W \mathcal{L}$: the gradient that the layer will use.
# 2. All layers *before* it take their step of gradient descent, $p \leftarrow p - \text{lr} \cdot \nabla_p \mathcal{L}$,
#    for each of their parameters (with gradients from the same point as $G$). The layer itself and those behind it
#    stay.
# 3. $G' = \nabla_W \mathcal{L}$ once more, on the same batch: the gradient that the layer would have wanted.
#
# Report two numbers:
#
# $$
# \text{cosine} = \frac{\langle G, G' \rangle}{\lVert G \rVert \, \lVert G' \rVert}
# \qquad
# \text{change} = \frac{\lVert G' - G \rVert}{\lVert G \rVert}
# $$
#
# A cosine of 1 and a change of 0 say that the layer lost nothing by looking away. Use the model in the mode it is in,
# and leave it as you found it: parameters *and* buffers, for in training mode every forward pass moves the running
# statistics of BN.
#
# The model is an `nn.Sequential`: `model[3]` is its fourth module, `model[:3]` are the three before it.
#
# <details><summary>Hint 1: a question</summary>
#
# `loss.backward()` *adds* to `p.grad`. If you call it twice, what is in `W.grad` after the second time? And what becomes
# of a variable `g = W.grad` when `W.grad` changes in place?
#
# </details>
#
# <details><summary>Hint 2: gradients without side effects</summary>
#
# `torch.autograd.grad(loss, tensors)` returns the gradients, as new tensors, and touches no `.grad`. You can ask for
# several at once: `[W, *model[:layer].parameters()]`. For the way back, keep copies of everything in
# `model.state_dict()`, parameters and buffers (copies: the dictionary itself holds the tensors that you will change),
# and end with `model.load_state_dict(copies)`.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# Copy the state. One forward pass, and one call of `torch.autograd.grad` for `W` and all parameters before it. Within
# `torch.no_grad()`, subtract `lr` times the gradient from each parameter before the layer. A second forward pass, and
# the gradient of `W` again. Load the copied state. Flatten both gradients; then it is a dot product and three norms.
#
# </details>


# %% nbgrader={"grade_id": "gradient_change-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def gradient_change(model, layer, x, y, lr):
    """How much a layer's gradient changes when the layers before it take their step.

    Parameters
    ----------
    model : torch.nn.Sequential
        Maps x to logits (N, classes). Used in the mode it is in. Afterwards its parameters and buffers are what they
        were before.
    layer : int
        Position in the model of a linear or convolutional layer, at least 1; W is model[layer].weight.
    x : tensor of shape (N, ...)
    y : tensor of int64, shape (N,)
        One batch, for both gradients.
    lr : float
        Learning rate of the step that the modules model[0], ..., model[layer - 1] take.

    Returns
    -------
    cosine : float
        Of the angle between G and G'.
    change : float
        Euclidean norm of G' - G, divided by that of G.

    References
    ----------
    Santurkar, Tsipras, Ilyas & Madry (2018), How does batch normalization help optimization?, definition 2.1.
    """
    ### BEGIN SOLUTION
    saved = {name: value.clone() for name, value in model.state_dict().items()}
    weight, earlier = model[layer].weight, list(model[:layer].parameters())
    before, *steps = torch.autograd.grad(F.cross_entropy(model(x), y), [weight, *earlier])
    with torch.no_grad():
        for parameter, gradient in zip(earlier, steps, strict=True):
            parameter -= lr * gradient
    (after,) = torch.autograd.grad(F.cross_entropy(model(x), y), [weight])
    model.load_state_dict(saved)
    cosine = (before * after).sum() / (before.norm() * after.norm())
    change = (after - before).norm() / before.norm()
    return cosine.item(), change.item()
    ### END SOLUTION


# %% nbgrader={"grade_id": "gradient_change", "grade": true, "locked": true, "points": 14, "schema_version": 3, "solution": false, "task": false}
check("gradient_change", gradient_change)

# %% [markdown]
# **See it.** Two networks of four hidden ReLU layers learn digits, without and with BN, each at several learning rates.
# Twice within the first twelve steps your `gradient_change` asks the four layers behind the first one how much their
# gradients change while the layers before them take their step. Each dot is the mean of these eight numbers, and beside
# it stands the loss after the twelve steps. *What you should see:* no "BN reduces it". At every rate the gradients *with*
# BN change more than those without, at small rates about twice as much. And still the network with BN has the lower
# loss, by far at the large rates: it learns in spite of all the change under its layers.

# %%
x, y = torch.tensor(digits.x_train - digits.x_train.mean(axis=0)), torch.tensor(digits.y_train)
fig, ax = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
for (name, norm, stride), style, offset in (
    (("without BN", None, 2), "o--", -14),
    (("with BN", nn.BatchNorm1d, 3), "s-", 8),
):
    rates, changes = (0.03, 0.1, 0.3, 1.0), []
    for lr in rates:
        network = seeded(0, lambda norm=norm: MLP([64, 64, 64, 64, 64, 10], norm))
        optimizer = torch.optim.SGD(network.parameters(), lr=lr)
        measured = []
        for step in range(12):
            batch = slice(64 * step, 64 * step + 64)
            if step % 6 == 5:
                measured += [gradient_change(network, k * stride, x[batch], y[batch], lr)[1] for k in (1, 2, 3, 4)]
            loss = F.cross_entropy(network(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        changes.append(np.mean(measured))
        ax.annotate(f"{loss:.1f}", (lr, changes[-1]), (0, offset), textcoords="offset points", ha="center", fontsize=8)
    ax.loglog(rates, changes, style, label=name)
ax.set(xlabel="learning rate", ylabel="change of the gradient, relative", ylim=(0.02, 5))
ax.legend()
plt.show()

# %% [markdown]
# ## 7. What noisy BN shows
#
# *Difficulty* ●●○○○ · *10 minutes* · *4 points*
#
# Santurkar et al. also trained a network with *noisy* BN: behind every BN layer, each value is scaled and shifted by
# random numbers whose own distribution changes at every step. So the inputs of every layer shift more, from step to
# step, than they do without BN. Still the network with noisy BN trains about as fast as with BN, and faster than
# without.
#
# In four to eight sentences: Which explanation of the benefit of BN does this speak against, and by what argument? Which
# part of "BN helps because it reduces internal covariate shift" is left untouched by it? And name one thing that it
# does *not* show, although it is often cited for it.
#
# *Write your answer in the cell below. A person reads it.*

# %% [markdown] nbgrader={"grade_id": "what_noisy_bn_shows", "grade": true, "locked": false, "points": 4, "schema_version": 3, "solution": true, "task": false}
# It speaks against the *because*: BN helps because the inputs of the layers stay put. If that were how it works, taking
# it away should take the benefit away. Noisy BN takes it away, the inputs shift even more than without BN, and the
# benefit stays. So steady inputs, in the sense of their means and variances, are not necessary for the benefit.
#
# What is left untouched is the first half: that BN does reduce the shift of means and variances. It does, and one can
# measure that. It may just not be what matters. Other definitions of the shift aren't touched either: noise that is the
# same for all examples of a step can leave the change of the gradients (question 6) as it is.
#
# It does not show what the benefit *is* due to: the smoother loss that the same paper proposes needs evidence of its own.
# It does not show either that shifting inputs are harmless in general: more noise would harm at some point, and a
# network without BN was not tested under the same noise here.

# %% [markdown]
# ## 8. Does the scale of the weights matter?
#
# *Difficulty* ●●●○○ · *15 minutes* · *8 points*
#
# Multiply the weights of a layer by $a > 0$. If BN follows, the layer's outputs become $a$ times as large, so do their
# mean and standard deviation, and BN divides it all out: $\mathrm{BN}(aWx) = \mathrm{BN}(Wx)$. The loss can't tell. What
# the *gradient* does then follows by differentiating $\mathcal{L}(aW) = \mathcal{L}(W)$ with respect to $W$:
#
# $$
# a \, \nabla \mathcal{L}(aW) = \nabla \mathcal{L}(W)
# \qquad\text{so}\qquad
# \lVert \nabla \mathcal{L}(aW) \rVert = \tfrac{1}{a} \lVert \nabla \mathcal{L}(W) \rVert .
# $$
#
# Weights twice as large get half the gradient: that is why such a network forgives an initialization that is too large.
# Build the instrument that tests this for any loss, one with BN or one without. `loss` is a function that takes the
# weights and returns the loss. Report two numbers:
#
# $$
# \text{difference} = \mathcal{L}(aW) - \mathcal{L}(W)
# \qquad
# \text{ratio} = \frac{\lVert \nabla \mathcal{L} (aW) \rVert}{\lVert \nabla \mathcal{L} (W) \rVert}
# $$
#
# $\nabla \mathcal{L}(aW)$ is the gradient with respect to the argument of the loss, at the point $aW$: what gradient
# descent would see if the weights *were* $aW$. It is not the gradient of $\mathcal{L}(aW)$ with respect to $W$.
#
# <details><summary>Hint 1: a question</summary>
#
# For $\mathcal{L}(w) = w^2$ and $a = 3$ the two gradients are $2w$ and $6w$, so the ratio is 3. What does your function
# give? If it gives 9, the chain rule has sneaked in.
#
# </details>
#
# <details><summary>Hint 2: leaves</summary>
#
# Autograd differentiates with respect to a tensor that requires a gradient. Make a new one for each of the two points:
# `(a * weight).detach().requires_grad_()` is a tensor that knows nothing of where it came from.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# For each of the factors 1 and $a$: make the leaf, call `loss` on it, and get the gradient by `torch.autograd.grad`.
# Keep the value and the Euclidean norm. Then subtract the values and divide the norms.
#
# </details>


# %% nbgrader={"grade_id": "scale_test-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def scale_test(loss, weight, a):
    """What multiplying the weights by a does to a loss and to its gradient.

    Parameters
    ----------
    loss : function
        Maps a tensor like weight to a tensor without axes, differentiably.
    weight : tensor
        Any shape. Must not be changed.
    a : float
        Positive.

    Returns
    -------
    difference : float
        loss(a * weight) - loss(weight).
    ratio : float
        Euclidean norm of the gradient of loss at the point a * weight, divided by that at the point weight.

    References
    ----------
    Ioffe & Szegedy (2015), section 3.3.
    """
    ### BEGIN SOLUTION
    values, norms = [], []
    for factor in (1.0, a):
        point = (factor * weight).detach().requires_grad_()
        value = loss(point)
        (gradient,) = torch.autograd.grad(value, [point])
        values.append(value.item())
        norms.append(gradient.norm().item())
    return values[1] - values[0], norms[1] / norms[0]
    ### END SOLUTION


# %% nbgrader={"grade_id": "scale_test", "grade": true, "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
check("scale_test", scale_test)

# %% [markdown]
# **See it.** The first layer's weights of a small network for digits are multiplied by $a$, from a tenth to ten. *What
# you should see:* with BN behind the layer the loss does not change, and your ratios lie on the line $1/a$ over the whole
# range. Without BN a smaller scale changes little here, but a larger one makes the loss and its gradient several times as
# large: a start that is off matters.

# %%
x, y = torch.tensor(digits.x_train[:256]), torch.tensor(digits.y_train[:256])
first, last = (0.15 * torch.randn(shape, generator=torch.Generator().manual_seed(7)) for shape in ((50, 64), (10, 50)))


def loss_without(weight):
    return F.cross_entropy(F.relu(x @ weight.T) @ last.T, y)


def loss_with(weight):
    z = x @ weight.T
    x_hat = (z - z.mean(dim=0)) / (z.var(dim=0, correction=0) + 1e-5).sqrt()
    return F.cross_entropy(F.relu(x_hat) @ last.T, y)


scales = np.geomspace(0.1, 10, 13)
fig, axes = plt.subplots(1, 2, figsize=(6.4, 3.4), layout="constrained")
for loss, label, style in ((loss_without, "without BN", "o--"), (loss_with, "with BN", "s-")):
    differences, ratios = zip(*(scale_test(loss, first, float(a)) for a in scales), strict=True)
    axes[0].semilogx(scales, differences, style, label=label)
    axes[1].loglog(scales, ratios, style, label=label)
axes[1].loglog(scales, 1 / scales, color="black", linewidth=1, label="1/a")
axes[0].set(xlabel="a", title="difference of the losses")
axes[1].set(xlabel="a", title="ratio of the gradients")
axes[1].legend()
plt.show()

# %% [markdown]
# ## 9. A learning-rate range test
#
# *Difficulty* ●●●○○ · *25 minutes* · *12 points*
#
# Which learning rate? The range test (Smith 2017) asks the network: train for a moment while the rate grows from far
# too small to far too large, and watch the loss. It hardly moves at first, then falls, then explodes.
#
# You are given $K$ batches, one for each step. The rates form a *geometric* sequence with $K$ terms: each is the one
# before it times a constant factor, the first is `low`, the last is `high`. Learning rates matter by their ratio, and
# between 0.001 and 10 an even spacing would leave three of the four decades to the first few steps.
#
# Step $k$: compute the cross-entropy loss of batch $k$ (in training mode), *record it*, then take a step of plain
# gradient descent, $p \leftarrow p - \text{rate}_k \nabla_p \mathcal{L}$, with all parameters. Stop early when the
# recorded loss is `inf` or `nan`, or is more than four times the smallest one recorded so far: the rest would be noise.
# The loss that made you stop is the last one in what you return, and the rates returned are those that belong to the
# recorded losses.
#
# A test is not a training run. Afterwards the model is what it was: parameters, buffers, and its mode (training or
# evaluation).
#
# <details><summary>Hint 1: a question</summary>
#
# Four rates from 0.001 to 1: which ones? What do you multiply by, from one to the next?
#
# </details>
#
# <details><summary>Hint 2: three traps</summary>
#
# `nan > 4 * smallest` is False: a comparison doesn't notice `nan`, `np.isfinite` does. `loss.backward()` adds to what
# the last step left in `.grad`. And `saved = model.state_dict()` copies nothing: its tensors are the model's own, and
# they move along with every step.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# `np.geomspace(low, high, K)`. Copies of the state, and the mode. `model.train()`. In the loop: loss, append, stop?,
# gradients by `torch.autograd.grad(loss, list(model.parameters()))`, step within `torch.no_grad()`. Afterwards load the
# copies, restore the mode, cut the rates to the number of losses.
#
# </details>


# %% nbgrader={"grade_id": "range_test-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def range_test(model, batches, low, high):
    """Train for a moment with a growing learning rate, record the losses, and put everything back.

    Parameters
    ----------
    model : torch.nn.Module
        Maps (N, ...) to logits (N, classes). Afterwards its parameters, buffers and mode are what they were before.
    batches : list of K pairs (x, y)
        One batch for each step, K >= 2; y are labels of int64.
    low, high : float
        First and last learning rate, 0 < low < high.

    Returns
    -------
    rates : array of shape (k,)
        The first k of K rates in geometric sequence. k < K if the test stopped early.
    losses : array of shape (k,)
        Cross-entropy of each batch, before its step.

    References
    ----------
    Smith (2017), Cyclical learning rates for training neural networks, section 3.3 (there the rate grows linearly).
    """
    ### BEGIN SOLUTION
    saved, training = {name: value.clone() for name, value in model.state_dict().items()}, model.training
    parameters = list(model.parameters())
    rates, losses = np.geomspace(low, high, len(batches)), []
    model.train()
    for rate, (x, y) in zip(rates, batches, strict=True):
        loss = F.cross_entropy(model(x), y)
        losses.append(loss.item())
        if not np.isfinite(losses[-1]) or losses[-1] > 4 * min(losses):
            break
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= rate * gradient
    model.load_state_dict(saved)
    model.train(training)
    return rates[: len(losses)], np.array(losses)
    ### END SOLUTION


# %% nbgrader={"grade_id": "range_test", "grade": true, "locked": true, "points": 12, "schema_version": 3, "solution": false, "task": false}
check("range_test", range_test)

# %% [markdown]
# **See it.** Your range test on a network of three hidden layers for digits, without BN and with it. *What you should
# see:* the loss stays where it is while the rates are tiny, falls, gets ragged, and shoots up, and there the curve ends.
# The network with BN begins to learn at smaller rates. Both tests leave their networks as they were: the numbers in the
# legend are the losses of the first batch before and after the test.

# %%
x, y = torch.tensor(digits.x_train - digits.x_train.mean(axis=0)), torch.tensor(digits.y_train)
rng = np.random.default_rng(5)
batches = [(x[i], y[i]) for i in (torch.tensor(rng.integers(len(x), size=32)) for _ in range(80))]

fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
for norm, label, style in ((None, "without BN", "--"), (nn.BatchNorm1d, "with BN", "-")):
    network = seeded(0, lambda norm=norm: MLP([64, 40, 40, 40, 10], norm))
    first = copy.deepcopy(network)
    rates, losses = range_test(network, batches, 1e-3, 30.0)
    with torch.no_grad():
        once, twice = (F.cross_entropy(net(batches[0][0]), batches[0][1]) for net in (first, network))
    ax.semilogx(rates, losses, style, label=f"{label}: {once:.3f} before, {twice:.3f} after")
ax.set(xlabel="learning rate", ylabel="loss of each batch", ylim=(0, 6))
ax.legend(loc="upper left")
plt.show()

# %% [markdown]
# ## 10. Read a rate off
#
# *Difficulty* ●●○○○ · *10 minutes* · *6 points*
#
# Where the loss of a range test is smallest, the rate is already at the edge: a little more and it explodes. A common
# rule takes a tenth of it. Since every loss comes from another batch, the curve is noisy, and its lowest point may be
# one lucky batch. So smooth it first. With a window of 5 the smoothed loss of a step is the mean over the step itself,
# the two before and the two after. At the ends, take the mean of the neighbors that exist.
#
# $$
# \bar{\ell}_k = \operatorname{mean} \{ \ell_i : |i - k| \le h \} , \quad h = \frac{\text{window} - 1}{2}
# \qquad\qquad
# \text{suggestion} = \tfrac{1}{10} \; \text{rate}_{k^*} , \quad k^* = \arg\min_k \bar{\ell}_k
# $$
#
# The last losses may be `inf` or `nan`: the network has diverged there. A smoothed loss that one of those takes part in
# counts as infinitely bad.
#
# <details><summary>Hint 1: a question</summary>
#
# What is `np.argmin([3.0, 2.0, np.nan])`? Try it.
#
# </details>
#
# <details><summary>Hint 2: the ends</summary>
#
# `np.convolve(losses, np.ones(5) / 5, mode="same")` fills up with zeros beyond the ends, so the smoothed loss is far
# too low there, and the ends win. A slice `losses[max(k - h, 0) : k + h + 1]` takes what there is.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# Replace what is not finite by `np.inf`. A list of means of slices, one for each step. The position of the smallest, the
# rate there, divided by ten.
#
# </details>


# %% nbgrader={"grade_id": "suggest_rate-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def suggest_rate(rates, losses, window):
    """A learning rate, read off a range test: a tenth of the rate at which the smoothed loss is smallest.

    Parameters
    ----------
    rates : ndarray of shape (K,)
        Ascending.
    losses : ndarray of shape (K,)
        Not smoothed. Some may be inf or nan. Must not be changed.
    window : int
        Odd; how many losses are averaged, fewer at the ends.

    Returns
    -------
    rate : float
    """
    ### BEGIN SOLUTION
    losses = np.where(np.isfinite(losses), losses, np.inf)
    half = window // 2
    smoothed = [losses[max(k - half, 0) : k + half + 1].mean() for k in range(len(losses))]
    return rates[np.argmin(smoothed)] / 10
    ### END SOLUTION


# %% nbgrader={"grade_id": "suggest_rate", "grade": true, "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
check("suggest_rate", suggest_rate)

# %% [markdown]
# **See it.** A noisy range test, with one lucky batch at a tiny rate. *What you should see:* the smallest single loss,
# marked with a cross, lies far to the left and says nothing. The smoothed curve has its valley at the right, just before
# the explosion, and your suggestion, the vertical line, a factor of ten below it, where the loss still falls steeply.

# %%
rng = np.random.default_rng(6)
rates = np.geomspace(1e-4, 10, 60)
position = np.log10(rates)
losses = (
    2.3 - 1.5 * np.exp(-((position + 0.4) ** 2)) + 4 * np.clip(position - 0.1, 0, None) + 0.12 * rng.normal(size=60)
)
losses[11] = 0.6
losses[-2:] = np.nan
smoothed = np.convolve(losses, np.ones(9) / 9, mode="valid")

fig, ax = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
ax.semilogx(rates, losses, ".", color="gray", label="loss of each batch")
ax.semilogx(rates[4:-4], smoothed, label="mean of nine neighbors")
ax.plot(rates[np.nanargmin(losses)], np.nanmin(losses), "x", color="black", markersize=9, label="smallest single loss")
ax.axvline(suggest_rate(rates, losses, 9), color="C1", linestyle="--", label="your suggestion")
ax.set(xlabel="learning rate", ylabel="loss", ylim=(0, 5))
ax.legend()
plt.show()

# %% [markdown]
# ## 11. A fair comparison
#
# *Difficulty* ●●○○○ · *15 minutes* · *8 points*
#
# "With BN it learns five times faster." At which learning rate? At a rate that is far too large for the plain network,
# you can make the factor as large as you like. A comparison is fair if each arm may use its own best rate, and if the
# best rate lies *inside* the range that was tried. If it lies at the end, an even better one may lie beyond, and all
# you know is that you have not looked far enough.
#
# You are given the number of steps to a target, for each rate and each of several seeds, of a plain network and of one
# with BN. `inf` says that a run never got there. Choose, for each arm, the rate with the smallest *median* over the
# seeds. The median is at home with `inf`, and does not follow the luck of one seed. The speedup is the median of the
# plain arm at its best rate, divided by that of the BN arm at *its* best rate.
#
# <details><summary>Hint 1: a question</summary>
#
# What is the mean of 40, 50 and `inf`, and what is the median?
#
# </details>
#
# <details><summary>Hint 2: which axis</summary>
#
# The arrays have one row for each rate and one column for each seed. The median over the seeds leaves one number for
# each rate. Choose the rate by these numbers, not by the best single run.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# For each of the two arms: `np.median(steps, axis=1)`, its `argmin`, the rate there and the median there. Then the
# quotient of the medians. `inside` is true if neither position is the first or the last.
#
# </details>


# %% nbgrader={"grade_id": "compare-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def compare(rates, plain, bn):
    """How many times fewer steps BN needs, each arm at its own best learning rate.

    Parameters
    ----------
    rates : ndarray of shape (K,)
        Learning rates, ascending, K >= 3.
    plain, bn : ndarray of shape (K, S)
        Steps to the target for each rate and seed, without BN and with it; inf where a run never got there. For each
        arm there is one rate with the smallest median over the seeds, and this median is finite.

    Returns
    -------
    rate_plain, rate_bn : float
        The best rate of each arm: that of the smallest median over the seeds.
    speedup : float
        Median steps of the plain arm at its best rate, divided by those of the BN arm at its best rate.
    inside : bool
        Whether both best rates lie inside the range: neither is the first or the last of `rates`.
    """
    ### BEGIN SOLUTION
    best = {}
    for arm, steps in (("plain", plain), ("bn", bn)):
        middle = np.median(steps, axis=1)
        k = int(np.argmin(middle))
        best[arm] = rates[k], middle[k], 0 < k < len(rates) - 1
    speedup = best["plain"][1] / best["bn"][1]
    return best["plain"][0], best["bn"][0], speedup, best["plain"][2] and best["bn"][2]
    ### END SOLUTION


# %% nbgrader={"grade_id": "compare", "grade": true, "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
check("compare", compare)

# %% [markdown]
# **See it.** A real comparison: networks of four hidden ReLU layers on digits, He initialization, plain SGD, seven
# learning rates, three seeds, steps until at most 10% of the test digits are wrong. *What you should see:* a curve for each
# arm, with a star at its best rate; the factor between the two stars is your speedup, about two. Where a curve is missing,
# most seeds never arrive within 120 steps. The curve of BN spans the wider range of rates, and beyond the end of the other
# one the "speedup" at equal rates would be infinite.

# %%
mean = digits.x_train.mean(axis=0)
x_train, y_train, x_test, y_test = (values[::2] for values in digits[:4])  # every other digit, to save time
centered = datasets.Dataset(x_train - mean, y_train, x_test - mean, y_test, digits.classes)
rates, seeds = np.geomspace(0.05, 2, 7), range(3)
runs = [(rate, seed) for rate in rates for seed in seeds]
steps = {}
for arm, norm in (("plain", None), ("bn", BatchNorm())):
    networks_of_arm = Ensemble([64, 32, 32, 32, 32, 10], [seed for _, seed in runs], norm=norm)
    history = fit(networks_of_arm, centered, [rate for rate, _ in runs], steps=120, batch_size=32, every=10)
    steps[arm] = history.steps_to(0.1).reshape(len(rates), -1)

rate_plain, rate_bn, speedup, inside = compare(rates, steps["plain"], steps["bn"])
fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
for arm, best, label, style in (("plain", rate_plain, "without BN", "o--"), ("bn", rate_bn, "with BN", "s-")):
    middle = np.median(steps[arm], axis=1)
    (line,) = ax.loglog(rates, np.where(np.isfinite(middle), middle, np.nan), style, label=label)
    ax.plot(best, middle[rates == best], "*", color=line.get_color(), markersize=16)
ax.set(xlabel="learning rate", ylabel="steps to 10% error (median)")
ax.set_title(f"speedup {speedup:.1f}, both best rates inside: {inside}", loc="left")
ax.legend()
plt.show()

# %% [markdown]
# ## What you learned
#
# - A covariate shift moves the inputs and leaves the relation to the labels alone. Measure it in standard deviations,
#   and look at the spread as well as at the mean.
# - BN does not protect a network from shifted inputs. Its statistics are one more thing that may be out of date. They are
#   also the handle for a repair that needs no labels, as long as the mixture of the classes stays the same.
# - An evaluation changes nothing: evaluation mode, no gradients, every example counted once, every module's mode put
#   back.
# - "As if in one batch" needs the variance *between* the batches.
# - Internal covariate shift is a matter of definition. With BN the moments of a layer's inputs are steadier; whether its
#   gradients are is for you to measure, not to believe.
# - Under BN the scale of the weights is invisible to the loss, and the gradient goes with one over the scale.
# - A speedup is worth what the baseline is worth: its own best rate, inside the range, the median over seeds.
#
# ## Going further (not graded)
#
# - Two samples can have the same mean and standard deviation and still differ. Add the Wasserstein distance of each
#   feature (for samples of equal size: sort both, and average the distances) to the figure of question 2. Or train a
#   classifier to tell source from target: how much better than guessing is it?
# - Your `adapt` keeps all inputs of all layers in memory. Keep the count, the mean and the sum of squares instead, and
#   update them with each batch by the formulas of question 4.
# - Adapt on 4, 16, 64, 256 images. From how many on does it help? The chapter *Covariate shift* has the curve.
# - Adapt layer after layer: the first one first, then the second on what comes out of the adapted first one, and so on.
#   Does it matter?
# - Put the noise of question 7 behind the BN layers of the network of question 6, and measure the change of the
#   gradients with it.
# - Repeat the comparison of question 11 for a deeper network, for Adam, and in seconds instead of steps.
