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
# # Problem set 4: A layer for torch
#
# You know what batch normalization (BN) computes. Now you build the layer that others can use: one that takes any
# floating dtype and any rank, that autograd can go through once and twice, that remembers what it has seen, and that
# loads the checkpoints of `torch.nn.BatchNorm2d`. You write it from plain tensor operations. Calling torch's own batch
# normalization keeps your points, but the report will say that you did, and you would learn nothing.
#
# **Afterwards you can**
#
# - compute statistics that half precision doesn't spoil, and keep the dtype and memory format of an input;
# - write a `torch.autograd.Function`, with a backward pass that can itself be differentiated;
# - tell parameters, buffers and plain attributes apart, and update a buffer so that no graph hangs on it;
# - write an `nn.Module` whose `state_dict` goes both ways between yours and torch's;
# - translate the BN of a Keras or Flax network to torch.
#
# **Time:** about three hours and a quarter. **You need:** torch tensors (shapes, dtypes, broadcasting), `nn.Module`, and
# what autograd does. The chapters *The batch normalization transform*, *The backward pass*, *Training and evaluation* and
# *Frameworks* of the book are the theory to this practice. A CPU is enough.
#
# ## How to work
#
# 1. Run the cells from the top. Where a cell says `raise NotImplementedError()`, replace that line by your code. A class
#    may have several such lines.
# 2. Run the cell below it. It checks your answer on several random inputs and tells you what is right, what isn't yet,
#    and what the likely mistake is. Try again as often as you like.
# 3. Points are given part by part, so half a solution earns something. No question needs another one to be right: skip
#    one and come back later. A figure that uses an unanswered function shows `NotImplementedError`; this costs nothing.
# 4. Stuck? Every question has three hints. Open one at a time.
# 5. Two questions ask for a few sentences. People read those; nothing is checked automatically.
# 6. Before you hand in, type `bnlab check ps4_torch_layer.ipynb` in a terminal. It runs the notebook from top to bottom
#    in a fresh kernel, as the grader will, with a table of your points. The grader draws other random inputs.
#
# Keep the cells that are here. You may add cells of your own.
#
# **Conventions.** Axis 0 of `x` are the examples, axis 1 the $C$ channels, then come any number of position axes: $(N,
# C)$, $(N, C, L)$, $(N, C, H, W)$, $(N, C, D, H, W)$. A channel has $m = N L$, $N H W$, ... values. Variances are *biased*
# (divided by $m$) unless the text says otherwise. `momentum` is torch's: the weight of the newest batch. "Half precision"
# means `torch.float16` or `torch.bfloat16`; beside a half input all vectors of shape $(C,)$ are `float32`. No function may
# change its arguments in place.
#
# | question | difficulty | minutes | points |
# |---|---|---|---|
# | 1. `channel_statistics` | ●●○○○ | 20 | 12 |
# | 2. `normalize` | ●●○○○ | 15 | 10 |
# | 3. `BatchNormFunction` | ●●●●○ | 40 | 19 |
# | 4. `BatchNormTwice` | ●●●●● | 30 | 12 |
# | 5. `RunningStatistics` | ●●●○○ | 25 | 15 |
# | 6. `parameter_or_buffer` | ●●○○○ | 5 | 3 |
# | 7. `BatchNorm` | ●●●●○ | 40 | 17 |
# | 8. `which_switch` | ●●○○○ | 5 | 4 |
# | 9. `translate` | ●●○○○ | 15 | 8 |

# %%
import matplotlib.pyplot as plt
import torch
from checks import check
from torch import nn

# %% [markdown]
# ## 1. Statistics of any tensor
#
# *Difficulty* ●●○○○ · *20 minutes* · *12 points*
#
# Mean and biased variance of each channel, for a tensor of any rank:
#
# $$
# \mu_c = \frac{1}{m} \sum_{n, \text{positions}} x_{nc\dots}
# \qquad
# \sigma^2_c = \frac{1}{m} \sum_{n, \text{positions}} (x_{nc\dots} - \mu_c)^2
# $$
#
# A layer for torch must get three more things right.
#
# **The dtype.** `float16` ends at 65504, so a sum of a thousand values near 100, or one square of 300, is infinite. And
# it keeps 3 digits (`bfloat16` hardly more than 2). So a half input is converted to `float32` first, and its statistics
# *stay* `float32`. The statistics of a `float32` or `float64` input have the dtype of the input.
#
# **The memory.** An image tensor may lie in memory in two orders: `contiguous`, where the columns of an image are
# neighbors, or `torch.channels_last`, where the channels of a pixel are. Shape and meaning are the same. What fails is
# code that relies on the order.
#
# **The graph.** Both statistics are functions of `x`. Gradient must flow through them, so nothing here is detached.
#
# And, as always, a mean far from 0 must not cost the variance its digits: the check tries a mean of $10^4$ in `float32`.
# You may use torch's own `mean` and `var`, or write out the sums.
#
# <details><summary>Hint 1: a question</summary>
#
# `x.mean(dim=...)` takes a list of axes. Which ones should be gone for $(N, C)$, which for $(N, C, D, H, W)$? How do you
# get the list from `x.dim()`?
#
# </details>
#
# <details><summary>Hint 2: when to convert</summary>
#
# Convert before the first operation that could lose something. A variance computed in `float16` and converted afterwards
# is an infinite `float32`. `x.float()` is a differentiable operation like any other.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# 1. If `x` has a half dtype, go on with `x.float()`.
# 2. The axes: 0 and all from 2 on.
# 3. The mean over them. Then the mean of the squared distances, for which the mean needs the shape $(C, 1, \dots, 1)$,
#    with one 1 per position axis. `x.var` does the same if you tell it by which number to divide: see `correction` in
#    its documentation.
#
# </details>


# %% nbgrader={"grade_id": "channel_statistics-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def channel_statistics(x):
    """Mean and biased variance of each channel, over all examples and positions.

    Parameters
    ----------
    x : Tensor of shape (N, C) or (N, C, ...)
        float64, float32, float16 or bfloat16, in any memory order. Must not be changed.

    Returns
    -------
    mean, var : Tensor of shape (C,)
        var divides by m, the number of values of a channel. float32 for a half input, otherwise in the dtype of x.
        Gradient flows through both.

    References
    ----------
    Ioffe & Szegedy (2015), Algorithm 1 and Section 3.2.
    """
    ### BEGIN SOLUTION
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    axes = [0, *range(2, x.dim())]
    mean = x.mean(dim=axes)
    x_centered = x - mean.view(-1, *[1] * (x.dim() - 2))
    return mean, x_centered.square().mean(dim=axes)
    ### END SOLUTION


# %% nbgrader={"grade_id": "channel_statistics", "grade": true, "locked": true, "points": 12, "schema_version": 3, "solution": false, "task": false}
check("channel_statistics", channel_statistics)

# %% [markdown]
# **See it.** Channels of 4096 values in `float16`, with standard deviations from 0.0001 to 10,000. The figure shows the
# relative error of the variance, computed in `float16` throughout and by you; the truth is `float64`. *What you should
# see:* in `float16` there are a few digits in the middle. On the left the squares are so small that digits, and then all,
# are lost; on the right, from a standard deviation of about 100 on, the largest square is infinite, and so is the
# variance: those points lie on the upper edge. Yours stays near $10^{-7}$ from end to end.

# %%
torch.manual_seed(0)
spreads = torch.logspace(-4, 4, 25)
x = (torch.randn(4096, len(spreads)) * spreads).clamp(-6e4, 6e4).half()
truth = x.double().var(dim=0, correction=0)
in_half = ((x - x.mean(dim=0)) ** 2).mean(dim=0).double()
yours = channel_statistics(x)[1].double()

fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
for variances, label, style in ((in_half, "in float16", "o--"), (yours, "yours", "s-")):
    error = ((variances - truth).abs() / truth).nan_to_num(nan=1e3, posinf=1e3)
    ax.loglog(spreads, error + 1e-9, style, label=label)
ax.set(xlabel="standard deviation of the channel", ylabel="relative error of the variance", ylim=(1e-9, 1e3))
ax.legend()
plt.show()

# %% [markdown]
# ## 2. Normalize, and give back what you were given
#
# *Difficulty* ●●○○○ · *15 minutes* · *10 points*
#
# $$
# y_{nc\dots} = \gamma_c \, \frac{x_{nc\dots} - \mu_c}{\sqrt{\sigma^2_c + \varepsilon}} + \beta_c
# $$
#
# with statistics that are given: in training they will be the batch's, in evaluation they come from elsewhere.
#
# - **The view.** torch lines shapes up from the right, so $(C,)$ beside $(N, C, H, W)$ meets the *columns*. Where $W = C$
#   this gives no error, only nonsense. Each vector needs the shape $(C, 1, 1)$, with as many 1s as `x` has position axes.
# - **The dtype.** `y` has the dtype of `x`. For a half input compute in `float32`, with the `float32` vectors you are
#   given, and convert once, at the end.
# - **The memory format.** Elementwise operations keep the order in memory: from a `channels_last` input comes a
#   `channels_last` output, which the next convolution needs to be fast. Calls such as `.contiguous()`, and detours by
#   `reshape` or `torch.empty`, lose it.
# - **No gamma, no beta.** Either may be `None`, which stands for 1 and for 0.
#
# <details><summary>Hint 1: a question</summary>
#
# What is the dtype of a `bfloat16` tensor of shape $(8, 3)$ minus a `float32` tensor of shape $(3,)$? Try it. Where in
# your computation is half precision entered, and where left?
#
# </details>
#
# <details><summary>Hint 2: one shape for all</summary>
#
# `shape = (-1, *[1] * (x.dim() - 2))` is `(-1,)` for dense inputs and `(-1, 1, 1)` for images. Every vector gets
# `.view(shape)`.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# Subtract, multiply by `torch.rsqrt(var + eps)`, multiply by gamma unless it is None, add beta unless it is None. All
# vectors in the same view. At the end `.to(x.dtype)`, which does nothing where the dtype is right already.
#
# </details>


# %% nbgrader={"grade_id": "normalize-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def normalize(x, mean, var, gamma, beta, eps):
    """Normalize each channel with given statistics, then scale and shift it.

    Parameters
    ----------
    x : Tensor of shape (N, C) or (N, C, ...)
        float64, float32, float16 or bfloat16; contiguous or channels_last. Must not be changed.
    mean, var : Tensor of shape (C,)
        Not necessarily those of x. float32 if x has a half dtype, otherwise in the dtype of x.
    gamma, beta : Tensor of shape (C,), or None
        Scale and shift, in the dtype of mean. None stands for 1 and 0.
    eps : float
        Positive; added to var, inside the square root.

    Returns
    -------
    y : Tensor
        Shape, dtype and memory format of x.

    References
    ----------
    Ioffe & Szegedy (2015), Algorithm 1, the last two lines.
    """
    ### BEGIN SOLUTION
    shape = (-1, *[1] * (x.dim() - 2))
    y = (x - mean.view(shape)) * torch.rsqrt(var + eps).view(shape)
    if gamma is not None:
        y = y * gamma.view(shape)
    if beta is not None:
        y = y + beta.view(shape)
    return y.to(x.dtype)
    ### END SOLUTION


# %% nbgrader={"grade_id": "normalize", "grade": true, "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
check("normalize", normalize)

# %% [markdown]
# **See it.** Channels of standard deviation 1 in `bfloat16`, farther and farther from 0. Once everything is computed in
# `bfloat16`, once by you. The figure shows the largest error of `y`. *What you should see:* yours stays below 0.01, which
# is the rounding of a `bfloat16` number of size 3 or 4, whatever the mean. In `bfloat16` the mean itself is
# rounded, and near 100 this alone can shift the whole channel by a quarter of a standard deviation.

# %%
torch.manual_seed(1)
means = torch.logspace(0, 2, 12)
x = (torch.randn(512, len(means)) + means).bfloat16()
mean, var = x.double().mean(dim=0), x.double().var(dim=0, correction=0)
exact = (x.double() - mean) / torch.sqrt(var + 1e-5)
in_half = (x - mean.bfloat16()) * torch.rsqrt(var.bfloat16() + 1e-5)
yours = normalize(x, mean.float(), var.float(), None, None, 1e-5)

fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
for y, label, style in ((in_half, "in bfloat16", "o--"), (yours, "yours", "s-")):
    ax.loglog(means, (y.double() - exact).abs().amax(dim=0), style, label=label)
ax.set(xlabel="mean of the channel", ylabel="largest error of y")
ax.legend()
plt.show()

# %% [markdown]
# ## 3. An autograd function
#
# *Difficulty* ●●●●○ · *40 minutes* · *19 points*
#
# Autograd could derive the backward pass from your two functions above. It would keep several tensors of the size of `x`
# for that. A `torch.autograd.Function` says instead: here is the forward pass, here is the backward pass, and this is
# what I need to keep. All fast implementations of BN are made so.
#
# It has two static methods. `forward(ctx, ...)` computes the output, without recording a graph, and hands what the
# backward pass needs to `ctx.save_for_backward(...)`. `backward(ctx, dy)` receives the gradient of the loss with respect
# to the output and returns one gradient *per argument of forward*, in their order, with None where there is none. It is
# called as `BatchNormFunction.apply(x, gamma, beta, eps)`.
#
# With $\hat{x} = (x - \mu)/\sqrt{\sigma^2 + \varepsilon}$ and $y = \gamma \hat{x} + \beta$, and with $\overline{\,\cdot\,}$
# for the mean over the $m$ values of a channel:
#
# $$
# d\gamma_c = \sum_{n, \text{positions}} dy \, \hat{x}
# \qquad
# d\beta_c = \sum_{n, \text{positions}} dy
# \qquad
# dx = \frac{1}{\sqrt{\sigma^2 + \varepsilon}} \left( d\hat{x} - \overline{d\hat{x}} - \hat{x} \, \overline{d\hat{x} \,
# \hat{x}} \right),
# \quad
# d\hat{x} = \gamma \, dy
# $$
#
# Problem set 3 derives this. The two means are there because $\mu$ and $\sigma^2$ depend on $x$: without them you get the
# gradient of another function, one that has constant statistics.
#
# - The statistics are those of the batch, with the biased variance.
# - `gamma` and `beta` may be None (1 and 0). An argument that isn't a tensor, or doesn't require grad, gets None:
#   `ctx.needs_input_grad` has one bool per argument. Computing a gradient that nobody wants is wasted time. Returning one
#   for an argument that is no tensor is an error.
# - Half inputs are computed in `float32`, forward and backward; `y` has the dtype of `x`. A `float64` input is computed
#   in `float64` throughout, so that a gradient check can compare eight digits and more.
# - Save only tensors with `save_for_backward`: it notices if somebody changes them in place before the backward pass.
#   Numbers may be attributes: `ctx.eps = eps`.
#
# <details><summary>Hint 1: a question</summary>
#
# `backward` needs $\hat{x}$, $1/\sqrt{\sigma^2 + \varepsilon}$ and $\gamma$. Two of the three are small. How can the large
# one be had from `x`, which the graph keeps alive anyway?
#
# </details>
#
# <details><summary>Hint 2: sums and means</summary>
#
# $d\gamma$ and $d\beta$ are *sums* over the axes 0, 2, 3, ...: their shape is $(C,)$. In $dx$ there are two *means* over
# the same axes; with `keepdim=True` they line up with `x`. For `dgamma` and `dbeta` it is $dy$, for `dx` it is $\gamma
# \, dy$.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# Forward: convert a half `x` to `float32`; mean, var, inv_std; y; save `x, gamma, mean, inv_std` (None may be among them);
# return `y.to(x.dtype)`.
#
# Backward: fetch them from `ctx.saved_tensors`; convert `dy` to the dtype of `mean`; `x_hat`; then
# `dx = dgamma = dbeta = None`, and each of the three only `if ctx.needs_input_grad[i]`. Return four values: `eps` is an
# argument, too.
#
# </details>


# %% nbgrader={"grade_id": "BatchNormFunction-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
class BatchNormFunction(torch.autograd.Function):
    """Batch normalization of a training batch, with its own backward pass.

    Called as ``BatchNormFunction.apply(x, gamma, beta, eps)``.

    References
    ----------
    Ioffe & Szegedy (2015), Algorithm 1 and Section 3, where the gradients are not yet simplified.
    """

    @staticmethod
    def forward(ctx, x, gamma, beta, eps):
        """Normalize with the statistics of the batch, scale and shift.

        Parameters
        ----------
        x : Tensor of shape (N, C) or (N, C, ...)
            float64, float32, float16 or bfloat16. Must not be changed.
        gamma, beta : Tensor of shape (C,), or None
            float32 if x has a half dtype, otherwise in the dtype of x.
        eps : float

        Returns
        -------
        y : Tensor
            Shape and dtype of x.
        """
        ### BEGIN SOLUTION
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        axes, shape = [0, *range(2, x.dim())], (-1, *[1] * (x.dim() - 2))
        mean = wide.mean(dim=axes)
        x_centered = wide - mean.view(shape)
        inv_std = torch.rsqrt(x_centered.square().mean(dim=axes) + eps)
        y = x_centered * inv_std.view(shape)
        if gamma is not None:
            y = y * gamma.view(shape)
        if beta is not None:
            y = y + beta.view(shape)
        ctx.save_for_backward(x, gamma, mean, inv_std)
        return y.to(x.dtype)
        ### END SOLUTION

    @staticmethod
    def backward(ctx, dy):
        """Gradients of the loss with respect to the four arguments of `forward`.

        Parameters
        ----------
        dy : Tensor
            Gradient with respect to y; shape and dtype of y.

        Returns
        -------
        dx : Tensor, shape of x, or None
        dgamma, dbeta : Tensor of shape (C,), or None
        None
            For eps.
        """
        ### BEGIN SOLUTION
        x, gamma, mean, inv_std = ctx.saved_tensors
        axes, shape = [0, *range(2, x.dim())], (-1, *[1] * (x.dim() - 2))
        dy = dy.to(mean.dtype)
        x_hat = (x - mean.view(shape)) * inv_std.view(shape)
        dx = dgamma = dbeta = None
        if ctx.needs_input_grad[0]:
            dx_hat = dy if gamma is None else dy * gamma.view(shape)
            common = dx_hat.mean(dim=axes, keepdim=True)
            along = (dx_hat * x_hat).mean(dim=axes, keepdim=True)
            dx = ((dx_hat - common - x_hat * along) * inv_std.view(shape)).to(x.dtype)
        if ctx.needs_input_grad[1]:
            dgamma = (dy * x_hat).sum(dim=axes)
        if ctx.needs_input_grad[2]:
            dbeta = dy.sum(dim=axes)
        return dx, dgamma, dbeta, None
        ### END SOLUTION


# %% nbgrader={"grade_id": "BatchNormFunction", "grade": true, "locked": true, "points": 19, "schema_version": 3, "solution": false, "task": false}
check("BatchNormFunction", BatchNormFunction)

# %% [markdown]
# **See it.** A batch of 8 values of one channel, and a loss that depends on the 8 outputs. The figure shows the gradient
# with respect to each value: by finite differences (move one input a little, look at the loss), by your function, and
# with mean and variance treated as constants. *What you should see:* your crosses sit in the circles. The bars of
# constant statistics miss them, some with the wrong sign.

# %%
torch.manual_seed(2)
x = torch.randn(8, 1, dtype=torch.float64)
gamma, beta = torch.tensor([1.5], dtype=torch.float64), torch.tensor([0.5], dtype=torch.float64)
target = torch.randn(8, 1, dtype=torch.float64)


def loss_of(x):
    return ((BatchNormFunction.apply(x, gamma, beta, 1e-5) - target) ** 2).sum()


with torch.no_grad():
    step = 1e-5 * torch.eye(8, dtype=torch.float64)[:, :, None]
    differences = [(loss_of(x + s) - loss_of(x - s)).item() / 2e-5 for s in step]
leaf = x.clone().requires_grad_()
yours = torch.autograd.grad(loss_of(leaf), leaf)[0]
mean, std = x.mean(), x.std(correction=0)
constant = 2 * (gamma * (x - mean) / std + beta - target) * gamma / std

fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
ax.bar(range(8), constant[:, 0], color="lightgray", label="constant statistics")
ax.plot(range(8), differences, "o", markersize=12, fillstyle="none", label="finite differences")
ax.plot(range(8), yours[:, 0], "x", label="yours")
ax.axhline(0, color="black", linewidth=0.8)
ax.set(xlabel="value of the batch", ylabel="gradient of the loss")
ax.legend()
plt.show()

# %% [markdown]
# ## 4. Through the backward pass, backward
#
# *Difficulty* ●●●●● · *30 minutes* · *12 points*
#
# Some losses contain a gradient: a penalty on its length, a Hessian-vector product, learning to learn. Then somebody
# calls `torch.autograd.grad(..., create_graph=True)`, and autograd goes through the operations of your `backward`. What it
# must find there is everything that `dx` depends on: `dy`, `gamma` and **all the ways** in which `x` enters.
#
# A tensor that `forward` computed, such as the mean or $\hat{x}$, was computed where no graph is recorded. When `backward`
# takes it from `ctx.saved_tensors`, it has forgotten that it depends on `x`. The first derivatives are right. The second
# ones are wrong, and nothing complains. Only *inputs* of `forward` come back from `saved_tensors` with their history.
#
# Write `BatchNormTwice`, whose first and second derivatives are both right, for inputs of any rank. Here `x`, `gamma` and
# `beta` are always tensors of the same dtype, `float64` or `float32`.
#
# <details><summary>Hint 1: a question</summary>
#
# If `saved_tensors` may hold inputs only, what does `backward` have to do first? What does that cost?
#
# </details>
#
# <details><summary>Hint 2: what breaks the chain</summary>
#
# With `create_graph=True` the operations in `backward` are recorded like all others, unless you prevent it. These do:
# `torch.no_grad()`, `.detach()`, `.data`, the decorator `once_differentiable`, and in-place work on a tensor that a
# gradient still needs.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# `forward` saves `x` and `gamma` alone. `backward` computes mean, variance, inv_std and x_hat *again*, from the saved
# `x`, then the three gradients by the formulas of question 3. (A fast implementation keeps the statistics for the usual
# case and asks `torch.is_grad_enabled()` whether somebody will differentiate: it is True in `backward` only under
# `create_graph=True`.)
#
# </details>


# %% nbgrader={"grade_id": "BatchNormTwice-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
class BatchNormTwice(torch.autograd.Function):
    """Batch normalization of a training batch, with a backward pass that can be differentiated.

    Called as ``BatchNormTwice.apply(x, gamma, beta, eps)``.
    """

    @staticmethod
    def forward(ctx, x, gamma, beta, eps):
        """Normalize with the statistics of the batch, scale and shift.

        Parameters
        ----------
        x : Tensor of shape (N, C) or (N, C, ...)
            float64 or float32. Must not be changed.
        gamma, beta : Tensor of shape (C,), dtype of x
        eps : float

        Returns
        -------
        y : Tensor
            Shape and dtype of x.
        """
        ### BEGIN SOLUTION
        axes, shape = [0, *range(2, x.dim())], (-1, *[1] * (x.dim() - 2))
        x_centered = x - x.mean(dim=axes, keepdim=True)
        inv_std = torch.rsqrt(x_centered.square().mean(dim=axes, keepdim=True) + eps)
        ctx.save_for_backward(x, gamma)
        ctx.eps = eps
        return gamma.view(shape) * x_centered * inv_std + beta.view(shape)
        ### END SOLUTION

    @staticmethod
    def backward(ctx, dy):
        """Gradients with respect to x, gamma, beta and eps (None), themselves differentiable by x, gamma and dy.

        Parameters
        ----------
        dy : Tensor
            Gradient with respect to y.

        Returns
        -------
        dx : Tensor, shape of x
        dgamma, dbeta : Tensor of shape (C,)
        None
            For eps.
        """
        ### BEGIN SOLUTION
        x, gamma = ctx.saved_tensors
        axes, shape = [0, *range(2, x.dim())], (-1, *[1] * (x.dim() - 2))
        x_centered = x - x.mean(dim=axes, keepdim=True)
        inv_std = torch.rsqrt(x_centered.square().mean(dim=axes, keepdim=True) + ctx.eps)
        x_hat = x_centered * inv_std
        dx_hat = dy * gamma.view(shape)
        common = dx_hat.mean(dim=axes, keepdim=True)
        along = (dx_hat * x_hat).mean(dim=axes, keepdim=True)
        dx = (dx_hat - common - x_hat * along) * inv_std
        return dx, (dy * x_hat).sum(dim=axes), dy.sum(dim=axes), None
        ### END SOLUTION


# %% nbgrader={"grade_id": "BatchNormTwice", "grade": true, "locked": true, "points": 12, "schema_version": 3, "solution": false, "task": false}
check("BatchNormTwice", BatchNormTwice)

# %% [markdown]
# **See it.** The loss $\ell(t)$ is the squared length of `dx`, a gradient penalty, as the batch moves along a line, $x + t
# v$. The figure shows its slope $\ell'(t)$: by finite differences and through your backward pass. *What you should see:*
# your line goes through all the circles. A function that had saved its statistics as plain numbers would show the same
# losses with other slopes.

# %%
torch.manual_seed(3)
x, v, dy = torch.randn(3, 6, 2, dtype=torch.float64)
gamma, beta = torch.ones(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)


def penalty(x):
    y = BatchNormTwice.apply(x, gamma, beta, 1e-5)
    return (torch.autograd.grad(y, x, dy, create_graph=True)[0] ** 2).sum()


def slope(t):
    point = (x + t * v).requires_grad_()
    return (torch.autograd.grad(penalty(point), point)[0] * v).sum().item()


def value(t):
    return penalty((x + t * v).requires_grad_()).item()


ts = [0.12 * k for k in range(-8, 9)]
fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
ax.plot(ts[::2], [(value(t + 1e-5) - value(t - 1e-5)) / 2e-5 for t in ts[::2]], "o", fillstyle="none")
ax.plot(ts, [slope(t) for t in ts], "-")
ax.set(xlabel="t", ylabel="slope of the penalty")
ax.legend(["finite differences", "yours"])
plt.show()

# %% [markdown]
# ## 5. What the layer remembers
#
# *Difficulty* ●●●○○ · *25 minutes* · *15 points*
#
# A small module without parameters, for the three things that a BN layer remembers. They are *buffers*: tensors that
# belong to the state of a module, that are saved, loaded and moved with it, and that no optimizer sees.
#
# | buffer | shape | dtype | starts as |
# |---|---|---|---|
# | `running_mean` | $(C,)$ | `float32` | 0 |
# | `running_var` | $(C,)$ | `float32` | 1 |
# | `num_batches_tracked` | $()$ | `int64` | 0 |
#
# `update(mean, var, m)` takes the mean and the *biased* variance of a batch whose channels have $m$ values each. It counts
# the batch, and with $\alpha$ for the weight of this batch
#
# $$
# r \leftarrow (1 - \alpha) \, r + \alpha \, s
# $$
#
# where $s$ is the mean, or for the running variance the *unbiased* variance $\frac{m}{m - 1} \sigma^2$.
#
# - With a number as `momentum`, $\alpha$ is that number. With `momentum=None` it is $1/k$ for the $k$-th batch. Then
#   $r$ is the plain average of all batches, and the starting values are forgotten at once. The first batch is $k = 1$.
# - **In place.** Whoever holds the buffer (an exponential average of the model, a copy of it in another process) should
#   see the change, so the tensors stay the same and their values change.
# - **Without a graph.** `mean` and `var` come from a training step, so they hang on the graph of that step. If the
#   running statistics hung on it, too, the graphs of all steps would stay in memory for ever.
#
# <details><summary>Hint 1: a question</summary>
#
# What is the difference between `self.running_mean = torch.zeros(c)` and `self.register_buffer("running_mean",
# torch.zeros(c))`? Try both, and look at `.state_dict()`.
#
# </details>
#
# <details><summary>Hint 2: in place, off the graph</summary>
#
# Inside `with torch.no_grad():` nothing is recorded. The methods that end in an underscore work in place: `mul_`, `add_`,
# `copy_`, `lerp_`. An assignment `self.running_mean = ...` puts another tensor in the place of the old one.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# In `update`, all under `no_grad`: add 1 to the counter; `alpha` is the momentum, or `1 / self.num_batches_tracked.item()`
# where the momentum is None; `buffer.mul_(1 - alpha).add_(alpha * new)` for both statistics, with the variance corrected
# by `m / (m - 1)`.
#
# </details>


# %% nbgrader={"grade_id": "RunningStatistics-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
class RunningStatistics(nn.Module):
    """The running statistics of a batch normalization layer, as buffers.

    Parameters
    ----------
    num_features : int
        C, the number of channels.
    momentum : float or None
        Weight of the newest batch. None: every batch counts the same.

    Attributes
    ----------
    running_mean, running_var : Tensor of shape (C,), float32
        Buffers, which start as 0 and 1.
    num_batches_tracked : Tensor of shape (), int64
        Buffer: the number of updates.
    """

    def __init__(self, num_features, momentum=0.1):
        super().__init__()
        ### BEGIN SOLUTION
        self.momentum = momentum
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.int64))
        ### END SOLUTION

    def update(self, mean, var, m):
        """Take in the statistics of one batch: in place, and off the graph.

        Parameters
        ----------
        mean, var : Tensor of shape (C,), float32
            var is the biased variance. They may require grad. Must not be changed.
        m : int
            Number of values of a channel, at least 2.
        """
        ### BEGIN SOLUTION
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            alpha = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
            self.running_mean.mul_(1 - alpha).add_(alpha * mean)
            self.running_var.mul_(1 - alpha).add_(alpha * var * m / (m - 1))
        ### END SOLUTION


# %% nbgrader={"grade_id": "RunningStatistics", "grade": true, "locked": true, "points": 15, "schema_version": 3, "solution": false, "task": false}
check("RunningStatistics", RunningStatistics)

# %% [markdown]
# **See it.** Batches of 16 values with true mean 2, and the running mean after each of 80 batches, for three momenta.
# *What you should see:* 0.1 is there after 30 batches and then keeps jumping by the noise of the newest ones. 0.02 is
# smooth and late: its start at 0 is not forgotten after 80. `None`, the plain average, is there at once and settles down.

# %%
torch.manual_seed(317)
batches = 2 + 3 * torch.randn(80, 16, 1)
means, variances = batches.mean(dim=1), batches.var(dim=1, correction=0)
fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
for momentum, style in ((0.1, "-"), (0.02, "--"), (None, ":")):
    statistics, curve = RunningStatistics(1, momentum), []
    for mean, var in zip(means, variances, strict=True):
        statistics.update(mean, var, 16)
        curve.append(statistics.running_mean.item())
    ax.plot(range(1, 81), curve, style, linewidth=2, label=f"momentum={momentum}")
ax.axhline(2, color="gray", linewidth=0.8)
ax.set(xlabel="batch", ylabel="running mean")
ax.legend()
plt.show()

# %% [markdown]
# ## 6. Parameter, buffer, attribute
#
# *Difficulty* ●●○○○ · *5 minutes* · *3 points*
#
# Three colleagues write the same BN layer. One makes `running_mean` an `nn.Parameter`, one registers it as a buffer, one
# writes `self.running_mean = torch.zeros(c)`. All three update it correctly in training, and in their own tests all three
# layers agree.
#
# For each of the two who didn't register a buffer, describe one situation in practice in which the layer goes wrong, and
# what happens there. Two to four sentences. (Answered in the cell below; graded by a person.)

# %% [markdown] nbgrader={"grade_id": "parameter_or_buffer", "grade": true, "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# *The parameter.* It is handed to the optimizer with all others (`model.parameters()`). Its gradient is None or 0 in
# training, but weight decay pulls it towards 0 at every step; where a gradient does arrive (fine-tuning in evaluation
# mode, where the output depends on `running_mean`), the optimizer moves it as if it were a weight. It is also counted
# as a learned parameter, and an in-place update of a leaf that requires grad fails outside `no_grad`.
#
# *The attribute.* It isn't in the `state_dict`. After saving and loading, the weights are right and `running_mean` is 0
# again: evaluation is wrong, without any error. Nor does it follow `model.to("cuda")` or `model.double()`, so evaluation
# there fails with tensors on two devices, or computes with another dtype.

# %% [markdown]
# ## 7. The layer
#
# *Difficulty* ●●●●○ · *40 minutes* · *17 points*
#
# Everything together, as an `nn.Module` that can take the place of `nn.BatchNorm1d`, `2d` and `3d`. You may call what you
# wrote above, or write it afresh in about thirty lines with plain tensor operations and let autograd find the gradients.
# If you call your functions, their mistakes count here too.
#
# | | normalizes with | running statistics |
# |---|---|---|
# | in training mode | mean and *biased* variance of the batch | updated in place: mean, *unbiased* variance, count |
# | in evaluation mode | `running_mean`, `running_var`, as constants | stay as they are |
#
# - The mode is `self.training`, which `layer.train()` and `layer.eval()` set. Whether gradients are being recorded has
#   nothing to do with it: one can evaluate with gradients, and collect statistics without.
# - Learned: `weight` (gamma, starts as 1) and `bias` (beta, starts as 0), or neither with `affine=False`.
# - Remembered: the three buffers of question 5, or none with `track_running_stats=False`. Without them there is nothing to
#   evaluate with, so both modes normalize with the batch.
# - The `state_dict` has the keys, shapes and dtypes of that of `torch.nn.BatchNorm2d` with the same arguments, so that
#   `load_state_dict(..., strict=True)` works in both directions. What is absent is None:
#   `self.register_parameter("weight", None)`, `self.register_buffer("running_mean", None)`.
# - `x` has any rank from 2 on. A half input beside `float32` parameters is computed in `float32`; `y` has the dtype of
#   `x`. In training $m \ge 2$.
#
# <details><summary>Hint 1: a question</summary>
#
# In which three situations does the layer need the statistics of the batch? In which one does it need the running ones?
# Can you say it in one condition?
#
# </details>
#
# <details><summary>Hint 2: what must be in the state</summary>
#
# `nn.Parameter(torch.ones(c))` as an attribute registers itself, a plain tensor doesn't. Order doesn't matter, names do.
# Print `nn.BatchNorm2d(3).state_dict()`, also with `affine=False`, and compare.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# `forward`:
#
# 1. `use_batch = self.training or self.running_mean is None`.
# 2. If so: mean and biased variance of `x` (in `float32` for a half input), with their graph. Else the running ones.
# 3. If training and tracking: under `no_grad`, count, then update both buffers in place with the detached statistics,
#    the variance times $m/(m - 1)$.
# 4. Normalize in the view $(C, 1, \dots, 1)$; scale and shift unless they are None; back to the dtype of `x`.
#
# </details>


# %% nbgrader={"grade_id": "BatchNorm-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
class BatchNorm(nn.Module):
    """Batch normalization for inputs of any rank, in the place of torch.nn.BatchNorm1d, 2d and 3d.

    Parameters
    ----------
    num_features : int
        C, the number of channels.
    eps : float
        Added to the variance, inside the square root.
    momentum : float or None
        Weight of the newest batch in the running statistics. None: every batch counts the same.
    affine : bool
        Whether to learn weight and bias.
    track_running_stats : bool
        Whether to keep running statistics. Without them evaluation, too, uses the statistics of the batch.

    Attributes
    ----------
    weight, bias : nn.Parameter of shape (C,), float32, or None
        gamma and beta, which start as 1 and 0.
    running_mean, running_var : Tensor of shape (C,), float32, or None
        Buffers, which start as 0 and 1.
    num_batches_tracked : Tensor of shape (), int64, or None
        Buffer: the number of training batches.

    References
    ----------
    Ioffe & Szegedy (2015), Algorithms 1 and 2; arguments and state as in torch.nn.BatchNorm2d.
    """

    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True):
        super().__init__()
        ### BEGIN SOLUTION
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(num_features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_features)) if affine else None
        self.register_buffer("running_mean", torch.zeros(num_features) if track_running_stats else None)
        self.register_buffer("running_var", torch.ones(num_features) if track_running_stats else None)
        count = torch.tensor(0, dtype=torch.int64) if track_running_stats else None
        self.register_buffer("num_batches_tracked", count)
        ### END SOLUTION

    def forward(self, x):
        """Normalize a batch, in the mode the layer is in.

        Parameters
        ----------
        x : Tensor of shape (N, C) or (N, C, ...)
            float32, float16 or bfloat16. Must not be changed.

        Returns
        -------
        y : Tensor
            Shape and dtype of x.
        """
        ### BEGIN SOLUTION
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        axes, shape = [0, *range(2, x.dim())], (-1, *[1] * (x.dim() - 2))
        mean, var = self.running_mean, self.running_var
        if self.training or mean is None:
            mean = wide.mean(dim=axes)
            var = (wide - mean.view(shape)).square().mean(dim=axes)
        if self.training and self.running_mean is not None:
            with torch.no_grad():
                m = x.numel() // x.shape[1]
                self.num_batches_tracked.add_(1)
                alpha = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
                self.running_mean.mul_(1 - alpha).add_(alpha * mean)
                self.running_var.mul_(1 - alpha).add_(alpha * var * m / (m - 1))
        y = (wide - mean.view(shape)) * torch.rsqrt(var + self.eps).view(shape)
        if self.weight is not None:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y.to(x.dtype)
        ### END SOLUTION


# %% nbgrader={"grade_id": "BatchNorm", "grade": true, "locked": true, "points": 17, "schema_version": 3, "solution": false, "task": false}
check("BatchNorm", BatchNorm)

# %% [markdown]
# **See it.** A small convolutional network learns to tell horizontal from vertical stripes in noise: once with torch's
# layers, once with yours, from the same weights and with the same batches. *What you should see:* two loss curves that lie
# on each other, circles on a line. The last line below the figure compares the two networks in evaluation mode, where
# they use what their layers remember: the largest difference of an output is about $10^{-5}$ or smaller.

# %%
torch.manual_seed(5)


def stripes(count):
    labels = torch.randint(2, (count,))
    waves = torch.sin(torch.arange(8) * 1.6 + 6.3 * torch.rand(count, 1))[:, None, None].expand(-1, 1, 8, 8)
    images = torch.where(labels[:, None, None, None] == 0, waves, waves.transpose(2, 3))
    return images + torch.randn(count, 1, 8, 8), labels


def network(norm):
    torch.manual_seed(6)
    return nn.Sequential(nn.Conv2d(1, 6, 3, bias=False), norm(6), nn.ReLU(), nn.Flatten(), nn.Linear(216, 2))


data = [stripes(16) for _ in range(10)]
networks, losses = {"torch": network(nn.BatchNorm2d), "yours": network(BatchNorm)}, {"torch": [], "yours": []}
for name, net in networks.items():
    for images, labels in data:
        loss = nn.functional.cross_entropy(net(images), labels)
        loss.backward()
        losses[name].append(loss.item())
        with torch.no_grad():  # a step of gradient descent
            for parameter in net.parameters():
                parameter -= 0.2 * parameter.grad
                parameter.grad = None

fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
ax.plot(losses["torch"], "o", fillstyle="none", label="torch")
ax.plot(losses["yours"], "-", label="yours")
ax.set(xlabel="step", ylabel="loss")
ax.legend()
plt.show()
images, labels = stripes(100)
with torch.no_grad():
    answers = {name: net.eval()(images) for name, net in networks.items()}
print(f"right answers, yours: {(answers['yours'].argmax(dim=1) == labels).float().mean():.0%}")
print(f"largest difference of an output: {(answers['yours'] - answers['torch']).abs().max():.0e}")

# %% [markdown]
# ## 8. Which switch?
#
# *Difficulty* ●●○○○ · *5 minutes* · *4 points*
#
# A popular textbook implementation has no `training` flag. It asks `torch.is_grad_enabled()`: with gradients, normalize
# with the batch and update the running statistics; without, normalize with the running statistics.
#
# (a) Describe one situation in which this layer should be in evaluation mode but isn't, and what goes wrong.
# (b) Describe one situation in which it should be in training mode but isn't, and what goes wrong.
# (c) What should decide instead, and who sets it?
#
# Three to five sentences. (Answered in the cell below; graded by a person.)

# %% [markdown] nbgrader={"grade_id": "which_switch", "grade": true, "locked": false, "points": 4, "schema_version": 3, "solution": true, "task": false}
# (a) Evaluation with gradients on: someone forgets `torch.no_grad()` while computing the test error, or needs gradients of
# a trained network (saliency maps, adversarial examples, fine-tuning with frozen BN). The outputs then depend on the batch
# mates, and the running statistics take in the test data: evaluating changes the model.
#
# (b) Training mode without gradients: re-estimating the running statistics after training or on data of a new domain is
# done under `no_grad`, because no gradient is wanted. This layer keeps its old statistics, and nothing happens. Activation
# checkpointing also runs the first forward pass without gradients and would normalize there with other statistics than
# in the second.
#
# (c) The flag `self.training` of the module, which the user sets for the whole network with `model.train()` and
# `model.eval()`. Recording gradients and choosing statistics are two independent decisions.

# %% [markdown]
# ## 9. From Keras and Flax
#
# *Difficulty* ●●○○○ · *15 minutes* · *8 points*
#
# The same layer has other names elsewhere. A checkpoint gives you the layer's configuration and its arrays:
#
# | | torch | Keras | Flax |
# |---|---|---|---|
# | gamma | `weight` | `gamma` | `scale` |
# | beta | `bias` | `beta` | `bias` |
# | running mean | `running_mean` | `moving_mean` | `mean` |
# | running variance | `running_var` | `moving_variance` | `var` |
# | $\varepsilon$ | `eps` | `epsilon` | `epsilon` |
# | `momentum` weighs | the newest batch | the old value | the old value |
# | gamma is learned if | `affine` | `scale` | `use_scale` |
# | beta is learned if | `affine` | `center` | `use_bias` |
#
# Given these, return what torch needs: `options`, so that `nn.BatchNorm2d(**options)` has the right arguments, and `state`,
# so that `load_state_dict(state)` fills it. Evaluation must then give what the old framework gave, and training must go on
# with the same speed of forgetting.
#
# - `options` has `num_features`, `eps` and `momentum`.
# - `state` has all five entries of torch's `state_dict`. The four vectors are `float32` tensors; the counter is an `int64`
#   tensor of shape $()$ and starts at 0, because neither framework counts.
# - An array that isn't learned isn't among `arrays`. It stands for gamma = 1 or beta = 0.
# - The stored variance is copied as it is. Keras and Flax average the biased one, but evaluation asks only for what is
#   stored.
#
# <details><summary>Hint 1: a question</summary>
#
# Keras' default is `momentum=0.99`. After one batch, how much of the old running mean is left? Which number does torch
# want for the same?
#
# </details>
#
# <details><summary>Hint 2: names</summary>
#
# A dictionary from torch's names to the other framework's makes one loop of it. `arrays.get(name)` is None where nothing
# is stored. The number of channels is the length of the running mean.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# 1. The four foreign names, by framework.
# 2. `options`: the length of the running mean, the epsilon as it is, 1 minus the momentum.
# 3. `state`: `torch.tensor(array, dtype=torch.float32)` for each array that is there; ones for a missing gamma, zeros for
#    a missing beta; `torch.tensor(0)` for the counter, whose dtype is `int64` by default.
#
# </details>


# %% nbgrader={"grade_id": "translate-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def translate(framework, config, arrays):
    """Arguments and state of the torch layer that does what a Keras or Flax layer did.

    Parameters
    ----------
    framework : str
        "keras" or "flax".
    config : dict
        "momentum" and "epsilon" in the framework's own sense, and what else the layer was made with.
    arrays : dict from str to ndarray of shape (C,)
        By the framework's own names. gamma or beta is missing where it is not learned.

    Returns
    -------
    options : dict
        Arguments for torch.nn.BatchNorm2d: "num_features", "eps" and "momentum".
    state : dict from str to Tensor
        "weight", "bias", "running_mean", "running_var" (float32, shape (C,)) and "num_batches_tracked" (int64, 0).

    References
    ----------
    The documentation of keras.layers.BatchNormalization and flax.nnx.BatchNorm.
    """
    ### BEGIN SOLUTION
    names = {
        "keras": {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"},
        "flax": {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"},
    }[framework]
    num_features = len(arrays[names["running_mean"]])
    options = {"num_features": num_features, "eps": config["epsilon"], "momentum": 1 - config["momentum"]}
    state = {"weight": torch.ones(num_features), "bias": torch.zeros(num_features)}
    for ours, theirs in names.items():
        if theirs in arrays:
            state[ours] = torch.tensor(arrays[theirs], dtype=torch.float32)
    state["num_batches_tracked"] = torch.tensor(0, dtype=torch.int64)
    return options, state
    ### END SOLUTION


# %% nbgrader={"grade_id": "translate", "grade": true, "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
check("translate", translate)

# %% [markdown]
# **See it.** A Keras layer with `momentum=0.9` arrives in torch and is trained on, with batches of 16. The figure follows
# its running mean over 60 batches, with your options and with the momentum copied as it was. *What you should see:* your
# curve goes from the stored 2 to the new mean 3 and hugs it. The copied one is at the mercy of the last batch: it jumps
# up and down for ever, by many times as much.

# %%
torch.manual_seed(7)
config = {"momentum": 0.9, "epsilon": 1e-3, "center": True, "scale": True}
vectors = {"gamma": [1.0], "beta": [0.0], "moving_mean": [2.0], "moving_variance": [4.0]}
options, state = translate("keras", config, {name: torch.tensor(v).numpy() for name, v in vectors.items()})
batches = 3 + 2 * torch.randn(60, 16, 1)
fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
for momentum, label, style in ((config["momentum"], "momentum copied", "--"), (options["momentum"], "yours", "-")):
    layer, curve = nn.BatchNorm1d(**(options | {"momentum": momentum})), []
    layer.load_state_dict(state)
    for batch in batches:
        layer(batch)
        curve.append(layer.running_mean.item())
    ax.plot(range(1, 61), curve, style, label=label)
ax.axhline(3, color="gray", linewidth=0.8)
ax.set(xlabel="batch", ylabel="running mean")
ax.legend()
plt.show()

# %% [markdown]
# ## What you learned
#
# - Statistics are computed in `float32` at least, and stay there. The output goes back to the dtype and the memory format
#   of the input.
# - An autograd function returns one gradient per argument, and None where none is wanted. What `forward` computed is a
#   constant in `backward`: for second derivatives, compute it again from the inputs.
# - Running statistics are buffers, updated in place and off the graph. A parameter would be trained, a plain attribute
#   would not be saved.
# - The mode is a flag of the module. It has nothing to do with recording gradients.
# - Between frameworks, momentum becomes its complement, epsilon and the arrays are copied, and names change.
#
# ## Going further (not graded)
#
# - `torch.autograd.gradcheck(lambda *a: BatchNormFunction.apply(*a, 1e-5), inputs)` compares your gradients with finite
#   differences, and `gradgradcheck` your second derivatives. Give both functions `float64` inputs that require grad. Which
#   of the two passes which check?
# - How much memory does a step of your `BatchNorm` keep for the backward pass, how much one that calls
#   `BatchNormFunction`? `torch.autograd.graph.saved_tensors_hooks` shows every tensor that is kept.
# - Make `BatchNormTwice` fast in the usual case: save the statistics, and compute them again only if
#   `torch.is_grad_enabled()` in `backward`. Prove with `gradgradcheck` that nothing was lost.
# - Add an evaluation mode to `BatchNormFunction`. Its backward pass is a good deal shorter. Why?
# - Build the layer of question 7 on a device of type `meta`, and call `torch.compile` on it with `fullgraph=True`. What in
#   your code stops the compiler? (A hint: `.item()`.)
