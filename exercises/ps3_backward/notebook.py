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
# # Problem set 3: The backward pass
#
# In the forward direction batch normalization (BN) is four lines. Backward, every example of a batch has a say in the
# gradient of every other, since all of them made the mean and the variance. You derive that gradient twice, once step
# by step and once in a single line, build the tool that finds out whether it is right, and then send gradients through
# thirty layers. NumPy is all you need.
#
# **Afterwards you can**
#
# - compute the gradients of BN: for $\gamma$ and $\beta$, for every intermediate, and for $x$ in one expression;
# - check a gradient with finite differences, and tell a right one from a wrong one;
# - say what BN takes out of a gradient, and what evaluation mode leaves in;
# - do the same for images, where every pixel of a channel is in the batch;
# - say which of the promises about BN and gradients hold, from a measurement of your own.
#
# **Time:** about two and a half hours. **You need:** the forward pass (problem set 2), the chain rule, NumPy axes and
# broadcasting. The chapter *The backward pass* of the book is the theory to this practice.
#
# ## How to work
#
# 1. Run the cells from the top. Where a cell says `raise NotImplementedError()`, replace that line by your code.
# 2. Run the cell below it. It checks your function on several random inputs and tells you what is right, what isn't
#    yet, and what the likely mistake is. Try again as often as you like.
# 3. Points are given part by part, so half a solution earns something. The questions don't depend on each other,
#    unless you call your earlier functions: skip one and come back later. A figure that uses an unanswered function
#    shows `NotImplementedError`; this costs nothing.
# 4. Two questions ask for a few sentences instead of code. A person reads them.
# 5. Stuck? Every function has three hints. Open one at a time.
# 6. Before you hand in, type `bnlab check ps3_backward.ipynb` in a terminal. It runs the notebook from top to bottom in
#    a fresh kernel, as the grader will, with a table of your points. The grader draws other random inputs.
#
# Keep the cells that are here. You may add cells of your own.
#
# **Conventions.** There is a loss $L$, a number. `dy` stands for $\partial L / \partial y$, has the shape of `y`, and
# comes from the layers above; `dx`, `dgamma` and so on likewise. Except in questions 8 and 10, `x` has shape $(N, D)$:
# $m = N$ examples with $D$ features. The forward pass is, for each feature,
#
# $$
# \mu = \frac1m \sum_i x_i
# \qquad
# \sigma^2 = \frac1m \sum_i (x_i - \mu)^2
# \qquad
# \hat{x}_i = \frac{x_i - \mu}{\sqrt{\sigma^2 + \varepsilon}}
# \qquad
# y_i = \gamma \hat{x}_i + \beta
# $$
#
# No function may change its arguments in place. The checks allow for rounding, in `float64` and, except in questions 2
# and 3, in `float32`.
#
# | question | difficulty | minutes | points |
# |---|---|---|---|
# | 1. `parameter_gradients` | ●●○○○ | 10 | 8 |
# | 2. `numerical_gradient` | ●●●○○ | 15 | 10 |
# | 3. `gradient_error` | ●●●○○ | 15 | 10 |
# | 4. `judge_the_check` | ●●○○○ | 10 | 4 |
# | 5. `backward_staged` | ●●●●○ | 25 | 16 |
# | 6. `split_gradient` | ●●○○○ | 15 | 8 |
# | 7. `backward` | ●●●○○ | 10 | 10 |
# | 8. `backward_channels` | ●●●○○ | 15 | 10 |
# | 9. `backward_eval` | ●●○○○ | 10 | 8 |
# | 10. `gradient_norms` | ●●●●○ | 25 | 12 |
# | 11. `what_holds` | ●●○○○ | 10 | 4 |

# %%
import matplotlib.pyplot as plt
import numpy as np
from checks import check

# %% [markdown]
# ## 1. The gradients of gamma and beta
#
# *Difficulty* ●●○○○ · *10 minutes* · *8 points*
#
# Start at the output, with $y_{ij} = \gamma_j \hat{x}_{ij} + \beta_j$. How does the loss change with $\gamma_j$? The
# layers above hand down $dy_{ij} = \partial L / \partial y_{ij}$, the slope of the loss for each output. One $\gamma_j$
# serves all $m$ examples of its feature, and so does one $\beta_j$. A number that is used in $m$ places gets $m$
# gradients back, and they add up:
#
# $$
# d\gamma_j = \sum_{i=1}^{m} dy_{ij} \, \frac{\partial y_{ij}}{\partial \gamma_j}
# \qquad
# d\beta_j = \sum_{i=1}^{m} dy_{ij} \, \frac{\partial y_{ij}}{\partial \beta_j}
# $$
#
# Work out the two derivatives, and return both sums. You are given $x$ and the mean and variance that normalized it,
# from wherever they come: make $\hat{x}$ with these.
#
# <details><summary>Hint 1: a question</summary>
#
# If $\gamma_j$ grows by a little, by how much does $y_{ij}$ grow? For which examples is that a lot?
#
# </details>
#
# <details><summary>Hint 2: the two derivatives</summary>
#
# What stands beside $\gamma$ in $y = \gamma \hat{x} + \beta$? That is one of the derivatives. The other is the number 1.
# Neither $x$ nor $y$ appears in them.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# One line for $\hat{x}$, with `eps` under the root. Then two sums over the examples, `axis=0`: one of a product, one of
# `dy` alone. Sums, not means: if the loss is a mean, the $1/m$ is in `dy` already.
#
# </details>


# %% nbgrader={"grade_id": "parameter_gradients-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def parameter_gradients(dy, x, mean, var, eps):
    """Gradients of the loss with respect to gamma and beta.

    Parameters
    ----------
    dy : ndarray of shape (N, D)
        Gradient of the loss with respect to y = gamma * x_hat + beta.
    x : ndarray of shape (N, D)
        What was normalized.
    mean, var : ndarray of shape (D,)
        The statistics that normalized it.
    eps : float
        Added to var, inside the square root.

    Returns
    -------
    dgamma, dbeta : ndarray of shape (D,)

    References
    ----------
    Ioffe & Szegedy (2015), Section 3, the last two of the six gradients.
    """
    ### BEGIN SOLUTION
    x_hat = (x - mean) / np.sqrt(var + eps)
    dgamma = (dy * x_hat).sum(axis=0)
    dbeta = dy.sum(axis=0)
    return dgamma, dbeta
    ### END SOLUTION


# %% nbgrader={"grade_id": "parameter_gradients", "grade": true, "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
check("parameter_gradients", parameter_gradients)

# %% [markdown]
# **See it.** Gradient descent on gamma and beta alone. The target is $2\hat{x} - 1$ plus noise, and they start at
# $\gamma = 1$, $\beta = 0$. *What you should see:* with your gradients gamma comes close to 2 and beta to $-1$, the
# dashed lines (the noise leaves a little), and they arrive together within about fifteen steps: $\hat{x}$ has mean 0
# and variance 1, so the two directions are equally steep and don't disturb each other.

# %%
rng = np.random.default_rng(0)
x = rng.normal(5, 3, size=(200, 1))
mean, var = x.mean(axis=0), x.var(axis=0)
x_hat = (x - mean) / np.sqrt(var + 1e-5)
target = 2 * x_hat - 1 + rng.normal(0, 0.3, x.shape)
gamma, beta, path = np.ones(1), np.zeros(1), []
for _ in range(25):
    path.append((gamma[0], beta[0]))
    dy = (gamma * x_hat + beta - target) / len(x)  # of the loss: half the mean of the squares
    dgamma, dbeta = parameter_gradients(dy, x, mean, var, 1e-5)
    gamma, beta = gamma - 0.3 * dgamma, beta - 0.3 * dbeta

fig, ax = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
ax.plot([gamma for gamma, _ in path], "o-", markersize=4, label="gamma")
ax.plot([beta for _, beta in path], "s-", markersize=4, label="beta")
for goal in (2, -1):
    ax.axhline(goal, color="gray", linewidth=1, linestyle="--")
ax.set(xlabel="steps of gradient descent", ylabel="value")
ax.legend()
plt.show()

# %% [markdown]
# ## 2. A gradient without calculus
#
# *Difficulty* ●●●○○ · *15 minutes* · *10 points*
#
# Before you derive more, build something that tells you whether a derivation is right. A derivative is a limit of
# differences, so take differences. Let $f$ be any function that turns an array $x$ into an array $y$, and let `dy` be
# the gradient that arrives at $y$. The number
#
# $$
# L(x) = \sum_i dy_i \, f(x)_i
# $$
#
# then has just the gradient that we look for: $dx_k = \partial L / \partial x_k = \sum_i dy_i \, \partial f_i /
# \partial x_k$. For each entry $x_k$ by itself, move it up by a step $h$, move it down by $h$, and compare:
#
# $$
# dx_k \approx \frac{L(x + h e_k) - L(x - h e_k)}{2h}
# $$
#
# where $e_k$ is 1 at entry $k$ and 0 elsewhere. This is the *central* difference. Its error falls with $h^2$, while
# that of the one-sided difference $(L(x + h e_k) - L(x)) / h$ falls with $h$ only.
#
# Compute in `float64` whatever the dtype of `x`: a step of $10^{-5}$ beside a value of 3 is lost in the seven digits
# of `float32`. The result of $f$ may have another shape than $x$; `dy` has the shape of the result.
#
# <details><summary>Hint 1: a question</summary>
#
# How often is $f$ called for an `x` with 12 entries? (If your answer is 2, then all entries move at the same time, and
# nobody can tell which of them made the difference.)
#
# </details>
#
# <details><summary>Hint 2: moving one entry</summary>
#
# `np.ndindex(x.shape)` walks through all indices of an array with any number of axes. Beware of `x[k] += h`: that
# changes the caller's array, the entry stays moved unless you put it back, and in an array of integers it does nothing.
# Work on a `float64` copy.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# 1. `dx = np.zeros(x.shape)`.
# 2. For every index `k`: `step = np.zeros(x.shape)`, then `step[k] = h`.
# 3. `dx[k]` is the sum of `dy * (f(x + step) - f(x - step))`, divided by `2 * h`.
#
# </details>


# %% nbgrader={"grade_id": "numerical_gradient-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def numerical_gradient(f, x, dy, h):
    """Gradient of sum(dy * f(x)) with respect to x, by central differences.

    Parameters
    ----------
    f : callable
        Takes an array of the shape of x and returns an array of the shape of dy. Any entry of the
        result may depend on any entry of x.
    x : ndarray of any shape
        Where to take the gradient: float64, float32 or integers. Must not be changed.
    dy : ndarray
        Gradient of the loss with respect to f(x).
    h : float
        The step, up and down.

    Returns
    -------
    dx : ndarray, same shape as x, float64
    """
    ### BEGIN SOLUTION
    dx = np.zeros(x.shape)
    for k in np.ndindex(x.shape):
        step = np.zeros(x.shape)  # float64, and so is x + step
        step[k] = h
        dx[k] = (dy * (f(x + step) - f(x - step))).sum() / (2 * h)
    return dx
    ### END SOLUTION


# %% nbgrader={"grade_id": "numerical_gradient", "grade": true, "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
check("numerical_gradient", numerical_gradient)

# %% [markdown]
# **See it.** The error of your numerical gradient for steps from 1 down to $10^{-13}$, for a function whose gradient is
# known. *What you should see:* from the right, yours falls by two decades when the step falls by one, the one-sided
# difference by one. But both turn around: where the step is tiny, $f(x + h)$ and $f(x - h)$ agree in almost all of their
# 16 digits, and the difference is made of what is left, rounding. The lowest points of yours lie between $10^{-6}$ and
# $10^{-5}$. A smaller step is *worse*.

# %%
rng = np.random.default_rng(1)
x, dy = rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
exact = dy * np.exp(np.sin(x)) * np.cos(x)
steps = 10.0 ** np.arange(0, -13.5, -0.5)
largest = np.abs(exact).max()
central, one_sided = [], []
for h in steps:
    yours = numerical_gradient(lambda a: np.exp(np.sin(a)), x, dy, h)
    forward = dy * (np.exp(np.sin(x + h)) - np.exp(np.sin(x))) / h
    central.append(np.abs(yours - exact).max() / largest)
    one_sided.append(np.abs(forward - exact).max() / largest)

fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
ax.loglog(steps, one_sided, "v--", markersize=4, label="one-sided")
ax.loglog(steps, central, "o-", markersize=4, label="yours")
ax.set(xlabel="step h", ylabel="relative error")
ax.legend()
plt.show()

# %% [markdown]
# ## 3. How wrong is a gradient?
#
# *Difficulty* ●●●○○ · *15 minutes* · *10 points*
#
# Now the judge. Somebody claims that $f$ turns a gradient `dy` into `dx`. Compare `dx` with a numerical gradient $n$
# and return one number, the *relative error*
#
# $$
# \text{error} = \frac{\max_k |dx_k - n_k|}{\max\big(\max_k |dx_k|, \; \max_k |n_k|\big)}
# $$
#
# the largest difference, compared with the largest entry. A bare difference says nothing: $10^{-7}$ is excellent where
# the gradient is 1 and hopeless where it is $10^{-9}$, as in the first layers of a deep network. Comparing every entry
# with itself is no good either: an entry that happens to be nearly 0 makes a large ratio out of pure rounding.
#
# **What is good?** In `float64` with central differences: below $10^{-6}$ the gradient is right; above $10^{-3}$ it is
# wrong; in between, look closer (a kink of a ReLU nearby? a bad step?).
#
# A judge must not be fooled, so take care of the odd cases:
#
# - **The step** is yours to choose. It must suit `x`: take $h = 10^{-5}$ times the standard deviation of `x` (all its
#   values together). Think of an `x` in millimeters, then in kilometers.
# - `dx` contains **NaN** or infinity: return `np.inf`. (NaN is neither above nor below $10^{-3}$, so it would slip
#   through a test.)
# - `dx` has **another shape** than `x`: return `np.inf`. NumPy would broadcast $(1, D)$ against $(N, D)$ and never
#   complain.
# - Both gradients are **zero** everywhere: that is a perfect match, error 0. (Both. Where only one of them is zero, the
#   formula says 1, and that is as it should be.)
#
# <details><summary>Hint 1: a question</summary>
#
# Multiply `dy` by a billion, and a right `dx` with it. Which of these change: the difference, the largest entry, your
# error? Which of them should?
#
# </details>
#
# <details><summary>Hint 2: the order of things</summary>
#
# Look at the shape first and at `np.isfinite(dx).all()` second: then nothing strange reaches the formula. Only the
# denominator 0 is left to be caught.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# 1. Wrong shape or not finite: return `np.inf`.
# 2. `h = 1e-5 * x.std()`; the numerical gradient as in question 2 (call your function, or write it out: five lines).
# 3. `largest` is the maximum of `np.abs(dx).max()` and `np.abs(n).max()`. If it is 0, return 0.
# 4. Return the largest difference divided by `largest`.
#
# </details>


# %% nbgrader={"grade_id": "gradient_error-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def gradient_error(f, x, dy, dx):
    """How far a claimed gradient is from the numerical one, relative to its size.

    Parameters
    ----------
    f : callable
        Takes an array of the shape of x and returns an array of the shape of dy.
    x : ndarray of any shape
        float64, at least two different values. Must not be changed.
    dy : ndarray
        Gradient of the loss with respect to f(x).
    dx : ndarray
        The claim: gradient of the loss with respect to x. It should have the shape of x.

    Returns
    -------
    error : float
        Largest difference divided by the largest entry of both gradients; 0 where both are zero
        everywhere, and inf where dx has another shape than x or isn't finite.
    """
    ### BEGIN SOLUTION
    if dx.shape != x.shape or not np.isfinite(dx).all():
        return np.inf
    h = 1e-5 * x.std()
    numeric = np.zeros(x.shape)
    for k in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[k] = h
        numeric[k] = (dy * (f(x + step) - f(x - step))).sum() / (2 * h)
    largest = max(np.abs(dx).max(), np.abs(numeric).max())
    return np.abs(dx - numeric).max() / largest if largest > 0 else 0.0
    ### END SOLUTION


# %% nbgrader={"grade_id": "gradient_error", "grade": true, "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
check("gradient_error", gradient_error)

# %% [markdown]
# **See it.** Five candidates for the gradient of normalization, $\hat{x}$ with respect to $x$, before your judge.
# *What you should see:* one bar ends far below the green line at $10^{-6}$; that candidate is right. The others are
# beyond the red line at $10^{-3}$. One of them is the most common mistake of all, and one is off by 1%: you wouldn't
# see it in a plot, and a network would train with it, a little worse than it should.

# %%
rng = np.random.default_rng(2)
x, dy = rng.normal(3, 2, size=(6, 2)), rng.normal(1, 1, size=(6, 2))
std = x.std(axis=0)
x_hat = (x - x.mean(axis=0)) / std
without_mean = dy - dy.mean(axis=0)
right = (without_mean - x_hat * (dy * x_hat).mean(axis=0)) / std
candidates = {
    "mean and variance\ntaken as constants": dy / std,
    "nothing through\nthe variance": without_mean / std,
    "wrong sign": -right,
    "1% too large": 1.01 * right,
    "all terms": right,
}


def normalize(a):
    return (a - a.mean(axis=0)) / a.std(axis=0)


errors = [gradient_error(normalize, x, dy, dx) for dx in candidates.values()]

fig, ax = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
ax.barh(list(candidates), np.maximum(errors, 1e-13), left=1e-13)
ax.axvline(1e-6, color="green", linestyle="--", label="right: below")
ax.axvline(1e-3, color="red", linestyle=":", label="wrong: above")
ax.set(xscale="log", xlim=(1e-13, 10), xlabel="your gradient_error")
fig.legend(loc="outside upper right", ncols=2, fontsize=9)
plt.show()

# %% [markdown]
# ## 4. Judge the check
#
# *Difficulty* ●●○○○ · *10 minutes* · *4 points* · `judge_the_check` · *a written answer*
#
# Three people checked the backward pass that they wrote for BN, with central differences. Here is what they report:
#
# - **Ada**: relative error 0.004, and it is 0.004 again with a step ten times as small.
# - **Ben**: relative error 0.004. With a step ten times as small it becomes 0.04, with one ten times as large 0.0004.
# - **Cho**: no entry of the two gradients differs by more than $2 \cdot 10^{-12}$. Her `dy` was an array of ones.
#
# For each of the three: can the gradient be trusted, is it wrong, or can't one say? Give the reason, and name what you
# would do next where one can't say. Two or three sentences for each are enough.

# %% [markdown] nbgrader={"grade_id": "judge_the_check", "grade": true, "locked": false, "points": 4, "schema_version": 3, "solution": true, "task": false}
# **Ada** has a wrong gradient. An error of the numerical gradient would change with the step: truncation falls with
# $h^2$, rounding grows with $1/h$. What stays the same is a difference between two gradients, and since the numerical
# one is close to the truth for either step, it is Ada's formula that is off by 0.4%: perhaps a term with $1/m$ too
# much, or $m - 1$ in place of $m$ in a large batch.
#
# **Ben** can't say yet. His error is proportional to $1/h$: it is rounding, of a step far too small for the precision
# (or for `float32`). It hides any mistake that is smaller. He should compute in `float64`, make the step larger, about
# $10^{-5}$ of the spread of $x$, and look again.
#
# **Cho** can't say either, although her number is tiny. With `dy` of ones the loss is $\sum_i y_i = m \beta$ for each
# feature, whatever $x$ is. So the right `dx` is zero, and many wrong ones are zero, too: one without the term through
# the variance, for example. Her $10^{-12}$ is an absolute difference, of nothing. She should repeat it with a random
# `dy` and with $\gamma$ different from 1, and look at the relative error.

# %% [markdown]
# ## 5. The backward pass, one step at a time
#
# *Difficulty* ●●●●○ · *25 minutes* · *16 points*
#
# Now to $x$. It reaches the loss by three ways: directly, through the mean, and through the variance. The chain rule
# walks back from the output and asks at every intermediate: by how much does the loss change with *you*? Ioffe and
# Szegedy list the steps in Section 3 of their paper; here they are, with one blank for you in each. For every feature:
#
# $$
# \begin{aligned}
# d\hat{x}_i &= dy_i \cdot \boxed{\,?\,} \\
# d\sigma^2 &= \sum_i d\hat{x}_i \cdot \boxed{\,?\,} \\
# d\mu &= \sum_i d\hat{x}_i \cdot \boxed{\,?\,} \; + \; d\sigma^2 \cdot \frac1m \sum_i -2 (x_i - \mu) \\
# dx_i &= d\hat{x}_i \cdot \boxed{\,?\,} \; + \; d\sigma^2 \cdot \boxed{\,?\,} \; + \; d\mu \cdot \boxed{\,?\,}
# \end{aligned}
# $$
#
# Each blank is the derivative of one line of the forward pass: of $y_i$ with respect to $\hat{x}_i$; of $\hat{x}_i$
# with respect to $\sigma^2$, to $\mu$ and to $x_i$; of $\sigma^2$ and of $\mu$ with respect to $x_i$. In each of them
# everything else is held fixed. Sums run over the examples. (The second sum in $d\mu$ is zero. Why? Hint 2 has the
# answer.)
#
# Return all four intermediates: each is checked by itself, so you see where a slip is. $d\sigma^2$ and $d\mu$ are
# checked with the $d\hat{x}$ that you return, and one slip there doesn't spoil them.
#
# <details><summary>Hint 1: a question</summary>
#
# Write $\hat{x} = (x - \mu) \cdot (\sigma^2 + \varepsilon)^{-1/2}$. What is the derivative of $s^{-1/2}$ with respect
# to $s$? Both its sign and its power matter.
#
# </details>
#
# <details><summary>Hint 2: the blanks</summary>
#
# With $s = \sigma^2 + \varepsilon$: the variance line has $(x_i - \mu) \cdot (-\frac12) s^{-3/2}$, the mean line has
# $-s^{-1/2}$. The last line holds three derivatives with respect to $x_i$: that of $\hat{x}_i$ where $\mu$ and
# $\sigma^2$ are held fixed, then that of the mean of squares $\sigma^2$, then that of the mean $\mu$. Two of them have
# an $m$ below the line.
#
# The second sum in $d\mu$ adds up the deviations from the mean, $\sum_i (x_i - \mu) = m\mu - m\mu = 0$. A small shift of
# the mean doesn't change the variance: it is where the mean of squares is smallest. You may leave that sum out.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# 1. Forward once more: `mean`, `centered = x - mean`, `var` (biased), `inv_std = 1 / np.sqrt(var + eps)`.
# 2. `dx_hat` is `dy` times a number per feature.
# 3. `dvar`: sum over axis 0 of `dx_hat * centered`, times `-0.5 * inv_std**3`.
# 4. `dmu`: minus the sum over axis 0 of `dx_hat`, times `inv_std`.
# 5. `dx`: three terms. The second is `dvar * 2 * centered / m`, the third `dmu / m`.
#
# </details>


# %% nbgrader={"grade_id": "backward_staged-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def backward_staged(dy, x, gamma, eps):
    """The gradient of batch normalization in training, with its intermediates.

    Parameters
    ----------
    dy : ndarray of shape (N, D)
        Gradient of the loss with respect to y = gamma * x_hat + beta.
    x : ndarray of shape (N, D)
        The batch. Its own mean and biased variance normalized it.
    gamma : ndarray of shape (D,)
    eps : float
        Added to the variance, inside the square root.

    Returns
    -------
    dx_hat : ndarray of shape (N, D)
        Gradient with respect to the normalized values.
    dvar, dmu : ndarray of shape (D,)
        Gradients with respect to the variance and the mean of the batch.
    dx : ndarray of shape (N, D)
        Gradient with respect to x, by all three ways.

    References
    ----------
    Ioffe & Szegedy (2015), Section 3, the first four of the six gradients.
    """
    ### BEGIN SOLUTION
    m = len(x)
    centered = x - x.mean(axis=0)
    inv_std = 1 / np.sqrt((centered**2).mean(axis=0) + eps)

    dx_hat = dy * gamma
    dvar = (dx_hat * centered).sum(axis=0) * -0.5 * inv_std**3
    dmu = -(dx_hat * inv_std).sum(axis=0)  # the way through the variance adds 0: centered sums to 0
    dx = dx_hat * inv_std + dvar * 2 * centered / m + dmu / m
    return dx_hat, dvar, dmu, dx
    ### END SOLUTION


# %% nbgrader={"grade_id": "backward_staged", "grade": true, "locked": true, "points": 16, "schema_version": 3, "solution": false, "task": false}
check("backward_staged", backward_staged)

# %% [markdown]
# **See it.** One feature, twelve examples, and only one of them matters to the loss: `dy` is 1 for the example marked
# by an arrow and 0 for all others. The left panel shows how much of `dx` came by each of the three ways, made from your
# intermediates; the right one shows your `dx` (circles) and a numerical gradient (crosses). *What you should see:* the
# direct way moves the marked example alone. Through the mean, all are moved by the same amount. Through the variance,
# they lie on a line that falls through zero at the mean: the marked example is a large one, so whatever lies above the
# mean makes the spread larger and its $\hat{x}$ smaller. On the right, every cross sits in its circle, and no example is at 0:
# each of them has a say, though the loss looks at one.

# %%
rng = np.random.default_rng(3)
x = np.sort(rng.normal(4, 2, size=(12, 1)), axis=0)
chosen = 10
dy = np.zeros_like(x)
dy[chosen] = 1
gamma, centered, std = np.ones(1), x - x.mean(), np.sqrt(x.var() + 1e-5)
dx_hat, dvar, dmu, dx = backward_staged(dy, x, gamma, 1e-5)


def chosen_output(value, at):
    moved = x.copy()
    moved[at] = value
    return ((moved - moved.mean()) / np.sqrt(moved.var() + 1e-5))[chosen, 0]


h = 1e-5
numeric = [(chosen_output(x[i] + h, i) - chosen_output(x[i] - h, i)) / (2 * h) for i in range(12)]
fig, axes = plt.subplots(1, 2, figsize=(6.4, 3.6), sharey=True, layout="constrained")
axes[0].plot(x, dx_hat / std, "o", label="directly")
axes[0].plot(x, dvar * 2 * centered / 12, "^", label="through the variance")
axes[0].plot(x, np.broadcast_to(dmu / 12, x.shape), "_", markersize=10, label="through the mean")
axes[1].plot(x, dx, "o", markersize=10, markerfacecolor="none", label="your dx")
axes[1].plot(x, numeric, "kx", label="numerical")
for ax, values in ((axes[0], dx_hat / std), (axes[1], dx)):
    ax.axhline(0, color="gray", linewidth=0.8)
    tip = x[chosen, 0], values[chosen, 0]
    ax.annotate("", tip, (-35, 0), textcoords="offset points", arrowprops={"arrowstyle": "->"})
    ax.set_xlabel("value x of the example")
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, 0.85))
axes[0].set_ylabel("gradient")
plt.show()

# %% [markdown]
# ## 6. What BN takes out of a gradient
#
# *Difficulty* ●●○○○ · *15 minutes* · *8 points*
#
# Put the lines of question 5 into one another and most of it cancels. Do that on paper before you read on: nothing else
# in this set teaches you as much in five minutes.
#
# <details><summary>The steps, to compare with yours</summary>
#
# Write $s = \sigma^2 + \varepsilon$, so that $x_i - \mu = \sqrt{s} \, \hat{x}_i$. Then
#
# - $d\sigma^2 = -\frac12 s^{-3/2} \sum_k d\hat{x}_k \, (x_k - \mu) = -\frac12 s^{-1} \sum_k d\hat{x}_k \, \hat{x}_k$,
# - $d\mu = -s^{-1/2} \sum_k d\hat{x}_k$, as the other sum is zero.
#
# In $dx_i$ the second term becomes $d\sigma^2 \cdot \frac2m \sqrt{s} \, \hat{x}_i = - s^{-1/2} \, \hat{x}_i \frac1m \sum_k
# d\hat{x}_k \, \hat{x}_k$: the 2 cancels the ½. The third is $-s^{-1/2} \frac1m \sum_k d\hat{x}_k$. All three have the factor
# $s^{-1/2}$, and with $d\hat{x}_k = \gamma \, dy_k$ all have $\gamma$, too. Take both out.
#
# </details>
#
# What remains, for each feature, is
#
# $$
# dx_i = \frac{\gamma}{\sqrt{\sigma^2 + \varepsilon}}
# \Big( dy_i \; - \underbrace{\frac1m \sum_k dy_k}_{\text{mean part}}
# - \; \underbrace{\hat{x}_i \, \frac1m \sum_k dy_k \, \hat{x}_k}_{\text{part along } \hat{x}} \Big)
# $$
#
# So BN takes two things out of the gradient that comes from above and lets the rest pass. Both are things that it makes
# useless anyway: shifting all $x_i$ of a feature by the same amount doesn't change $y$, nor does stretching them, so
# the loss can't fall that way.
#
# Split `dy` into these three parts, each an array like `dy`. They add up to `dy` again.
#
# <details><summary>Hint 1: a question</summary>
#
# How many different numbers does the mean part contain, for $D$ features?
#
# </details>
#
# <details><summary>Hint 2: the shape</summary>
#
# `dy.mean(axis=0)` has the shape $(D,)$. Adding it to an array of zeros like `dy` repeats it for every example;
# `np.broadcast_to` and `np.tile` do that, too.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# Three lines. The mean of `dy` over the examples. `x_hat` times the mean of `dy * x_hat` over the examples. And `dy`
# minus the two. Divide by $m$ in both, as in the formula, also where the mean of $\hat{x}^2$ isn't quite 1.
#
# </details>


# %% nbgrader={"grade_id": "split_gradient-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def split_gradient(dy, x_hat):
    """Split a gradient into the two parts that BN takes out and the rest that it lets pass.

    Parameters
    ----------
    dy : ndarray of shape (N, D)
        Gradient of the loss with respect to the output of BN.
    x_hat : ndarray of shape (N, D)
        The normalized values, before gamma and beta.

    Returns
    -------
    mean_part : ndarray of shape (N, D)
        The mean of each feature's gradient, the same in every row.
    x_hat_part : ndarray of shape (N, D)
        A multiple of x_hat, for each feature another.
    rest : ndarray of shape (N, D)
        What is left of dy.
    """
    ### BEGIN SOLUTION
    mean_part = np.zeros_like(dy) + dy.mean(axis=0)
    x_hat_part = x_hat * (dy * x_hat).mean(axis=0)
    return mean_part, x_hat_part, dy - mean_part - x_hat_part
    ### END SOLUTION


# %% nbgrader={"grade_id": "split_gradient", "grade": true, "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
check("split_gradient", split_gradient)

# %% [markdown]
# **See it.** The gradients of 60 examples against their normalized values, before and after. *What you should see:* on
# the left the cloud rises, and the straight line through it is the best fit by least squares. Your two parts, the mean
# and a multiple of $\hat{x}$, lie exactly on that line. On the right is what BN lets pass: the residuals, without level
# or slope. To a gradient BN is a linear regression that throws the line away and keeps the errors.

# %%
rng = np.random.default_rng(4)
x = rng.normal(size=(60, 1))
x_hat = (x - x.mean()) / x.std()
dy = 0.8 + 0.6 * x_hat + rng.normal(0, 0.5, x.shape)
mean_part, x_hat_part, rest = split_gradient(dy, x_hat)
slope, level = np.polyfit(x_hat[:, 0], dy[:, 0], 1)

fig, axes = plt.subplots(1, 2, figsize=(6.4, 3.4), sharey=True, layout="constrained")
ends = np.array([-2.5, 2.5])
axes[0].plot(x_hat, dy, ".", label="dy")
wide = {"color": "gray", "linewidth": 5, "alpha": 0.4}
both = mean_part + x_hat_part
axes[0].plot(ends, slope * ends + level, label="least squares", **wide)
axes[0].plot(x_hat, both, "k+", markersize=4, label="mean part + part along x_hat")
axes[0].set_title("before", loc="left")
axes[1].plot(x_hat, rest, ".")
axes[1].axhline(0, **wide)
axes[1].set_title("the rest, which passes", loc="left")
for ax in axes:
    ax.set(xlabel="x_hat", ylim=(-2, 4))
axes[0].legend(fontsize=8, loc="upper left")
plt.show()

# %% [markdown]
# ## 7. The backward pass in one expression
#
# *Difficulty* ●●●○○ · *10 minutes* · *10 points*
#
# With the two sums of question 1, the formula of question 6 needs no sums of its own:
#
# $$
# dx_i = \frac{\gamma}{\sqrt{\sigma^2 + \varepsilon}}
# \Big( dy_i - \frac{d\beta}{m} - \hat{x}_i \, \frac{d\gamma}{m} \Big)
# $$
#
# Real implementations compute it so. Of the forward pass they keep just $\hat{x}$ (or $x$) and one number per feature,
# `inv_std` $= 1 / \sqrt{\sigma^2 + \varepsilon}$. Write that backward pass: the three gradients of the layer, from what
# the forward pass has kept.
#
# <details><summary>Hint 1: a question</summary>
#
# Four arrays come in. Which of them have one number per feature, and which one per example and feature?
#
# </details>
#
# <details><summary>Hint 2: a test by hand</summary>
#
# The result of a right `dx` sums to 0 over the examples, for every feature. And so does `dx * x_hat`, where
# $\varepsilon$ is negligible. Does yours?
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# `dbeta` and `dgamma` first, as sums over axis 0 of `dy` and of `dy * x_hat`. Then one line for `dx`. Both sums are
# divided by `m = len(dy)` in it, and `gamma * inv_std` multiplies the whole bracket.
#
# </details>


# %% nbgrader={"grade_id": "backward-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def backward(dy, x_hat, inv_std, gamma):
    """All gradients of batch normalization in training, from what the forward pass has kept.

    Parameters
    ----------
    dy : ndarray of shape (N, D)
        Gradient of the loss with respect to y = gamma * x_hat + beta. N is at least 2.
    x_hat : ndarray of shape (N, D)
        The normalized values, before gamma and beta.
    inv_std : ndarray of shape (D,)
        1 / sqrt(var + eps), with the biased variance of the batch.
    gamma : ndarray of shape (D,)

    Returns
    -------
    dx : ndarray of shape (N, D)
    dgamma, dbeta : ndarray of shape (D,)
    """
    ### BEGIN SOLUTION
    m = len(dy)
    dbeta = dy.sum(axis=0)
    dgamma = (dy * x_hat).sum(axis=0)
    dx = gamma * inv_std * (dy - dbeta / m - x_hat * dgamma / m)
    return dx, dgamma, dbeta
    ### END SOLUTION


# %% nbgrader={"grade_id": "backward", "grade": true, "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
check("backward", backward)

# %% [markdown]
# **See it.** The thought experiment with which Ioffe and Szegedy (Section 2) motivate their layer. A bias $b$ is added to
# the input, then the result is normalized, and the loss wants an output of 1, which no bias can reach: normalization
# takes it right out again. *What you should see:* with a gradient that takes the mean and the variance as constants,
# the bias grows and grows, on and on, while the loss stays where it was. With yours it doesn't move. The gradient knows
# that the normalization will undo whatever it does.

# %%
rng = np.random.default_rng(5)
u = rng.normal(size=(64, 1))
one, histories = np.ones(1), {}
for name in ("mean and variance as constants", "your backward"):
    b, history = 0.0, []
    for _ in range(60):
        x = u + b
        inv_std = 1 / np.sqrt(x.var(axis=0) + 1e-5)
        x_hat = (x - x.mean(axis=0)) * inv_std
        dy = (x_hat - 1) / len(x)
        history.append((b, 0.5 * ((x_hat - 1) ** 2).mean()))
        dx = backward(dy, x_hat, inv_std, one)[0] if name == "your backward" else dy * inv_std
        b -= 0.5 * dx.sum()
    histories[name] = np.transpose(history)

fig, axes = plt.subplots(1, 2, figsize=(6.4, 3.2), layout="constrained")
for (name, history), style in zip(histories.items(), ("--", "-"), strict=True):
    for ax, values, label in zip(axes, history, ("bias b", "loss"), strict=True):
        ax.plot(values, style, linewidth=2.5, label=name)
        ax.set(xlabel="step", ylabel=label)
axes[1].set_ylim(0, 2)
axes[1].legend(fontsize=8, loc="lower left")
plt.show()

# %% [markdown]
# ## 8. Images
#
# *Difficulty* ●●●○○ · *15 minutes* · *10 points*
#
# In a convolutional layer `x` has the shape $(N, C, H, W)$, and each *channel* has one $\mu$, one $\sigma^2$, one
# $\gamma$ and one $\beta$, shared by all examples and all positions: $m = N H W$. Sequences have the shape $(N, C, L)$,
# volumes $(N, C, D, H, W)$, and dense layers, $(N, C)$, have no positions at all.
#
# The gradient is the same formula as before, with every sum over all axes but axis 1. Write one function for all of
# these shapes, from `x` to all three gradients.
#
# <details><summary>Hint 1: a question</summary>
#
# `dy.sum(axis=(0, 2, 3))` has the shape $(C,)$. With which axis of `dy` does NumPy line it up when you subtract it?
#
# </details>
#
# <details><summary>Hint 2: keeping the axes</summary>
#
# `keepdims=True` leaves the shape $(1, C, 1, 1)$, which lines up with `x`. `gamma` needs that shape, too:
# `gamma.reshape(1, -1, *[1] * (x.ndim - 2))`. Another way: `np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])` makes a
# table in which every position is one more example.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# 1. `axes = (0, *range(2, x.ndim))`, and `m = x.size // x.shape[1]`, the number of values in a channel.
# 2. Mean, variance, `inv_std` and `x_hat`, with `keepdims=True`.
# 3. The two sums with `keepdims=True`; `dx` as in question 7.
# 4. Return the sums as arrays of shape $(C,)$: `.reshape(-1)`.
#
# </details>


# %% nbgrader={"grade_id": "backward_channels-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def backward_channels(dy, x, gamma, eps):
    """All gradients of batch normalization in training, for inputs of any rank.

    Parameters
    ----------
    dy : ndarray, same shape as x
        Gradient of the loss with respect to y = gamma * x_hat + beta.
    x : ndarray of shape (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W)
        The batch. The mean and biased variance of each channel normalized it.
    gamma : ndarray of shape (C,)
    eps : float
        Added to the variance, inside the square root.

    Returns
    -------
    dx : ndarray, same shape as x
    dgamma, dbeta : ndarray of shape (C,)

    References
    ----------
    Ioffe & Szegedy (2015), Sections 3 and 3.2.
    """
    ### BEGIN SOLUTION
    axes = (0, *range(2, x.ndim))
    m = x.size // x.shape[1]
    inv_std = 1 / np.sqrt(x.var(axis=axes, keepdims=True) + eps)
    x_hat = (x - x.mean(axis=axes, keepdims=True)) * inv_std

    dbeta = dy.sum(axis=axes, keepdims=True)
    dgamma = (dy * x_hat).sum(axis=axes, keepdims=True)
    dx = gamma.reshape(dbeta.shape) * inv_std * (dy - dbeta / m - x_hat * dgamma / m)
    return dx, dgamma.reshape(-1), dbeta.reshape(-1)
    ### END SOLUTION


# %% nbgrader={"grade_id": "backward_channels", "grade": true, "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
check("backward_channels", backward_channels)

# %% [markdown]
# **See it.** A batch of two pictures; the loss looks at one bright spot in the first and at nothing in the second. Below
# each picture is the gradient that reaches it (brighter than gray: more of it raises the loss; the spot itself is far
# brighter than the scale shows). *What you should see:* no pixel of the batch is left out, and the second picture shows
# up in its gradient: where it is bright, the gradient is dark, and where it is dark, the gradient is close to zero. The
# way through the mean takes the same from every pixel. The way through the variance takes more where a pixel is bright
# and gives where it is dark, so that the two nearly cancel there.

# %%
rng = np.random.default_rng(6)
rows, columns = np.mgrid[0:32, 0:32] / 31
disc = ((rows - 0.35) ** 2 + (columns - 0.6) ** 2 < 0.05).astype(float)
stripes = (np.sin(18 * columns + 6 * rows) > 0).astype(float)
pictures = np.stack([disc, stripes])[:, None] + rng.normal(0, 0.05, (2, 1, 32, 32))
dy = np.zeros_like(pictures)
dy[0, 0, 10:13, 18:21] = 1
dx, _, _ = backward_channels(dy, pictures, np.ones(1), 1e-5)

fig, ax = plt.subplots(figsize=(5, 5.2), layout="constrained")
limit = np.abs(dx[1]).max()
for left, title in ((0, "first picture, with the spot"), (36, "second picture")):
    number = left // 36
    ax.imshow(pictures[number, 0], cmap="gray", extent=(left, left + 32, 36, 68))
    below = (left, left + 32, 0, 32)
    ax.imshow(dx[number, 0], cmap="gray", vmin=-limit, vmax=limit, extent=below)
    ax.text(left + 16, 69, title, ha="center")
    ax.text(left + 16, 33, "its gradient", ha="center")
ax.set(xlim=(0, 68), ylim=(0, 72))
ax.set_axis_off()
plt.show()

# %% [markdown]
# ## 9. In evaluation mode
#
# *Difficulty* ●●○○○ · *10 minutes* · *8 points*
#
# In evaluation the running statistics normalize:
#
# $$
# y_{ij} = \gamma_j \, \frac{x_{ij} - \text{running\_mean}_j}{\sqrt{\text{running\_var}_j + \varepsilon}} + \beta_j
# $$
#
# Gradients are asked for in this mode, too: when a trained network is fine-tuned with frozen statistics, when one
# looks for the pixels that a prediction depends on, or for the smallest change of an image that fools the network. Work
# out `dx`, `dgamma` and `dbeta`. One question decides it: which of the numbers in this line depend on the batch?
#
# <details><summary>Hint 1: a question</summary>
#
# If $x_{1j}$ grows a little, which of $y_{1j}$, $y_{2j}$, running_mean$_j$ change?
#
# </details>
#
# <details><summary>Hint 2: a straight line</summary>
#
# As a function of $x_{ij}$ this is a straight line, $y = a x + b$. What is the derivative of that?
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# `inv_std` and `x_hat` come from the running statistics. `dx` is `dy` times two numbers per feature, and nothing is
# subtracted. `dgamma` and `dbeta` are the sums of question 1, with this `x_hat`.
#
# </details>


# %% nbgrader={"grade_id": "backward_eval-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def backward_eval(dy, x, gamma, running_mean, running_var, eps):
    """All gradients of batch normalization in evaluation, where the statistics are constants.

    Parameters
    ----------
    dy : ndarray of shape (N, D)
        Gradient of the loss with respect to y. N may be 1.
    x : ndarray of shape (N, D)
    gamma : ndarray of shape (D,)
    running_mean, running_var : ndarray of shape (D,)
        What normalized x: statistics from training.
    eps : float
        Added to running_var, inside the square root.

    Returns
    -------
    dx : ndarray of shape (N, D)
    dgamma, dbeta : ndarray of shape (D,)
    """
    ### BEGIN SOLUTION
    inv_std = 1 / np.sqrt(running_var + eps)
    x_hat = (x - running_mean) * inv_std
    return dy * gamma * inv_std, (dy * x_hat).sum(axis=0), dy.sum(axis=0)
    ### END SOLUTION


# %% nbgrader={"grade_id": "backward_eval", "grade": true, "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
check("backward_eval", backward_eval)

# %% [markdown]
# **See it.** Who influences whom? For one feature of eight examples, row $i$ of each picture shows by how much output
# $y_i$ changes with each input $x_k$: dark red is 1, white 0, blue below zero. *What you should see:* in evaluation, by
# your function, nothing but the diagonal: every output depends on its own input, all by the same factor. In training the
# diagonal is paler, by an amount that differs from one to the next, and around it is a checkered field, mostly below
# zero: every output depends on every input of the batch.

# %%
rng = np.random.default_rng(7)
x = rng.normal(size=(8, 1))
x = (x - x.mean()) / x.std()  # so that both modes divide by the same standard deviation
one, zero = np.ones(1), np.zeros(1)
training = np.eye(8) - 1 / 8 - x @ x.T / 8
rows = [backward_eval(row[:, None], x, one, zero, one, 1e-5)[0] for row in np.eye(8)]
evaluation = np.hstack(rows).T

fig, ax = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
for left, influence, title in ((0, evaluation, "evaluation, yours"), (10, training, "training")):
    extent = (left, left + 8, 8, 0)
    ax.imshow(influence, cmap="RdBu_r", vmin=-1, vmax=1, extent=extent)
    ax.text(left + 4, -0.3, title, ha="center")
    ax.text(left + 4, 8.8, "input $x_k$", ha="center")
ax.set(xlim=(0, 18), ylim=(9, -1), xticks=[], yticks=[], ylabel="output $y_i$")
ax.set_frame_on(False)
plt.show()

# %% [markdown]
# ## 10. Gradients in a deep network
#
# *Difficulty* ●●●●○ · *25 minutes* · *12 points*
#
# "BN keeps gradients from vanishing and exploding", one reads. Don't believe it: measure it. The network has one matrix
# $W_l$ per layer, no biases, and ReLU. With $h_0 = x$,
#
# $$
# z_l = h_{l-1} W_l
# \qquad
# s_l = \text{BN}(z_l) \text{ or } z_l
# \qquad
# h_l = \max(s_l, 0)
# $$
#
# where BN has $\gamma = 1$ and $\beta = 0$ and uses the statistics of the batch. You are given the gradient `dh` that
# arrives at the output $h_L$ of the last layer. Return, for every layer, the size of the gradient of its weights, the
# Frobenius norm
#
# $$
# \| dW_l \| = \sqrt{\sum_{jk} (dW_l)_{jk}^2}
# $$
#
# For the BN in here you may call your own functions, or write it out. (In this question `bnlab.reference` is allowed,
# too: `s, cache = batch_norm_forward(z, eps=eps)`, and on the way back `dz = batch_norm_backward(ds, cache).dx`.)
#
# <details><summary>Hint 1: a question</summary>
#
# What must you keep on the way forward, layer by layer, to be able to come back?
#
# </details>
#
# <details><summary>Hint 2: one layer backward</summary>
#
# From the gradient at $h_l$ to that at $h_{l-1}$, in the reverse order of the forward pass: ReLU passes the gradient on
# where $s_l > 0$ and stops it elsewhere. BN as in question 7. The product $z = h W$ gives $dW = h^\top dz$, with the $h$
# that came *in*, and $dh = dz \, W^\top$.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# 1. Forward, in a loop over `weights`: compute `z`; with BN, `inv_std` and `x_hat`; append `(h, s, inv_std)` of this
#    layer to a list; then `h = np.maximum(s, 0)`.
# 2. Backward, in a loop over the reversed list and weights: `ds = dh * (s > 0)`; `dz` is `ds` or the formula of
#    question 7 with `gamma = 1` and `x_hat = s`; the norm of `h.T @ dz`; `dh = dz @ W.T`.
# 3. The norms were found last layer first: turn them around.
#
# </details>


# %% nbgrader={"grade_id": "gradient_norms-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def gradient_norms(x, weights, dh, use_bn, eps):
    """Size of the gradient of every weight matrix of a deep network.

    Parameters
    ----------
    x : ndarray of shape (N, D_0)
        The input.
    weights : list of ndarray
        One matrix per layer; that of layer l has the shape (D_(l-1), D_l), so that z = h @ W.
    dh : ndarray of shape (N, D_L)
        Gradient of the loss with respect to the output of the last layer, behind its ReLU.
    use_bn : bool
        Whether each z is normalized with the statistics of the batch (gamma = 1, beta = 0) before
        ReLU.
    eps : float
        Of BN: added to the variance, inside the square root.

    Returns
    -------
    norms : ndarray of shape (L,)
        Frobenius norm of the gradient with respect to each matrix, first layer first.
    """
    ### BEGIN SOLUTION
    h, kept = x, []
    for W in weights:
        s, inv_std = h @ W, None
        if use_bn:
            inv_std = 1 / np.sqrt(s.var(axis=0) + eps)
            s = (s - s.mean(axis=0)) * inv_std
        kept.append((h, s, inv_std))
        h = np.maximum(s, 0)

    norms = []
    for W, (h, s, inv_std) in zip(reversed(weights), reversed(kept), strict=True):
        dz = dh * (s > 0)
        if use_bn:
            dz = inv_std * (dz - dz.mean(axis=0) - s * (dz * s).mean(axis=0))
        norms.append(np.linalg.norm(h.T @ dz))
        dh = dz @ W.T
    return np.array(norms[::-1])
    ### END SOLUTION


# %% nbgrader={"grade_id": "gradient_norms", "grade": true, "locked": true, "points": 12, "schema_version": 3, "solution": false, "task": false}
check("gradient_norms", gradient_norms)

# %% [markdown]
# **See it.** Thirty layers of 32 units with random weights: well chosen for ReLU (standard deviation $\sqrt{2/32}$),
# 0.7 times and 1.4 times as large. *What you should see:* without BN each curve is flat to a factor of about five, but
# they lie nine decades apart: every layer's gradient contains the factors 0.7 or 1.4 of the 29 other layers, from its
# way there or back. No learning rate suits more than one of these networks. With BN the three curves have the same
# shape, one just above the other, and nothing depends on getting the weights right. But they aren't flat any more:
# look at the first layer and the last.

# %%
rng = np.random.default_rng(8)
width, depth = 32, 30
x = rng.normal(size=(64, width))
weights = [rng.normal(size=(width, width)) * np.sqrt(2 / width) for _ in range(depth)]
dh = rng.normal(size=(64, width)) / 64

fig, axes = plt.subplots(1, 2, figsize=(6.4, 3.8), sharey=True, layout="constrained")
for scale, style in ((1.4, "^--"), (1.0, "o-"), (0.7, "v:")):
    for ax, use_bn in zip(axes, (False, True), strict=True):
        norms = gradient_norms(x, [scale * W for W in weights], dh, use_bn, 1e-8)
        ax.semilogy(range(1, depth + 1), norms, style, markersize=4, label=f"weights x {scale}")
axes[0].set(title="without BN", xlabel="layer", ylabel="norm of the gradient of the weights")
axes[1].set(title="with BN", xlabel="layer")
axes[1].legend(fontsize=9, loc="lower left")
plt.show()

# %% [markdown]
# ## 11. What holds?
#
# *Difficulty* ●●○○○ · *10 minutes* · *4 points* · `what_holds` · *a written answer*
#
# Look at your figure above. (If question 10 gave you trouble: with BN, the norm at the first layer is about 340 times
# that at the last, for all three scales, and at every layer the curve of the weights times 0.7 lies a factor of 2 above
# that of the weights times 1.4. Without BN the three curves are nearly flat, at levels near 0.00002, 0.5 and 9000.)
#
# 1. With BN, why is the output of the network the same for all three scales, and why is the gradient of the *smaller*
#    weights the *larger* one? By which factor exactly? Start from $\text{BN}(x \cdot aW) = \text{BN}(x \cdot W)$ for
#    $a > 0$ (with negligible $\varepsilon$), and differentiate.
# 2. "BN prevents vanishing and exploding gradients." In one or two sentences: what does the right panel say for this
#    claim, and what against it?

# %% [markdown] nbgrader={"grade_id": "what_holds", "grade": true, "locked": false, "points": 4, "schema_version": 3, "solution": true, "task": false}
# 1. Multiplying $W$ by $a > 0$ multiplies $z$, its mean and its standard deviation by $a$, so that $a$ cancels in
#    $\hat{z}$: nothing behind this BN changes, and neither does the loss, $L(aW) = L(W)$. Differentiate both sides with
#    respect to $W$: $a \, \nabla L(aW) = \nabla L(W)$, so $\nabla L(aW) = \nabla L(W) / a$. Weights that are twice as
#    large get a gradient half as large, at every layer by itself: between 0.7 and 1.4 it is exactly the factor 2.
# 2. For it: without BN a wrong scale makes the gradients of all layers smaller or larger by four decades and more; with
#    BN it changes them by a factor of $1/0.7$ or $1/1.4$. Against it: the curves aren't flat. From the last layer to the first
#    the gradient grows by the same factor again and again, some 20% per layer, which makes hundreds in thirty layers
#    and would go on with the depth. So BN takes away the dependence on the scale of the weights, and in a deep ReLU
#    network without shortcuts it causes an explosion of its own.

# %% [markdown]
# ## What you learned
#
# - A number that serves all examples collects gradients from all of them: $d\gamma = \sum dy \, \hat{x}$ and $d\beta =
#   \sum dy$. So do $\mu$ and $\sigma^2$, and that is what ties the examples of a batch together.
# - $dx = \gamma / \sqrt{\sigma^2 + \varepsilon} \cdot (dy - d\beta / m - \hat{x} \, d\gamma / m)$: the mean and the part
#   along $\hat{x}$ are taken out, the rest passes. Taking the statistics for constants leaves them in, and nothing in
#   the forward pass shows it.
# - In evaluation mode the statistics *are* constants, and the gradient is a factor per channel.
# - A gradient without a check is a guess. Central differences, `float64`, a step that suits $x$, a random `dy`, and an
#   error relative to the size of the gradient.
# - BN makes a network blind to the scale of its weights: $\nabla L(aW) = \nabla L(W) / a$. That isn't the same as keeping
#   its gradients from exploding.
#
# ## Going further (not graded)
#
# - Compare with PyTorch, if you have it: `torch.nn.functional.batch_norm(x, None, None, gamma, beta, training=True)`
#   and `y.backward(dy)`. In `float64` your `backward_channels` should agree to 12 digits.
# - Send a batch of three through `backward`, with many random `dy`. In how many directions can the three numbers of a
#   feature's `dx` point? And with $m$ examples?
# - Write the backward pass of layer normalization. Over which axes do its sums run, and why must $\gamma$ move inside the
#   bracket?
# - Add residual connections, $h_l = h_{l-1} + \max(s_l, 0)$, to `gradient_norms`. What becomes of the right panel?
# - `backward` reads `dy` twice: once for the sums, once for `dx`. Why can't it do with a single pass?
