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
# # Problem set 2: The forward pass
#
# You build batch normalization (BN) from nothing but NumPy: the statistics of a batch, the transform, its two learned
# parameters, what it remembers for later, and the axes of convolutional layers. At the end your function does what
# PyTorch's `batch_norm` does, for inputs with any number of axes.
#
# **Afterwards you can**
#
# - compute a variance that survives a large mean, and say which of the two variances goes where;
# - say why BN divides by the standard deviation, and what eps is for;
# - choose gamma and beta so that BN changes nothing;
# - keep running statistics, and explain why a prediction must not depend on its batch mates;
# - find the right axes for tables, sequences, images and volumes.
#
# **Time:** a little more than two hours. **You need:** NumPy arrays (axes, broadcasting), mean and variance. The
# chapter *The batch normalization transform* of the book is the theory to this practice. No graphics card, no deep
# learning library.
#
# ## How to work
#
# 1. Run the cells from the top. Where a cell says `raise NotImplementedError()`, replace that line by your code.
# 2. Run the cell below it. It checks your function on several random inputs and tells you what is right, what isn't
#    yet, and what the likely mistake is. Try again as often as you like.
# 3. Points are given part by part, so half a solution earns something. The questions don't depend on each other,
#    unless you call your earlier functions: skip one and come back later. A figure that uses an unanswered function
#    shows `NotImplementedError`; this costs nothing.
# 4. Stuck? Every function has three hints. Open one at a time.
# 5. Two questions, 3 and 7, want sentences instead of code. Double-click the cell below the question, write where it
#    says `YOUR ANSWER HERE`, and press Shift+Enter. Your instructor reads them and gives their points.
# 6. Before you hand in, type `bnlab check ps2_forward.ipynb` in a terminal. It runs the notebook from top to bottom in
#    a fresh kernel, as the grader will, with a table of your points. The grader draws other random inputs.
#
# Keep the cells that are here. You may add cells of your own.
#
# **Conventions.** Axis 0 of `x` are the examples of the batch, axis 1 the features or channels. No function may change
# its arguments in place. The checks allow for rounding, in `float64` and in `float32`.
#
# | question | difficulty | minutes | points |
# |---|---|---|---|
# | 1. `batch_moments` | ●●○○○ | 15 | 13 |
# | 2. `normalize` | ●●○○○ | 10 | 11 |
# | 3. `why_not_the_variance` | ●●○○○ | 10 | 3 |
# | 4. `undo_with` | ●●○○○ | 10 | 10 |
# | 5. `update_running` | ●●○○○ | 15 | 13 |
# | 6. `batch_norm_eval` | ●●○○○ | 10 | 11 |
# | 7. `batch_mates` | ●●●○○ | 10 | 4 |
# | 8. `layer_sizes` | ●○○○○ | 5 | 6 |
# | 9. `channel_moments` | ●●●○○ | 15 | 11 |
# | 10. `batch_norm` | ●●●●○ | 30 | 18 |

# %%
import matplotlib.pyplot as plt
import numpy as np
from checks import check

# %% [markdown]
# ## 1. The mean and variance of a batch
#
# *Difficulty* ●●○○○ · *15 minutes* · *13 points*
#
# A batch is an array `x` of shape $(N, D)$: $N$ examples (rows) with $D$ features (columns). Each feature is normalized
# by itself, with its own mean and variance over the $m = N$ examples:
#
# $$
# \mu_j = \frac{1}{m} \sum_{i=1}^{m} x_{ij}
# \qquad
# \sigma^2_j = \frac{1}{m} \sum_{i=1}^{m} (x_{ij} - \mu_j)^2
# $$
#
# This is the *biased* variance: it divides by $m$, not by $m - 1$.
#
# Textbooks also have $\sigma^2 = \overline{x^2} - \mu^2$, which needs a single pass over the data. On paper the two are
# equal. In a computer they aren't: `float32` keeps about 7 digits and `float64` about 16, and where the mean is large,
# the digits that matter are gone before the subtraction. The check tries features with a standard deviation near 1 and
# a mean of 10 thousand in `float32`, of a billion in `float64`. You may use NumPy's own functions or write the sums
# out.
#
# <details><summary>Hint 1: a question</summary>
#
# How many numbers should come out: one per example, one per feature, or one in all?
#
# </details>
#
# <details><summary>Hint 2: the axis</summary>
#
# An operation with `axis=0` runs down the rows and leaves one number per column. What does `np.var` divide by when you
# don't tell it otherwise? Its documentation calls this `ddof`.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# Two passes. First the mean of each column. Then the distances of all values from the mean of their column, squared,
# and the mean of those. The distances are small numbers whatever the mean was, so their squares lose nothing.
#
# </details>


# %% nbgrader={"grade_id": "batch_moments-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def batch_moments(x):
    """Mean and biased variance of each feature, over the examples of a batch.

    Parameters
    ----------
    x : ndarray of shape (N, D)
        float32 or float64, N >= 1. Must not be changed.

    Returns
    -------
    mean, var : ndarray of shape (D,)
        var divides by N.

    References
    ----------
    Ioffe & Szegedy (2015), Algorithm 1, the first two lines.
    """
    ### BEGIN SOLUTION
    mean = x.mean(axis=0)
    var = ((x - mean) ** 2).mean(axis=0)
    return mean, var
    ### END SOLUTION


# %% nbgrader={"grade_id": "batch_moments", "grade": true, "locked": true, "points": 13, "schema_version": 3, "solution": false, "task": false}
check("batch_moments", batch_moments)

# %% [markdown]
# **See it.** A feature with standard deviation 1 in `float32`, moved to larger and larger means. The figure shows by
# how much two computations miss the true variance. *What you should see:* the error of the one-pass formula grows by
# nearly two digits for every factor of ten in the mean. Beyond a mean of a few thousand its variance is nonsense: far
# too large, or 0, or negative. Yours stays right to at least four digits.

# %%
rng = np.random.default_rng(0)
means = 10.0 ** np.arange(0, 6.5, 0.5)
samples = [(rng.normal(size=(256, 1)) + mean).astype(np.float32) for mean in means]
truth = [x.astype(np.float64).var() for x in samples]
one_pass = [(x**2).mean() - x.mean() ** 2 for x in samples]
yours = [float(batch_moments(x)[1][0]) for x in samples]

fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
for variances, label, style in ((one_pass, "mean of squares minus squared mean", "o--"), (yours, "yours", "s-")):
    ax.loglog(means, [abs(v - t) / t + 1e-9 for v, t in zip(variances, truth, strict=True)], style, label=label)
ax.set(xlabel="mean of the feature", ylabel="relative error of the variance")
ax.legend()
plt.show()

# %% [markdown]
# ## 2. Normalize
#
# *Difficulty* ●●○○○ · *10 minutes* · *11 points*
#
# With a mean and a variance for each feature, the normalized value is
#
# $$
# \hat{x}_{ij} = \frac{x_{ij} - \mu_j}{\sqrt{\sigma^2_j + \varepsilon}}
# $$
#
# You will read that BN "divides by the variance". It divides by the standard deviation, the square root. What the
# difference is, you say in question 3.
#
# $\varepsilon$ is a small number, often $10^{-5}$, that stands *inside* the root. It is there for features that hardly
# vary: in a batch where a feature is constant, $\sigma^2 = 0$ and the result should be 0, not $0/0$.
#
# The mean and variance are arguments here. In training they will be the batch's, in evaluation they come from
# elsewhere: use what is given.
#
# <details><summary>Hint 1: a question</summary>
#
# What are the shapes of `x` and of `mean`? Which axis of `x` does NumPy line up with the only axis of `mean`?
#
# </details>
#
# <details><summary>Hint 2: broadcasting</summary>
#
# NumPy compares shapes from the right: $(N, D)$ beside $(D,)$ subtracts `mean[j]` from column `j`, with no loop and no
# reshaping.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# One line: the difference of `x` and `mean`, divided by the square root of a sum. The sum has two terms, and one of
# them is `eps`.
#
# </details>


# %% nbgrader={"grade_id": "normalize-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def normalize(x, mean, var, eps):
    """Subtract the mean of each feature and divide by its standard deviation.

    Parameters
    ----------
    x : ndarray of shape (N, D)
        Must not be changed.
    mean, var : ndarray of shape (D,)
        Not necessarily those of x.
    eps : float
        Positive; added to var, inside the square root.

    Returns
    -------
    x_hat : ndarray of shape (N, D)

    References
    ----------
    Ioffe & Szegedy (2015), Algorithm 1, the third line.
    """
    ### BEGIN SOLUTION
    return (x - mean) / np.sqrt(var + eps)
    ### END SOLUTION


# %% nbgrader={"grade_id": "normalize", "grade": true, "locked": true, "points": 11, "schema_version": 3, "solution": false, "task": false}
check("normalize", normalize)

# %% [markdown]
# **See it.** Three measurements of 200 people, whose spreads differ by a factor of 500. *What you should see:* before,
# the sleep takes up the whole panel, the age a small part of it, and the height in meters is a line. Your `normalize`
# gives all three the same center and width. Divided by the variance instead, they are as unequal as before, the other
# way round: now the height takes up the panel, and sleep and age are lines.

# %%
rng = np.random.default_rng(1)
people = np.stack([rng.normal(40, 12, 200), rng.normal(3000, 60, 200), rng.normal(1.7, 0.12, 200)], axis=1)
labels = ["age in years", "sleep in hours a year", "height in meters"]
jitter = rng.uniform(-0.3, 0.3, 200)  # up and down, so that the dots don't cover each other
mean, var = people.mean(axis=0), people.var(axis=0)
versions = {
    "before (each minus its mean)": people - mean,
    "your normalize": normalize(people, mean, var, 1e-5),
    "divided by the variance": (people - mean) / var,
}
fig, axes = plt.subplots(3, 1, figsize=(6.4, 6), layout="constrained")
for ax, (title, values) in zip(axes, versions.items(), strict=True):
    for height, feature in enumerate(values.T):
        ax.plot(feature, height + jitter, ".", markersize=3)
    ax.set_title(title, loc="left")
    ax.set_yticks(range(3), labels)
plt.show()

# %% [markdown]
# ## 3. Why not the variance?
#
# *Difficulty* ●●○○○ · *10 minutes* · *3 points* · a written answer
#
# "Let us save the square root," says a colleague, "and take $\hat{x} = (x - \mu) / \sigma^2$. Whatever factor is
# missing, $\gamma$ will learn it." Answer in a few sentences. Leave $\varepsilon$ out.
#
# 1. The heights of a group of people have a standard deviation of 0.12 m, which is 120 mm. Which standard deviation
#    does the colleague's $\hat{x}$ have, for the heights in meters and for the same heights in millimeters? And BN's?
# 2. What does the colleague's formula do to features whose spreads differ, as in the figure above?
# 3. What is wrong with leaving the rest to $\gamma$? Think of the first step of training, and of a layer whose weights
#    grow during training.
#
# <details><summary>Hint: one number per feature</summary>
#
# Dividing all values by a number divides their standard deviation by that number. What is $\sigma / \sigma^2$?
#
# </details>

# %% [markdown] nbgrader={"grade_id": "why_not_the_variance", "grade": true, "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# 1. Dividing by $\sigma^2$ leaves a standard deviation of $\sigma / \sigma^2 = 1 / \sigma$: 1 / 0.12 = 8.3 for meters
#    and 1 / 120 = 0.0083 for millimeters. The same people, and a thousand times smaller numbers, because of the unit.
#    BN's $\hat{x}$ has no unit and a standard deviation of 1 in both cases.
# 2. It turns the spreads upside down instead of making them equal: a feature with a large spread comes out with a small
#    one and the other way round. In the figure, the heights in meters, the narrowest feature before, fill the panel.
# 3. $\gamma$ starts at 1, so in the first step the features are as unequal as before, and that is what normalization
#    was to spare us. And $\gamma = \sigma$ would be right for one $\sigma$ only: when the weights of the layer before
#    double, $\sigma$ doubles and the colleague's output halves, so $\gamma$ must run after every change of the weights.
#    Divided by $\sigma$, the output stays the same by itself.

# %% [markdown]
# ## 4. Undo it: gamma and beta
#
# *Difficulty* ●●○○○ · *10 minutes* · *10 points*
#
# A normalized feature always has mean 0 and standard deviation 1. Perhaps the next layer would rather have something
# else. So BN gives each feature two numbers that are learned, a scale and a shift:
#
# $$
# y_{ij} = \gamma_j \, \hat{x}_{ij} + \beta_j
# $$
#
# They can undo the normalization altogether: with the right $\gamma$ and $\beta$, $y = x$. So a network with BN can
# express everything that it could express without. The same choice matters in practice, when you insert BN into a
# network that is trained already and don't want to change its outputs.
#
# Find $\gamma_j$ and $\beta_j$, given the mean, the variance and the $\varepsilon$ that the normalization used. The
# result must be exact, also for a feature whose variance is as small as $\varepsilon$.
#
# <details><summary>Hint 1: a question</summary>
#
# The normalization did two things to $x$, in this order: it subtracted something and divided by something. Which two
# things undo that, in which order?
#
# </details>
#
# <details><summary>Hint 2: algebra</summary>
#
# Put the formula of $\hat{x}$ into that of $y$, demand $y = x$, and compare the factors of $x$ on both sides. Then the
# rest.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# `gamma` is precisely what `normalize` divided by, with everything that stood under the root. `beta` is precisely what
# it subtracted. (The paper writes the square root of the variance alone. That is exact only where $\varepsilon = 0$.)
#
# </details>


# %% nbgrader={"grade_id": "undo_with-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def undo_with(mean, var, eps):
    """The gamma and beta with which batch normalization changes nothing.

    Parameters
    ----------
    mean, var : ndarray of shape (D,)
        What x is normalized with.
    eps : float
        Added to var, inside the square root.

    Returns
    -------
    gamma, beta : ndarray of shape (D,)
        So that gamma * (x - mean) / sqrt(var + eps) + beta is x, whatever x is.

    References
    ----------
    Ioffe & Szegedy (2015), Section 3.
    """
    ### BEGIN SOLUTION
    gamma = np.sqrt(var + eps)
    beta = mean.copy()
    return gamma, beta
    ### END SOLUTION


# %% nbgrader={"grade_id": "undo_with", "grade": true, "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
check("undo_with", undo_with)

# %% [markdown]
# **See it.** A feature with mean 3 and standard deviation 2 passes through BN, with three choices of gamma and beta.
# *What you should see:* your choice lies on the diagonal, where output equals input. With `gamma = 1, beta = 0` the
# line is flatter and lower: that is the plain normalization. With `gamma = var`, a mistake found in published code, the
# line is about twice as steep as it should be, so the layers behind it receive values they never saw in training.

# %%
rng = np.random.default_rng(2)
x = rng.normal(3, 2, size=(200, 1))
mean, var = x.mean(axis=0), x.var(axis=0)
x_hat = (x - x.mean()) / x.std()  # there is one feature, and it varies: no axis, no eps
gamma, beta = undo_with(mean, var, 0.0)

fig, ax = plt.subplots(figsize=(6.4, 4), layout="constrained")
ax.plot(x, x, color="gray", linewidth=8, alpha=0.3, label="output = input")
for g, b, label, marker in (
    (var, mean, "gamma = var, beta = mean", "v"),
    (gamma, beta, "yours", "o"),
    (1, 0, "gamma = 1, beta = 0", "s"),
):
    ax.plot(x, g * x_hat + b, marker, markersize=3, label=label)
ax.set(xlabel="input x", ylabel="output y")
ax.legend()
plt.show()

# %% [markdown]
# ## 5. Running statistics
#
# *Difficulty* ●●○○○ · *15 minutes* · *13 points*
#
# In training every batch brings its own mean and variance. Later, when the network has to judge a single example, there
# is no batch. So during training BN keeps averages of the statistics it has seen, with a weight for the newest batch
# that PyTorch calls `momentum`:
#
# $$
# \text{running} \leftarrow (1 - \text{momentum}) \cdot \text{running} + \text{momentum} \cdot \text{batch}
# $$
#
# Two conventions to know. In Keras and Flax `momentum` is the weight of the *old* value: their 0.9 is our 0.1. And the
# variance that goes into `running_var` is the *unbiased* one,
#
# $$
# \frac{m}{m - 1} \, \sigma^2 ,
# $$
#
# because this number estimates the variance of all the data, of which the batch is a sample. The variance you are given
# is the biased one, from $m$ values. (This is the paper's and PyTorch's convention. Keras and Flax leave the correction
# out.)
#
# Return new arrays; leave the old ones as they are.
#
# <details><summary>Hint 1: a question</summary>
#
# With `momentum = 0.1`, does the running mean move a little or a lot with each batch? Which factor must be the small
# one?
#
# </details>
#
# <details><summary>Hint 2: the correction</summary>
#
# The correction belongs to the batch's variance, once, before it is averaged in. `running_var` itself consists of
# corrected variances already. The mean needs no correction.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# Three lines: the unbiased variance from `var` and `m`; the weighted average of `running_mean` and `mean`; the weighted
# average of `running_var` and the unbiased variance. `a = a + b` makes a new array, `a += b` changes the caller's.
#
# </details>


# %% nbgrader={"grade_id": "update_running-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def update_running(running_mean, running_var, mean, var, m, momentum):
    """Running statistics after one more training batch.

    Parameters
    ----------
    running_mean, running_var : ndarray of shape (D,)
        Before the batch. Must not be changed.
    mean, var : ndarray of shape (D,)
        Of the batch; var is biased (divided by m).
    m : int
        Number of values behind mean and var, at least 2.
    momentum : float in [0, 1]
        Weight of the batch.

    Returns
    -------
    running_mean, running_var : ndarray of shape (D,)
        New arrays. The variance that went in is unbiased (divided by m - 1).

    References
    ----------
    Ioffe & Szegedy (2015), Section 3.1 and Algorithm 2; momentum as in torch.nn.BatchNorm1d.
    """
    ### BEGIN SOLUTION
    unbiased = var * m / (m - 1)
    running_mean = (1 - momentum) * running_mean + momentum * mean
    running_var = (1 - momentum) * running_var + momentum * unbiased
    return running_mean, running_var
    ### END SOLUTION


# %% nbgrader={"grade_id": "update_running", "grade": true, "locked": true, "points": 13, "schema_version": 3, "solution": false, "task": false}
check("update_running", update_running)

# %% [markdown]
# **See it.** Data with variance 4 arrive in batches of $m = 4$, and the running variance starts at 1. *What you should
# see:* a small momentum finds the true value slowly and then holds it; a large one is there within a few batches and
# keeps jumping with every batch. None of them settles near 3, which is what the biased variance would do: it is too
# small by $(m - 1)/m = 3/4$ on average.

# %%
rng = np.random.default_rng(3)
batches = rng.normal(5, 2, size=(200, 4, 1))


def history(momentum):
    running_mean, running_var = np.zeros(1), np.ones(1)
    for x in batches:
        mean, var = x.mean(axis=0), x.var(axis=0)
        running_mean, running_var = update_running(running_mean, running_var, mean, var, 4, momentum)
        yield float(running_var[0])


histories = {momentum: list(history(momentum)) for momentum in (0.5, 0.1, 0.02)}
fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
for (momentum, variances), style in zip(histories.items(), (":", "--", "-"), strict=True):
    ax.plot(variances, style, linewidth=3 * (1 - momentum), label=f"momentum = {momentum}")
ax.axhline(4, color="black", linewidth=1, label="true variance")
ax.set(xlabel="batches seen", ylabel="running variance", ylim=(0, 16))
ax.legend(loc="upper left", ncols=2)
plt.show()

# %% [markdown]
# ## 6. Evaluation
#
# *Difficulty* ●●○○○ · *10 minutes* · *11 points*
#
# In evaluation the running statistics take the place of the batch's:
#
# $$
# y_{ij} = \gamma_j \, \frac{x_{ij} - \text{running\_mean}_j}{\sqrt{\text{running\_var}_j + \varepsilon}} + \beta_j
# $$
#
# Nothing in it is computed from the batch. So a single example has an answer, and it is the same answer in whatever
# company the example arrives. (Would you want a diagnosis that depends on who else was examined that day?)
#
# <details><summary>Hint 1: a question</summary>
#
# Which of the six arguments may be averaged over the examples here?
#
# </details>
#
# <details><summary>Hint 2: parts you know</summary>
#
# To hint 1: none of the six; everything here is elementwise. It is the normalization of question 2, with given
# statistics, and then the scale and shift of question 4. If you call your `normalize`, its mistakes count here too.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# Compute `x_hat` with `running_mean`, `running_var` and `eps` under the root. Multiply by `gamma`, then add `beta`. All
# of them have shape $(D,)$, so broadcasting already does what it should.
#
# </details>


# %% nbgrader={"grade_id": "batch_norm_eval-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def batch_norm_eval(x, gamma, beta, running_mean, running_var, eps):
    """Batch normalization in evaluation: every example by itself.

    Parameters
    ----------
    x : ndarray of shape (N, D)
        N may be 1. Must not be changed.
    gamma, beta : ndarray of shape (D,)
        Learned scale and shift of each feature.
    running_mean, running_var : ndarray of shape (D,)
        Statistics from training.
    eps : float
        Positive; added to running_var, inside the square root.

    Returns
    -------
    y : ndarray of shape (N, D)

    References
    ----------
    Ioffe & Szegedy (2015), Section 3.1 and Algorithm 2.
    """
    ### BEGIN SOLUTION
    x_hat = (x - running_mean) / np.sqrt(running_var + eps)
    return gamma * x_hat + beta
    ### END SOLUTION


# %% nbgrader={"grade_id": "batch_norm_eval", "grade": true, "locked": true, "points": 11, "schema_version": 3, "solution": false, "task": false}
check("batch_norm_eval", batch_norm_eval)

# %% [markdown]
# **See it.** One and the same example, the value 7, sits in 300 different batches of 8. *What you should see:* with the
# statistics of the batch (as in training) its output is spread over a wide range, depending on its batch mates. With
# your evaluation it is one number, every time.

# %%
rng = np.random.default_rng(4)
one, zero = np.ones(1), np.zeros(1)
in_training, in_evaluation = [], []
for _ in range(300):
    x = np.concatenate([[[7.0]], rng.normal(5, 2, size=(7, 1))])
    in_training.append((7 - x.mean()) / x.std())
    in_evaluation.append(batch_norm_eval(x, one, zero, 5 * one, 4 * one, 1e-5)[0, 0])

fig, axes = plt.subplots(2, 1, figsize=(6.4, 4), sharex=True, layout="constrained")
bins = np.linspace(-0.5, 3, 36)
for ax, values, title in (
    (axes[0], in_training, "statistics of the batch"),
    (axes[1], in_evaluation, "running statistics, by your batch_norm_eval"),
):
    ax.hist(values, bins=bins, histtype="stepfilled")
    ax.set_title(title, loc="left")
    ax.set_ylabel("batches")
axes[1].set_xlabel("output for the example x = 7")
plt.show()

# %% [markdown]
# ## 7. Batch mates
#
# *Difficulty* ●●●○○ · *10 minutes* · *4 points* · a written answer
#
# An app names the plants in photos. Its network has BN layers, and somebody forgot to switch them to evaluation: every
# photo is normalized with the mean and variance of the batch in which it happens to arrive. Answer in two or three
# sentences each:
#
# 1. The same photo, sent twice, gets two different names. How can that be, though no weight has changed?
# 2. At night the photos come one by one. What does a BN layer behind a *dense* layer put out for a batch of one, and
#    what do the layers behind it still learn about the photo?
# 3. A gardener sends 32 photos of the same rose in one batch. Why may the names be worse than if every photo had come
#    among photos of other plants?
# 4. In training every output depends on its batch mates, too, and no one complains. Why does it do no harm there, and
#    what do the running statistics have to do with it?
#
# <details><summary>Hint: what is the mean of the batch?</summary>
#
# In 2 it is the example itself. In 3 it is what all the roses have in common. In 4 it is an estimate. Of what?
#
# </details>

# %% [markdown] nbgrader={"grade_id": "batch_mates", "grade": true, "locked": false, "points": 4, "schema_version": 3, "solution": true, "task": false}
# 1. The photo is normalized with a mean and a variance over all photos of its batch. With other batch mates these are
#    other numbers, so the values behind the layer are others, and near the border between two plants that is enough for
#    another name.
# 2. With one example, the mean is the example itself and the variance is 0. So $\hat{x} = 0$ and $y = \beta$, whatever
#    the photo shows: nothing about it gets through the layer, and every photo has the same name. (PyTorch refuses such
#    a batch in training mode.)
# 3. The mean of this batch is the typical rose. What all its photos have in common, by which the network would tell a
#    rose from other plants, is subtracted, and the small differences between the photos are stretched to standard
#    deviation 1. The layers behind never met such values: in training the batches were mixed.
# 4. In training the batches are drawn at random from all data, so their statistics are estimates of the same two
#    numbers, the mean and variance over all the data. The differences are noise, which averages out over many steps,
#    and a little of it may even help against overfitting. The running statistics collect these estimates. In evaluation
#    they stand in for the batch as fixed numbers, so that an output depends on its own example only.

# %% [markdown]
# ## 8. How large is a BN layer?
#
# *Difficulty* ●○○○○ · *5 minutes* · *6 points*
#
# A convolution slides the same weights over all positions of an image, so what it puts out at different positions is
# the same kind of thing: one *channel*. BN treats it so. Inputs have the shape $(N, C)$ for dense layers, $(N, C, L)$
# for sequences, $(N, C, H, W)$ for images and $(N, C, D, H, W)$ for volumes: first the examples, then $C$ channels,
# then any number of position axes. Each *channel* has one mean, one variance, one $\gamma$ and one $\beta$, and all
# examples and all positions share them. A dense layer is the case without positions, where each feature (each neuron)
# is a channel.
#
# Given the shape of the input, return three counts:
#
# - `learned`: how many numbers the layer learns by gradient descent ($\gamma$ and $\beta$).
# - `remembered`: how many running statistics it keeps. (PyTorch also counts the batches it has seen; leave that out.)
# - `m`: over how many values each mean and variance is taken.
#
# <details><summary>Hint 1: a question</summary>
#
# If the images were twice as wide, which of the three would change?
#
# </details>
#
# <details><summary>Hint 2: what depends on what</summary>
#
# Two of the three depend on $C$ alone. The third depends on everything but $C$.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# `shape[1]` is $C$, and there are two numbers of each kind per channel. For `m`, multiply `shape[0]` by all of
# `shape[2:]`: a loop does it, or `np.prod`, which gives 1 for no positions at all.
#
# </details>


# %% nbgrader={"grade_id": "layer_sizes-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def layer_sizes(shape):
    """Count what a BN layer learns, what it remembers, and the values behind each statistic.

    Parameters
    ----------
    shape : tuple of int
        Of the layer's input: (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W).

    Returns
    -------
    learned : int
        Learned parameters.
    remembered : int
        Running statistics.
    m : int
        Values of one channel in a batch.

    References
    ----------
    Ioffe & Szegedy (2015), Section 3.2, for convolutional layers.
    """
    ### BEGIN SOLUTION
    n, c, *positions = shape
    m = n
    for length in positions:
        m *= length
    return 2 * c, 2 * c, m
    ### END SOLUTION


# %% nbgrader={"grade_id": "layer_sizes", "grade": true, "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
check("layer_sizes", layer_sizes)

# %% [markdown]
# **See it.** BN at four places of a convolutional network, for batches of 32. *What you should see:* the convolutional
# layers learn one pair per channel, however large the image. Where the last feature map is flattened into a row of
# numbers, every one of them becomes a feature with a pair of its own: the same $32 \times 512 \times 7 \times 7$
# values, 49 times as many parameters, and each statistic now rests on 32 values only.

# %%
print(f"{'input of the BN layer':<42}{'learned':>9}{'remembered':>12}{'m':>12}")
for place, shape in {
    "first convolution": (32, 64, 224, 224),
    "last convolution": (32, 512, 7, 7),
    "the same, flattened": (32, 512 * 7 * 7),
    "dense layer": (32, 4096),
}.items():
    learned, remembered, m = layer_sizes(shape)
    print(f"{place:<20}{shape!s:<22}{learned:>9,}{remembered:>12,}{m:>12,}")

# %% [markdown]
# ## 9. The moments of channels
#
# *Difficulty* ●●●○○ · *15 minutes* · *11 points*
#
# Now the mean and (biased) variance of each channel, for inputs with any number of position axes. For images:
#
# $$
# \mu_c = \frac{1}{m} \sum_{n,h,w} x_{nchw}
# \qquad
# \sigma^2_c = \frac{1}{m} \sum_{n,h,w} (x_{nchw} - \mu_c)^2
# \qquad
# m = N H W
# $$
#
# One function for all shapes: no position axis, one, two or three.
#
# Three traps that many have fallen into. Averaging over the examples alone gives statistics of every *pixel*. A
# variance of each image, averaged over the images, misses that some images are brighter than others. And `reshape`
# never swaps axes: it reads the same numbers in the same order.
#
# <details><summary>Hint 1: a question</summary>
#
# Which axes should be gone from the result, and which single one should be left?
#
# </details>
#
# <details><summary>Hint 2: several axes at once</summary>
#
# NumPy averages over several axes at once when `axis` is a tuple. For images it is `(0, 2, 3)`. How do you get the
# tuple for an `x` with `x.ndim` axes?
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# The axes are 0 and all from 2 to `x.ndim - 1`: build the tuple with `range`. `keepdims=True` keeps the mean in a shape
# that lines up with `x` when you subtract it; drop the extra axes at the end. Another way: `np.moveaxis` puts the
# channels first, and *then* a reshape to $C$ rows is safe.
#
# </details>


# %% nbgrader={"grade_id": "channel_moments-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def channel_moments(x):
    """Mean and biased variance of each channel, over all examples and positions.

    Parameters
    ----------
    x : ndarray of shape (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W)
        Must not be changed.

    Returns
    -------
    mean, var : ndarray of shape (C,)
        var divides by m, the number of values of a channel.

    References
    ----------
    Ioffe & Szegedy (2015), Section 3.2.
    """
    ### BEGIN SOLUTION
    axes = (0, *range(2, x.ndim))
    return x.mean(axis=axes), x.var(axis=axes)
    ### END SOLUTION


# %% nbgrader={"grade_id": "channel_moments", "grade": true, "locked": true, "points": 11, "schema_version": 3, "solution": false, "task": false}
check("channel_moments", channel_moments)

# %% [markdown]
# **See it.** Sixteen pictures of a hill under a bright sky; in each, the sun stands elsewhere. On the left one of them,
# in the middle the same after normalizing with your channel statistics, on the right with statistics of every pixel.
# *What you should see:* yours keeps the picture; only its brightness and contrast are set. Per pixel, whatever the
# pictures have in common is gone: sky and hill can hardly be told apart, and the sun is left on gray noise.

# %%
rng = np.random.default_rng(5)
rows, columns = np.mgrid[0:48, 0:48] / 48
landscape = np.where(rows > 0.65 + 0.15 * np.sin(6 * columns), 0.2, 0.9 - 0.4 * rows)
pictures = np.stack([landscape] * 16)[:, None] + rng.normal(0, 0.03, size=(16, 1, 48, 48))
for picture in pictures[:, 0]:
    row, column = rng.uniform(0.1, 0.45), rng.uniform(0.15, 0.85)  # of the sun
    picture += 0.8 * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 0.004)
mean, var = channel_moments(pictures)
versions = {
    "input": pictures,
    "per channel, yours": (pictures - mean[0]) / np.sqrt(var[0]),
    "per pixel": (pictures - pictures.mean(axis=0)) / pictures.std(axis=0),
}
fig, axes = plt.subplots(1, 3, figsize=(6.4, 2.5), layout="constrained")
for ax, (title, values) in zip(axes, versions.items(), strict=True):
    ax.imshow(values[0, 0], cmap="gray")
    ax.set_title(title, fontsize=11)
    ax.set_axis_off()
plt.show()

# %% [markdown]
# ## 10. Batch normalization
#
# *Difficulty* ●●●●○ · *30 minutes* · *18 points*
#
# The whole thing: training and evaluation, the running statistics, inputs of any rank. You may call your functions from
# above, or write it out afresh in about ten lines. If you call them, their mistakes count here too.
#
# | | normalizes with | running statistics returned |
# |---|---|---|
# | `training=True` | mean and *biased* variance of the batch | updated with the batch's mean and *unbiased* variance |
# | `training=False` | `running_mean`, `running_var` | as they came |
#
# In both cases $y = \gamma \hat{x} + \beta$, with one $\gamma$ and one $\beta$ per channel, and $\varepsilon$ inside
# the root. Change none of the arguments. In training $m \ge 2$. (With one value per channel there is no variance to
# speak of, $\hat{x}$ would be 0 and $y$ would be $\beta$ for any input. PyTorch refuses such a batch.)
#
# <details><summary>Hint 1: a question</summary>
#
# NumPy lines shapes up from the right. If `x` has the shape $(N, C, H, W)$ and `gamma` has $(C,)$, which axis of `x`
# does `gamma` go with? Which shape would `gamma` need?
#
# </details>
#
# <details><summary>Hint 2: one shape for all</summary>
#
# An array of shape $(1, C, 1, 1)$ lines up with $(N, C, H, W)$. In general there is one 1 for every position axis:
# `a.reshape(1, -1, *[1] * (x.ndim - 2))`. Mean, variance, gamma and beta all need it; the running statistics that you
# return are $(C,)$ again.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# 1. If training: mean and biased variance over all axes but 1, and $m$. From these the new running mean and, with the
#    unbiased variance, the new running variance.
# 2. Else: mean and variance are the running ones, which are returned unchanged.
# 3. Reshape mean, variance, gamma and beta to line up with the channels of `x`.
# 4. Normalize, scale, shift.
#
# </details>


# %% nbgrader={"grade_id": "batch_norm-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def batch_norm(x, gamma, beta, running_mean, running_var, training, momentum, eps):
    """Batch normalization, forward, for inputs of any rank.

    Parameters
    ----------
    x : ndarray of shape (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W)
    gamma, beta : ndarray of shape (C,)
        Learned scale and shift of each channel.
    running_mean, running_var : ndarray of shape (C,)
        Statistics so far.
    training : bool
        True: normalize with the statistics of x, and update the running ones. False: normalize with the running ones.
    momentum : float in [0, 1]
        Weight of the batch in the running statistics.
    eps : float
        Positive; added to the variance, inside the square root.

    Returns
    -------
    y : ndarray, same shape as x
    running_mean, running_var : ndarray of shape (C,)
        After this batch.

    References
    ----------
    Ioffe & Szegedy (2015), Algorithms 1 and 2, Section 3.2; momentum as in torch.nn.functional.batch_norm.
    """
    ### BEGIN SOLUTION
    if training:
        axes = (0, *range(2, x.ndim))
        mean, var = x.mean(axis=axes), x.var(axis=axes)
        m = x.size // x.shape[1]
        running_mean = (1 - momentum) * running_mean + momentum * mean
        running_var = (1 - momentum) * running_var + momentum * var * m / (m - 1)
    else:
        mean, var = running_mean, running_var

    per_channel = (1, -1, *[1] * (x.ndim - 2))
    x_hat = (x - mean.reshape(per_channel)) / np.sqrt(var.reshape(per_channel) + eps)
    y = gamma.reshape(per_channel) * x_hat + beta.reshape(per_channel)
    return y, running_mean, running_var
    ### END SOLUTION


# %% nbgrader={"grade_id": "batch_norm", "grade": true, "locked": true, "points": 18, "schema_version": 3, "solution": false, "task": false}
check("batch_norm", batch_norm)

# %% [markdown]
# **See it.** Random data on their way through 20 dense layers with ReLU, whose random weights are drawn somewhat too
# small, well, or somewhat too large. *What you should see:* without BN the values of the first fade and those of the
# last grow with every layer, by a factor of hundreds or thousands in the end. With your `batch_norm` before each ReLU
# the three curves lie on each other: scaling the weights of a layer scales its output, and BN divides that out again.
# Whether such a network also *learns* faster is another question, which the course puts to a test of its own.

# %%
rng = np.random.default_rng(6)
width, depth = 64, 20
inputs = rng.normal(size=(128, width))
weights = rng.normal(size=(depth, width, width)) * np.sqrt(2 / width)
ones, zeros = np.ones(width), np.zeros(width)


def spread_by_layer(scale, with_bn):
    h, spread = inputs, []
    for w in weights:
        h = h @ (scale * w)
        if with_bn:
            h, _, _ = batch_norm(h, ones, zeros, zeros, ones, True, 0.1, 1e-5)
        h = np.maximum(h, 0)
        spread.append(h.std())
    return spread


curves = {(scale, bn): spread_by_layer(scale, bn) for scale in (0.7, 1.0, 1.4) for bn in (False, True)}
fig, axes = plt.subplots(1, 2, figsize=(6.4, 3.6), sharey=True, layout="constrained")
for (scale, bn), spread in curves.items():
    style = {0.7: "v:", 1.0: "o-", 1.4: "^--"}[scale]
    axes[int(bn)].semilogy(range(1, depth + 1), spread, style, markersize=4, label=f"weights x {scale}")
axes[0].set(title="without BN", xlabel="layer", ylabel="standard deviation of the values")
axes[1].set(title="with your batch_norm", xlabel="layer")
axes[0].legend()
plt.show()

# %% [markdown]
# ## What you learned
#
# - BN computes a mean and a *biased* variance per channel, over all examples and positions of a batch, and divides by
#   the *standard deviation*, with $\varepsilon$ under the root.
# - How you compute a variance matters: subtract first, square later.
# - $\gamma = \sqrt{\sigma^2 + \varepsilon}$, $\beta = \mu$ undo the normalization exactly. Neither the variance nor its
#   root without $\varepsilon$ does.
# - Training and evaluation are two different functions. In training an example's output depends on its batch mates; in
#   evaluation it doesn't, thanks to the running statistics, for which the variance is the unbiased one.
# - A channel has one $\gamma$ and one $\beta$, whatever the size of the image.
#
# ## Going further (not graded)
#
# - Compare with PyTorch, if you have it: `torch.nn.functional.batch_norm` takes the arguments `x, running_mean,
#   running_var, gamma, beta, training, momentum, eps` and changes the running statistics in place. Do `float64` results
#   agree to 12 digits?
# - In evaluation BN is one multiplication and one addition per channel. Fold it into the weights and bias of the dense
#   layer before it, and check that the outputs stay the same.
# - `momentum=None` in PyTorch keeps a plain average over all batches so far. Which momentum must the $k$-th batch have
#   for that?
# - Your `batch_moments` reads the data twice. Welford's method needs one pass and is about as accurate. Write it, and
#   add its curve to the first figure.
# - Normalize each example over its channels and positions instead: layer normalization. What do training and evaluation
#   look like then, and what becomes of the running statistics?
