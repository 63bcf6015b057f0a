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
# # Problem set 8: How fast is it, and how fast could it be?
#
# Batch normalization (BN) does very little arithmetic and moves a lot of memory. You work out how much of each, derive
# the time that no implementation can beat, build a stopwatch that tells the truth on a GPU, and let your own BN race
# against PyTorch's and this course's. In the end you answer the question behind all benchmarks: does it pay?
#
# **Afterwards you can**
#
# - count the bytes and the operations of a layer, and say which of the two limits it;
# - draw a roofline, and read from it what is worth optimizing;
# - time code on a device that works while the processor runs ahead, and spot timings that can't be true;
# - compare implementations fairly: wrong ones out, in turns, by ratios;
# - turn "slower per step, but fewer steps" into seconds.
#
# **Time:** about two and a half hours. **You need:** PyTorch tensors, and what BN computes (problem sets 2 and 3, or the
# chapters *The batch normalization transform* and *The backward pass* of the book). The chapter *Training speed and
# learning rates* is the theory to the last question.
#
# **A GPU is welcome and not needed.** No check measures real speed: they use pretend devices with a pretend clock, so
# your points are the same on any machine. The figures run on the GPU if PyTorch sees one, otherwise on the processor,
# and say what differs.
#
# ## How to work
#
# 1. Run the cells from the top. Where a cell says `raise NotImplementedError()`, replace that line by your code.
# 2. Run the cell below it. It checks your function on several random inputs and tells you what is right, what isn't
#    yet, and what the likely mistake is. Try again as often as you like.
# 3. Points are given part by part, so half a solution earns something. The questions don't depend on each other: skip
#    one and come back later. A figure that uses an unanswered function shows `NotImplementedError`; this costs nothing.
#    The big benchmark uses nearly all of your functions, so it comes to life last.
# 4. Stuck? Every question has three hints. Open one at a time.
# 5. Two questions are answered in words, in the cell below them. A person reads those.
# 6. Before you hand in, type `bnlab check ps8_gpu_benchmark.ipynb` in a terminal. It runs the notebook from top to
#    bottom in a fresh kernel, as the grader will, with a table of your points. The grader draws other random inputs.
#
# Keep the cells that are here. You may add cells of your own.
#
# **Units.** Times are in seconds. 1 GB/s is $10^9$ bytes per second and 1 Gflop/s is $10^9$ operations per second, as
# on data sheets. (1 GiB is $2^{30}$ bytes, 7% more. Don't mix them.) A byte has 8 bits; a `float32` takes 4 bytes, a
# `float16` or `bfloat16` 2.
#
# | question | difficulty | minutes | points |
# |---|---|---|---|
# | 1. `bn_bytes` | ●●○○○ | 15 | 12 |
# | 2. `bn_flops` | ●○○○○ | 8 | 6 |
# | 3. `roofline` | ●●○○○ | 12 | 10 |
# | 4. `measure` | ●●●○○ | 25 | 18 |
# | 5. `too_fast` | ●●○○○ | 6 | 3 |
# | 6. `copy_bandwidth` | ●●○○○ | 12 | 9 |
# | 7. `batch_norm` | ●●○○○ | 15 | 10 |
# | 8. `why_not` | ●●●○○ | 15 | 9 |
# | 9. `race` | ●●●○○ | 20 | 12 |
# | 10. `time_to_target` | ●●○○○ | 10 | 7 |
# | 11. `cost_and_gain` | ●●○○○ | 8 | 4 |
#
# A last part, a fused kernel in Triton, is optional. It has a check of its own and no points.

# %%
import os
import time
import timeit

import matplotlib.pyplot as plt
import numpy as np
import torch
from checks import FakeDevice, check, check_fused, fused_batch_norm

from bnlab import BatchNorm2d  # this course's, one of those that you will race against
from bnlab.datasets import fashion
from bnlab.models import MLP

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ.setdefault("TRITON_INTERPRET", "1")  # Triton's interpreter, for the optional last part
try:
    import triton
    import triton.language as tl
except ImportError:
    triton = tl = None  # only the optional last part needs it

# %% [markdown]
# ## 1. How many bytes does BN move?
#
# *Difficulty* ●●○○○ · *15 minutes* · *12 points*
#
# The input is a batch of images of shape $(N, C, H, W)$: $E = N C H W$ elements of $b$ bytes each. A chip computes only
# on what lies in its small, fast memory; everything else must be brought from the large, slow one, and brought back.
# What has to travel?
#
# | step | reads | writes |
# |---|---|---|
# | `"eval"`: evaluation | $x$ | $y$ |
# | `"forward"`: training, forward | $x$ | $y$ |
# | `"backward"`: training, backward | $x$, $dy$ | $dx$ |
#
# Each of these tensors has $E$ elements. Reading each input once and writing each output once is the **floor**: no
# implementation moves less. But in training BN needs sums over a whole channel before it can compute the first element
# of the result: $\mu$ and $\sigma^2$ of $x$ going forward; going backward, the sums of $dy$ and of $dy \cdot \hat{x}$.
# If the tensors are too large to stay on the chip meanwhile, what went into the sums has to be read a *second* time.
# Call this **streaming**. Evaluation has no sums.
#
# Besides the large tensors there are vectors of $C$ numbers. Each is read or written once, streaming or not:
#
# | step | reads | writes |
# |---|---|---|
# | `"eval"` | gamma, beta, running_mean, running_var | |
# | `"forward"` | gamma, beta, running_mean, running_var | running_mean, running_var, and for the backward pass $\mu$, $\sigma^2$ |
# | `"backward"` | gamma, $\mu$, $\sigma^2$ | dgamma, dbeta |
#
# These are `float32`, **also where $x$ is `float16` or `bfloat16`**: three digits are too few for a running average.
#
# Return two byte counts: that of the large tensors, and that of the vectors.
#
# <details><summary>Hint 1: a question</summary>
#
# Which of the tensors go into a sum over the channel, in each of the three steps?
#
# </details>
#
# <details><summary>Hint 2: passes</summary>
#
# One reading or writing of one large tensor is a *pass* and moves $E b$ bytes. Count passes: the floor has 2 in
# evaluation, 2 forward, and 3 backward. For streaming, add one for each tensor that is read again.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# Two small dictionaries by step: passes at the floor, and passes that streaming adds (0, 1 and 2). A third one for the
# number of vectors (count the table's entries). Then `passes * N*C*H*W * itemsize` and `vectors * C * 4`. Python's own
# integers never overflow; NumPy's may.
#
# </details>


# %% nbgrader={"grade_id": "bn_bytes-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def bn_bytes(shape, itemsize, step, streaming):
    """Bytes that batch normalization moves between the chip and its memory.

    Parameters
    ----------
    shape : tuple of int
        (N, C, H, W) of the input. A tensor may have more than 2**31 bytes.
    itemsize : int
        Bytes per element of the large tensors, x, y, dy and dx: 4 (float32) or 2 (float16, bfloat16).
    step : str
        "eval", "forward" or "backward".
    streaming : bool
        False: every large tensor is read or written once (the floor). True: what went into a sum over the channel
        doesn't stay on the chip and is read a second time.

    Returns
    -------
    tensors : int
        Bytes of the large tensors, read and written.
    vectors : int
        Bytes of the vectors of length C, read and written. They are float32 in any case.
    """
    ### BEGIN SOLUTION
    n, c, h, w = shape
    passes = {"eval": 2, "forward": 2, "backward": 3}[step]
    if streaming:
        passes += {"eval": 0, "forward": 1, "backward": 2}[step]
    vectors = {"eval": 4, "forward": 8, "backward": 5}[step]
    return passes * n * c * h * w * itemsize, vectors * c * 4
    ### END SOLUTION


# %% nbgrader={"grade_id": "bn_bytes", "grade": true, "locked": true, "points": 12, "schema_version": 3, "solution": false, "task": false}
check("bn_bytes", bn_bytes)

# %% [markdown]
# **See it.** BN in the layers of a ResNet-50, batch of 32, `float16`, one training step. *What you should see:* the
# vectors are next to nothing beside the tensors: a thousandth of a percent in the first layer, a fifth of a percent in
# the last. So from here on they are left out. The early layers, with their few channels and large images, move most of the
# bytes. And what is to be gained: a chip that could keep $x$ and $dy$ would move five bytes where it now moves eight.

# %%
print(f"{'input of the BN layer':<24}{'tensors, MB':>12}{'vectors, MB':>13}{'share':>9}{'floor / streaming':>20}")
for shape in ((32, 64, 112, 112), (32, 256, 56, 56), (32, 512, 28, 28), (32, 1024, 14, 14), (32, 2048, 7, 7)):
    counts = [bn_bytes(shape, 2, step, True) for step in ("forward", "backward")]
    floor = sum(bn_bytes(shape, 2, step, False)[0] for step in ("forward", "backward"))
    tensors, vectors = (sum(part) for part in zip(*counts, strict=True))
    print(f"{shape!s:<24}{tensors / 1e6:>12.1f}{vectors / 1e6:>13.4f}{vectors / tensors:>9.3%}{floor / tensors:>20.3f}")

# %% [markdown]
# ## 2. How many operations?
#
# *Difficulty* ●○○○○ · *8 minutes* · *6 points*
#
# Now the arithmetic. Written so that as little as possible happens per element, BN is
#
# | step | for every element | with, per channel |
# |---|---|---|
# | `"eval"` | $y = k x + t$ | $k = \gamma / \sqrt{\text{running\_var} + \varepsilon}$, $\; t = \beta - k \cdot \text{running\_mean}$ |
# | `"forward"` | $s \leftarrow s + x$, then $q \leftarrow q + (x - \mu)^2$, then $y = k x + t$ | $\mu = s / m$, $\; \sigma^2 = q / m$, and $k$, $t$ from these |
# | `"backward"` | $s \leftarrow s + dy$ and $q \leftarrow q + dy \, (x - \mu)$, then $dx = k \, dy + u x + v$ | $k$, $u$, $v$ from $\gamma$, $\mu$, $\sigma^2$, $s$, $q$ |
#
# Count one operation ("flop") for every $+$, $-$ and $\times$ in the middle column; a square is one multiplication. The
# right column happens $C$ times instead of $E$ times: leave it out.
#
# (Chips often have one instruction for $a b + c$. It still counts as two flops, in data sheets too.)
#
# <details><summary>Hint 1: a question</summary>
#
# How many signs $+$, $-$, $\times$ are in $q \leftarrow q + (x - \mu)^2$? There is one of each kind.
#
# </details>
#
# <details><summary>Hint 2: line by line</summary>
#
# $y = k x + t$ has two. The first sum of the forward pass adds one, the second three.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# A dictionary from the step to the flops per element, times $N C H W$. Backward: one for the first sum, three for the
# second, and four for $dx$, whose products $k \, dy$ and $u x$ are multiplications too.
#
# </details>


# %% nbgrader={"grade_id": "bn_flops-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def bn_flops(shape, step):
    """Floating-point operations of batch normalization, by the formulas of the table above.

    Parameters
    ----------
    shape : tuple of int
        (N, C, H, W) of the input.
    step : str
        "eval", "forward" or "backward".

    Returns
    -------
    flops : int
        Additions, subtractions and multiplications on elements. Work per channel is not counted.
    """
    ### BEGIN SOLUTION
    n, c, h, w = shape
    per_element = {"eval": 2, "forward": 1 + 3 + 2, "backward": 1 + 3 + 4}[step]
    return per_element * n * c * h * w
    ### END SOLUTION


# %% nbgrader={"grade_id": "bn_flops", "grade": true, "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
check("bn_flops", bn_flops)

# %% [markdown]
# **See it.** Flops and bytes side by side: a BN layer in training (forward) and the convolution before it, with 3x3
# filters from 64 to 64 channels, which at its floor reads one such tensor and writes another. *What you should see:* the
# two move about as many bytes, but BN does nearly two hundred times less with each of them.

# %%
shape = (32, 64, 56, 56)
elements = 32 * 64 * 56 * 56
layers = {
    "convolution": (2 * 9 * 64 * elements, 2 * 4 * elements),
    "BN": (bn_flops(shape, "forward"), 2 * 4 * elements),
}
fig, axes = plt.subplots(1, 2, figsize=(6.4, 2.6), layout="constrained")
for ax, column, title, unit in ((axes[0], 1, "data", 1e6), (axes[1], 0, "work", 1e6)):
    bars = ax.barh(list(layers), [counts[column] / unit for counts in layers.values()], color=["C0", "C1"])
    ax.bar_label(bars, fmt="{:,.0f}", padding=3)
    ax.set_title(title, loc="left")
    ax.margins(x=0.3)
axes[0].set_xlabel("megabytes")
axes[1].set_xlabel("million flops")
plt.show()

# %% [markdown]
# ## 3. The roofline
#
# *Difficulty* ●●○○○ · *12 minutes* · *10 points*
#
# A machine is described by two numbers: how many bytes it can bring per second (its *bandwidth*) and how many operations
# it can do per second (its *peak*). A computation that moves `nbytes` and does `flops` takes at least as long as the
# slower of the two:
#
# $$
# \text{seconds} = \max\left(\frac{\text{nbytes}}{\text{bandwidth}}, \; \frac{\text{flops}}{\text{peak}}\right)
# $$
#
# Which one is slower depends on the *arithmetic intensity*, the flops per byte. The performance that can be attained
# grows in proportion to the intensity, as long as memory is the limit, and ends at the peak:
#
# $$
# I = \frac{\text{flops}}{\text{nbytes}}
# \qquad
# \text{attainable} = \min(\text{peak}, \; I \cdot \text{bandwidth})
# $$
#
# Plotted over $I$, both axes logarithmic, this is a sloping line and a flat one: a *roofline*. Return the intensity, the
# attainable performance in Gflop/s, and the least time in seconds.
#
# <details><summary>Hint 1: a question</summary>
#
# `bandwidth` comes in GB/s. How many bytes per second is 1 GB/s?
#
# </details>
#
# <details><summary>Hint 2: which limit</summary>
#
# The *longer* of two times is a max. The *lower* of two speeds is a min. Flop/byte times GB/s gives Gflop/s with no
# conversion at all.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# Three lines. `flops / nbytes`; the smaller of `peak` and intensity times `bandwidth`; the larger of `nbytes /
# (bandwidth * 1e9)` and `flops / (peak * 1e9)`. To check: the time is also flops divided by what is attainable.
#
# </details>


# %% nbgrader={"grade_id": "roofline-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def roofline(flops, nbytes, bandwidth, peak):
    """What a machine can make of a computation at best.

    Parameters
    ----------
    flops : int
        Floating-point operations of the computation.
    nbytes : int
        Bytes it moves, read and written.
    bandwidth : float
        Of the machine's memory, in GB/s (1e9 bytes per second).
    peak : float
        Operations that the machine can do, in Gflop/s (1e9 per second).

    Returns
    -------
    intensity : float
        Flops per byte.
    attainable : float
        Highest performance, in Gflop/s.
    seconds : float
        Shortest time, in seconds.

    References
    ----------
    Williams, Waterman & Patterson (2009), Roofline: an insightful visual performance model.
    """
    ### BEGIN SOLUTION
    intensity = flops / nbytes
    attainable = min(peak, intensity * bandwidth)
    seconds = max(nbytes / (bandwidth * 1e9), flops / (peak * 1e9))
    return intensity, attainable, seconds
    ### END SOLUTION


# %% nbgrader={"grade_id": "roofline", "grade": true, "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
check("roofline", roofline)

# %% [markdown]
# **See it.** The roofline of an imaginary GPU with round numbers: 2,000 GB/s and 40,000 Gflop/s. *What you should see:*
# a slope that bends into a flat roof at 20 flops per byte. The convolution of the last figure lies under the flat part:
# more operations per second would help it. All three steps of BN lie far down the slope, below 2% of the peak: a faster
# arithmetic unit would not help them at all. The only way to make BN faster is to move fewer bytes.

# %%
E = 32 * 64 * 56 * 56
computations = {  # float32, streaming: flops, bytes
    "BN, evaluation": (2 * E, 2 * 4 * E),
    "BN, training forward": (6 * E, 3 * 4 * E),
    "BN, backward": (8 * E, 5 * 4 * E),
    "3x3 convolution": (2 * 9 * 64 * E, 2 * 4 * E),
}
intensities = np.logspace(-2, 3, 101)
roof = [roofline(i * 1e9, 1e9, 2000.0, 40000.0)[1] for i in intensities]
points = {name: roofline(*counts, 2000.0, 40000.0) for name, counts in computations.items()}

fig, ax = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
ax.loglog(intensities, roof, color="black")
for (name, (intensity, attainable, seconds)), marker in zip(points.items(), "osDv", strict=True):
    ax.plot(intensity, attainable, marker, markersize=9, label=f"{name}: {1e6 * seconds:.0f} µs")
ax.set(xlabel="arithmetic intensity, flops per byte", ylabel="attainable, Gflop/s")
ax.legend(loc="lower right")
plt.show()

# %% [markdown]
# ## 4. A stopwatch that tells the truth
#
# *Difficulty* ●●●○○ · *25 minutes* · *18 points*
#
# On a GPU, a call such as `y = f(x)` returns at once. It has only put an order into a queue; the device works it off
# while Python runs ahead. `torch.cuda.synchronize()` waits until the queue is empty. Four things follow, and each has
# spoiled published numbers:
#
# 1. **Stop too early.** If you read the clock when the call returns, you have timed the placing of the order.
# 2. **Start too early.** If the queue isn't empty when you start, you time somebody else's work.
# 3. **Cold start.** The first calls are slow: kernels are compiled and loaded, memory is reserved, caches are empty. Call
#    the function a few times before you measure, and forget these.
# 4. **One number.** Other programs get in the way of some repeats and make these slow, sometimes much. Nothing makes a
#    repeat much too fast. A mean drags the outliers along; the median doesn't notice them, and the quartiles show the
#    spread.
#
# Write the stopwatch. The clock and the waiting are arguments, so that the same function serves a GPU (with
# `torch.cuda.synchronize`), a processor (where there is nothing to wait for), and the check's pretend device:
#
# - call `function()` `warmup` times and ignore how long that takes;
# - then, `repeats` times: wait for the device, read the clock, call, wait, read the clock;
# - return the lower quartile, the median and the upper quartile of the `repeats` times, as `np.quantile` computes them.
#
# <details><summary>Hint 1: a question</summary>
#
# Draw the time line of the processor and, below it, that of the device. Where does the work of one call lie? At which
# two moments must you read the clock so that this work, and nothing else, is between them?
#
# </details>
#
# <details><summary>Hint 2: the two waits</summary>
#
# `synchronize()` goes directly before the first reading (so that the queue is empty) and directly before the second (so
# that the work is done). A warm-up call leaves work in the queue, too.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# A loop for the warm-up with nothing but `function()`. A second loop with five lines: synchronize, start, function,
# synchronize, append the difference to a list. At the end `np.quantile(seconds, [0.25, 0.5, 0.75])`.
#
# </details>


# %% nbgrader={"grade_id": "measure-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def measure(function, clock, synchronize, warmup, repeats):
    """Time one call of a function on a device that may work asynchronously.

    Parameters
    ----------
    function : callable
        To be timed; called without arguments, `warmup + repeats` times in all.
    clock : callable
        ``clock()`` gives the time in seconds, such as `time.perf_counter`.
    synchronize : callable
        ``synchronize()`` returns when the device has done all its work, such as `torch.cuda.synchronize`.
    warmup : int
        Calls before the measurement, 0 or more. Their times are ignored.
    repeats : int
        Calls that are timed, each by itself, 2 or more.

    Returns
    -------
    low, median, high : float
        Quantiles 0.25, 0.5 and 0.75 of the times of one call, in seconds (`np.quantile`, linear interpolation).
    """
    ### BEGIN SOLUTION
    for _ in range(warmup):
        function()
    seconds = []
    for _ in range(repeats):
        synchronize()
        start = clock()
        function()
        synchronize()
        seconds.append(clock() - start)
    low, median, high = np.quantile(seconds, [0.25, 0.5, 0.75])
    return low, median, high
    ### END SOLUTION


# %% nbgrader={"grade_id": "measure", "grade": true, "locked": true, "points": 18, "schema_version": 3, "solution": false, "task": false}
check("measure", measure)

# %% [markdown]
# **See it.** A pretend GPU whose kernel takes 2 ms. Its first call takes 300 ms, because it compiles; one in ten calls
# is disturbed and takes ten times as long. `FakeDevice` comes with the checks: its clock moves only when it says so.
# *What you should see:* five ways of timing it, and only yours is at the line of 2 ms, with hardly a bar between its
# quartiles. Without synchronization you measure 0.01 ms, the time to place the order: a "speedup" of 200. The first call
# alone is 150 times too slow. The mean is off by a factor of two.

# %%
rng = np.random.default_rng(4)
usual = 0.002 * np.where(np.arange(60) % 10 == 7, 10, rng.uniform(0.99, 1.05, 60))
kernel = np.array([0.3, *usual])  # seconds that the device works on each call
gpu = FakeDevice(kernel, asynchronous=True)
low, median, high = measure(gpu.run, gpu.clock, gpu.synchronize, warmup=3, repeats=50)
timings = {  # what others measure on it
    "no synchronize": FakeDevice.LAUNCH,
    "the first call": kernel[0],
    "mean, no warm-up": kernel[:50].mean(),
    "mean, with warm-up": kernel[3:53].mean(),
    "yours": median,
}
fig, ax = plt.subplots(figsize=(6.4, 3), layout="constrained")
ax.axvline(2, color="gray", linewidth=6, alpha=0.4)
ax.semilogx([1e3 * seconds for seconds in timings.values()], list(timings), "o", markersize=8)
ax.plot([1e3 * low, 1e3 * high], ["yours", "yours"], "|-", color="black")
ax.set(xlabel="milliseconds per call", xlim=(0.005, 600), ylim=(4.5, -0.5))
plt.show()

# %% [markdown]
# ## 5. Too fast to be true
#
# *Difficulty* ●●○○○ · *6 minutes* · *3 points* · answer in words
#
# A classmate times the forward pass of BN in training, on a `float32` batch of shape $(256, 64, 56, 56)$, and reports
# 0.02 ms, "100 times faster than on my laptop". A copy of a tensor on the same GPU was measured at 2,000 GB/s.
#
# Can the 0.02 ms be true? Compute the time that no implementation can beat on that GPU, say what follows, and name the
# most probable cause and how to check it. Three or four sentences, with the numbers.

# %% [markdown] nbgrader={"grade_id": "too_fast", "grade": true, "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# The batch has $E = 256 \cdot 64 \cdot 56 \cdot 56 \approx 51.4$ million elements of 4 bytes. At the floor the forward
# pass reads them once and writes them once: $2 E b \approx 411$ MB. At 2,000 GB/s that takes $411 \cdot 10^6 / (2000
# \cdot 10^9) \approx 0.21$ ms, if $x$ stayed on the chip, and 0.31 ms if it has to be read twice. The report is ten times
# below what the memory can do, so it can't be the time of the computation: a lower bound that holds for every
# implementation is a check for every timing.
#
# Most probably the clock was stopped without `torch.cuda.synchronize()`, and 0.02 ms is what it takes to place the order.
# To check it, synchronize before reading the clock, both times; or double the batch: a true time doubles with it, the
# time of a launch stays the same.

# %% [markdown]
# ## 6. The bandwidth of this machine
#
# *Difficulty* ●●○○○ · *12 minutes* · *9 points*
#
# Data sheets promise bandwidths that nobody ever sees. What a machine really does is best measured with the simplest
# thing there is, in the same program and on the same day as everything else: a copy. It reads every byte and writes
# every byte, so a tensor of $B$ bytes moves $2B$:
#
# $$
# \text{bandwidth} = \frac{2B}{\text{seconds} \cdot 10^9} \quad \text{in GB/s}
# $$
#
# You are given the tensor `x` and a `timer`: `timer(function)` calls `function()` a few times and returns how many
# seconds one call takes. Time a copy into memory that *already exists*. A fresh tensor has to be reserved first, and the
# operating system hands out new memory page by page, which for large tensors takes as long as the copy itself. PyTorch
# copies into an existing tensor with `copy_`.
#
# <details><summary>Hint 1: a question</summary>
#
# What is the difference between `timer(f())` and `timer(f)`? Which of the two lets the timer decide when `f` runs?
#
# </details>
#
# <details><summary>Hint 2: sizes</summary>
#
# `x.numel()` counts elements and `x.element_size()` is the bytes of one. `torch.empty_like(x)` makes a tensor of the
# same shape, dtype and device with nothing in it: make it before you start the timer.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# Make the destination. Then `seconds = timer(lambda: destination.copy_(x))`. Twice the bytes of `x`, divided by the
# seconds, divided by $10^9$.
#
# </details>


# %% nbgrader={"grade_id": "copy_bandwidth-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def copy_bandwidth(x, timer):
    """Measure the bandwidth of the memory that a tensor lies in, by copying it.

    Parameters
    ----------
    x : torch.Tensor
        Contiguous, of any shape, dtype and device. Must not be changed.
    timer : callable
        ``timer(function)`` returns the seconds that one call of ``function()`` takes.

    Returns
    -------
    bandwidth : float
        Bytes read and written per second, in GB/s (1e9 bytes per second). Only the copying is timed: the memory that
        is written to exists before.
    """
    ### BEGIN SOLUTION
    destination = torch.empty_like(x)
    seconds = timer(lambda: destination.copy_(x))
    return 2 * x.numel() * x.element_size() / seconds / 1e9
    ### END SOLUTION


# %% nbgrader={"grade_id": "copy_bandwidth", "grade": true, "locked": true, "points": 9, "schema_version": 3, "solution": false, "task": false}
check("copy_bandwidth", copy_bandwidth)

# %% [markdown]
# **See it.** The bandwidth of this machine's processor, for tensors from 16 kB to 64 MB. *What you should see:* no single
# number. Tiny tensors are slow because calling `copy_` takes longer than copying. Then comes a hill: tensors that fit
# into a cache travel fast. Beyond the caches the curve falls to the bandwidth of the main memory. A layer of a network is
# usually out there. So measure the copy at the size of your tensors, not at one that flatters. (A GPU has such a hill as
# well. Its large cache holds some tens of MB.)

# %%
sizes = 2 ** np.arange(14, 27)


def plain_timer(function):
    return np.median(timeit.repeat(function, number=1, repeat=7))


measured = [copy_bandwidth(torch.ones(size // 4), plain_timer) for size in sizes]
fig, ax = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
ax.semilogx(sizes / 1e6, measured, "o-", base=2)
ax.set_xticks([2.0**k for k in range(-6, 7, 2)], [f"{2.0**k:.3g}" for k in range(-6, 7, 2)])
ax.set(xlabel="size of the tensor, MB", ylabel="copy bandwidth, GB/s", ylim=(0, None))
plt.show()

# %% [markdown]
# ## 7. Your own BN
#
# *Difficulty* ●●○○○ · *15 minutes* · *10 points*
#
# Your contestant: batch normalization of images in training, made of ordinary PyTorch operations. Autograd then supplies
# the backward pass, as long as every operation on the way can be differentiated.
#
# $$
# y = \gamma \, \frac{x - \mu}{\sqrt{\sigma^2 + \varepsilon}} + \beta
# $$
#
# with the mean $\mu$ and the *biased* variance $\sigma^2$ of each channel, over $N$, $H$ and $W$. No running statistics
# here. Do write it with tensor operations, not with PyTorch's own `batch_norm`: a race against yourself is no race. (A
# call of it is noticed and mentioned.)
#
# The statistics are functions of $x$, so the gradient must flow through them. And the variance must survive a large mean.
#
# <details><summary>Hint 1: a question</summary>
#
# Which three of the four axes are averaged over? What does `keepdim=True` save you?
#
# </details>
#
# <details><summary>Hint 2: shapes, and what breaks gradients</summary>
#
# `gamma.reshape(1, -1, 1, 1)` lines up with the channels. `detach()`, `.data`, `.item()`, `.numpy()` and
# `torch.no_grad()` cut the gradient off, and then the statistics count as constants. `x.var` divides by $m - 1$ unless
# you say `correction=0`.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# Mean over `(0, 2, 3)` with `keepdim=True`; subtract it; the mean of the squares of that is the variance; multiply by
# `torch.rsqrt(var + eps)`; scale by gamma and shift by beta, both reshaped.
#
# </details>


# %% nbgrader={"grade_id": "batch_norm-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def batch_norm(x, gamma, beta, eps):
    """Batch normalization of images in training, by differentiable PyTorch operations.

    Parameters
    ----------
    x : torch.Tensor of shape (N, C, H, W)
        float32 or float64. Must not be changed.
    gamma, beta : torch.Tensor of shape (C,)
        Scale and shift of each channel, in the dtype of x.
    eps : float
        Positive; added to the variance, inside the square root.

    Returns
    -------
    y : torch.Tensor of shape (N, C, H, W)
        Differentiable with respect to x, gamma and beta.

    References
    ----------
    Ioffe & Szegedy (2015), Algorithm 1.
    """
    ### BEGIN SOLUTION
    axes = (0, 2, 3)
    x_centered = x - x.mean(axes, keepdim=True)
    var = x_centered.square().mean(axes, keepdim=True)
    x_hat = x_centered * torch.rsqrt(var + eps)
    return gamma.reshape(1, -1, 1, 1) * x_hat + beta.reshape(1, -1, 1, 1)
    ### END SOLUTION


# %% nbgrader={"grade_id": "batch_norm", "grade": true, "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
check("batch_norm", batch_norm)

# %% [markdown]
# **See it.** PyTorch can be asked which operations a function really runs, and each of them reads its inputs and writes
# its output in full. The table counts the passes over large tensors in one training step of your function. *What you
# should see:* somewhere between 20 and 60 passes, where question 1 needs 8, or 5 at the floor. Each line of your function,
# and each line of its derivative, goes over the whole tensor once more. One *fused* kernel would do all of it between
# reading and writing. Predict how much slower than the streaming bound your function will be in the race. (Operations
# that only relabel axes move nothing and aren't listed. A library operation such as a mean counts as one pass over its
# input, whatever it does inside.)

# %%
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Passes(TorchDispatchMode):
    """Counts, by operation, how many tensors of `size` elements go in and come out."""

    def __init__(self, size):
        super().__init__()
        self.size, self.counts = size, {}

    @classmethod
    def _should_skip_dynamo(cls):
        return False  # or it imports PyTorch's compiler, which takes seconds

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        tensors = [t for t in tree_leaves((args, result)) if isinstance(t, torch.Tensor) and t.numel() == self.size]
        if not operation.is_view and tensors:
            name = operation.overloadpacket.__name__
            calls, passes = self.counts.get(name, (0, 0))
            self.counts[name] = calls + 1, passes + len(tensors)
        return result


x = torch.randn(4, 3, 8, 8, requires_grad=True)
dy = torch.randn(4, 3, 8, 8)
gamma, beta = torch.ones(3, requires_grad=True), torch.zeros(3, requires_grad=True)
with Passes(x.numel()) as seen:
    torch.autograd.grad(batch_norm(x, gamma, beta, 1e-5), (x, gamma, beta), dy)
for name, (calls, passes) in seen.counts.items():
    print(f"{name:<28}{calls:>3} call{'s' if calls > 1 else ' '} {passes:>3} passes")
print(f"{'in all':<36} {sum(passes for _, passes in seen.counts.values()):>3} passes; streaming 8, floor 5")

# %% [markdown]
# ## 8. First of all: is it right?
#
# *Difficulty* ●●●○○ · *15 minutes* · *9 points*
#
# A wrong implementation is easily the fastest. So before anything is timed, its results are compared with the truth, and
# the truth is computed in `float64`. Not in the format of the result: then the reference would carry the same rounding
# errors that you want to find.
#
# An implementation is a function `run()` without arguments that returns several tensors, for example $y$, $dx$, $d\gamma$
# and $d\beta$. Say why it must not take part in a race, in a short sentence, or return the empty string if it may. It
# must not, if
#
# - it raises an exception (a compiler that isn't installed, for example): a benchmark goes on without that contestant;
# - it returns another number of results than there are in `expected`;
# - a result has another shape than expected;
# - a result holds NaN or infinity;
# - a result is off: its largest error is more than `tolerance` times the largest absolute value of what is expected,
#
# $$
# \max_i |r_i - e_i| > \text{tolerance} \cdot \max_i |e_i|
# \qquad \text{with both in float64.}
# $$
#
# The sentence is yours: any text that isn't empty refuses.
#
# <details><summary>Hint 1: a question</summary>
#
# Is `float("nan") > 0.1` true or false? Is `float("nan") <= 0.1`? So which way round should a test ask, to be on the
# safe side?
#
# </details>
#
# <details><summary>Hint 2: shapes that fit by accident</summary>
#
# A tensor of shape $(3,)$ minus one of shape $(2, 3)$ is no error: broadcasting makes it work. Compare the shapes
# first. Convert with `.double()` before you subtract.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# 1. `try: results = run()`, and `except Exception as error:` return a text with the error in it.
# 2. Compare the two lengths.
# 3. For each pair: shapes; `torch.isfinite(result).all()`; then the largest absolute difference against the bound.
# 4. Only after the loop: `return ""`.
#
# </details>


# %% nbgrader={"grade_id": "why_not-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def why_not(run, expected, tolerance):
    """Why an implementation must not take part in a race, or "" if it may.

    Parameters
    ----------
    run : callable
        ``run()`` returns a tuple of tensors of any floating dtype. It may raise any exception.
    expected : list of torch.Tensor
        The right results, in float64, none of them all zero.
    tolerance : float
        Largest error of a result, relative to the largest absolute value expected in it.

    Returns
    -------
    reason : str
        Empty if every result has the expected shape, is finite, and is right up to `tolerance`. Otherwise any text.
    """
    ### BEGIN SOLUTION
    try:
        results = run()
    except Exception as error:
        return f"it raises {type(error).__name__}: {error}"
    if len(results) != len(expected):
        return f"it returns {len(results)} results, expected {len(expected)}"
    for number, (result, exact) in enumerate(zip(results, expected, strict=True)):
        if result.shape != exact.shape:
            return f"result {number} has shape {tuple(result.shape)}, expected {tuple(exact.shape)}"
        if not torch.isfinite(result).all():
            return f"result {number} holds NaN or infinity"
        error = (result.double() - exact).abs().max() / exact.abs().max()
        if not error <= tolerance:
            return f"result {number} is off by {error:.1e}, at most {tolerance:.0e} is allowed"
    return ""
    ### END SOLUTION


# %% nbgrader={"grade_id": "why_not", "grade": true, "locked": true, "points": 9, "schema_version": 3, "solution": false, "task": false}
check("why_not", why_not)

# %% [markdown]
# **See it.** Six ways to compute the variance of 100,000 numbers in `float32`, each in a hurry. *What you should see:* on
# data with mean 0 all of them are admitted but the one that looks at every tenth number only, the unbiased one as well
# (it differs by a factor of 1.00001). On data with mean 1,000 the one-pass formula is refused, and `float16`, which has too
# few digits there. So test on data that can tell: a benchmark on `torch.randn` would have let a broken kernel win.

# %%
hurried = {
    "two passes": lambda x: (x - x.mean()).square().mean(),
    "torch.var": lambda x: x.var(correction=0),
    "unbiased": lambda x: x.var(),
    "one pass": lambda x: x.square().mean() - x.mean() ** 2,
    "every tenth": lambda x: x[::10].var(correction=0),
    "float16": lambda x: x.half().var(correction=0),
}
numbers = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
for mean in (0, 1000):
    x = numbers + mean
    exact = [x.double().var(correction=0)]
    print(f"mean {mean}")
    for name, variance in hurried.items():
        reason = why_not(lambda variance=variance, x=x: (variance(x),), exact, 1e-3)
        print(f"    {name:<14}{'refused: ' + reason if reason else 'admitted'}")

# %% [markdown]
# ## 9. The race
#
# *Difficulty* ●●●○○ · *20 minutes* · *12 points*
#
# Machines have moods. A processor gets hot and slows down, a neighbor starts a backup, a laptop switches to battery. If
# you time all repeats of $A$ first and then all of $B$, and the machine slows down in between, $A$ wins for no reason.
# The remedy is old, from farming: grow both crops in *every* field. Run **rounds**; in every round, each implementation is
# timed once, and is compared only with what was timed in the same round, so that a mood hits both. For implementation
# $i$, with the first one as the baseline,
#
# $$
# \text{seconds}_i = \operatorname{median}_r \, t_{ri}
# \qquad
# \text{speedup}_i = \operatorname{median}_r \, \frac{t_{r,\text{baseline}}}{t_{ri}}
# $$
#
# where $t_{ri}$ is the time of $i$ in round $r$. A speedup above 1 means faster than the baseline. Within a round the
# order is yours.
#
# <details><summary>Hint 1: a question</summary>
#
# There are two loops, one over rounds and one over implementations. Which one is the outer one?
#
# </details>
#
# <details><summary>Hint 2: first the ratio, then the median</summary>
#
# A ratio per round, and then the median of these ratios. The ratio of two medians may set a time from a cool round
# against one from a hot round.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# A dictionary of empty lists by name. Two loops, in which `timer(functions[name])` is appended to the list of that name.
# The baseline is the first key: `next(iter(functions))`. With the lists as arrays, `np.median(times[name])` and
# `np.median(times[baseline] / times[name])`.
#
# </details>


# %% nbgrader={"grade_id": "race-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def race(functions, timer, rounds):
    """Compare implementations in interleaved rounds.

    Parameters
    ----------
    functions : dict of str to callable
        The implementations by name. The first one is the baseline.
    timer : callable
        ``timer(function)`` calls the function and returns the seconds of one call.
    rounds : int
        In each round every implementation is timed exactly once.

    Returns
    -------
    seconds : dict of str to float
        Median time over the rounds, by name.
    speedup : dict of str to float
        Median over the rounds of the baseline's time divided by the implementation's time in the same round, by name.
    """
    ### BEGIN SOLUTION
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            times[name].append(timer(function))
    times = {name: np.array(seconds) for name, seconds in times.items()}
    baseline = times[next(iter(functions))]
    seconds = {name: float(np.median(own)) for name, own in times.items()}
    speedup = {name: float(np.median(baseline / own)) for name, own in times.items()}
    return seconds, speedup
    ### END SOLUTION


# %% nbgrader={"grade_id": "race", "grade": true, "locked": true, "points": 12, "schema_version": 3, "solution": false, "task": false}
check("race", race)

# %% [markdown]
# **See it.** Two implementations of exactly the same speed, on a pretend machine that gets hot and throttles: it slows
# down by half on its way, and its timings scatter. 100 such races, once with all repeats of `A` first, once with your
# `race`. *What you should see:* one after the other, `A` looks about 1.2 times as fast, every time and with great
# confidence. Yours lie near 1. If they are off by two percent, that is the drift within a round, in which `A` always comes
# first: a race that changes the order from round to round loses this as well.

# %%
rng = np.random.default_rng(9)


class HotMachine:
    """Times go up by half over 18 timings, with 3% of noise."""

    def __init__(self):
        self.timings = 0

    def timer(self, function):
        self.timings += 1
        return 0.001 * (1 + 0.5 * self.timings / 18) * rng.normal(1, 0.03)


def one_after_the_other(machine):
    a, b = (np.median([machine.timer(None) for _ in range(9)]) for _ in range(2))
    return b / a


in_turns = [1 / race({"A": lambda: None, "B": lambda: None}, HotMachine().timer, 9)[1]["B"] for _ in range(100)]
in_blocks = [one_after_the_other(HotMachine()) for _ in range(100)]
fig, ax = plt.subplots(figsize=(6.4, 3), layout="constrained")
for ratios, label, hatch in ((in_blocks, "one after the other", "//"), (in_turns, "your race", "")):
    ax.hist(ratios, bins=np.arange(0.9, 1.45, 0.01), alpha=0.7, hatch=hatch, label=label)
ax.axvline(1, color="black", linewidth=1)
ax.set(xlabel="A looks so many times as fast as B", ylabel="races")
ax.legend()
plt.show()

# %% [markdown]
# ## The benchmark
#
# Here everything comes together: `batch_norm` of yours against PyTorch's layer and this course's `BatchNorm2d`, forward
# and backward, on the machine that you sit at. `why_not` guards the start, `measure` holds the stopwatch, `race` runs the
# rounds, `copy_bandwidth` tells what the memory can do, and `bn_bytes`, `bn_flops` and `roofline` what that would allow.
# It takes some seconds, and nothing in it is graded. Set `TRY_COMPILE = True` to add your function compiled by
# `torch.compile`: on a GPU it is on by itself; on a processor it needs a C++ compiler and half a minute or so.
#
# *What you should see:* who was refused, if anyone, and why. Then a table with seconds, the speedup over PyTorch, and two
# fractions: the time that the bytes of a streaming implementation would take at the speed of a copy, divided by the time
# measured, and the same for the floor. In the figure, a point for each contestant and direction. All points of one
# direction lie above each other, since the intensity belongs to the task (the streaming one is drawn). The empty way up to
# the line is what could be gained. Your backward pass, with its dozens of passes over the tensors, is the farthest down.
#
# **What differs without a GPU.**
#
# - Calls on a processor return when they are done: `synchronize` has nothing to wait for.
# - Fresh memory is costly. Every result is a new tensor, and handing out its pages can take as long as computing it. (On a
#   GPU, PyTorch keeps a stock of memory.)
# - Many processors fetch a piece of memory before they overwrite it. A copy then really moves three bytes for every two
#   that are counted, while a backward pass, which mostly reads, suffers less: it may end above 100%. So it may where
#   caches of tens of MB hold a good part of the tensors.
# - The arithmetic is left out of the bounds, as if the peak were infinite: on one core it may well be what limits.
# - Results vary with whatever else the machine does: look at the ratios, not at the milliseconds.

# %%
TRY_COMPILE = DEVICE == "cuda"
SHAPE = (256, 64, 56, 56) if DEVICE == "cuda" else (16, 64, 56, 56)
EPS = 1e-5

torch.manual_seed(0)
channels = SHAPE[1]
x = (3 + 2 * torch.randn(SHAPE)).to(DEVICE).requires_grad_()
gamma = torch.rand(channels, device=DEVICE).add_(0.5).requires_grad_()
beta = torch.randn(channels, device=DEVICE).requires_grad_()
dy = torch.randn(SHAPE).to(DEVICE)


def layer(kind):
    bn = kind(channels, eps=EPS).to(DEVICE)
    bn.weight, bn.bias = torch.nn.Parameter(gamma.detach()), torch.nn.Parameter(beta.detach())
    return lambda: (bn(x), (x, bn.weight, bn.bias))


contestants = {  # each returns y, and what to differentiate with respect to
    "PyTorch": layer(torch.nn.BatchNorm2d),
    "bnlab": layer(BatchNorm2d),
    "yours": lambda: (batch_norm(x, gamma, beta, EPS), (x, gamma, beta)),
}
if TRY_COMPILE:
    import torch._functorch.config

    torch._functorch.config.donated_buffer = False  # one graph, many backward passes: it must not eat its own memory
    compiled = torch.compile(batch_norm)
    contestants["yours, compiled"] = lambda: (compiled(x, gamma, beta, EPS), (x, gamma, beta))
else:
    print("yours, compiled: left out, it takes long on a processor (TRY_COMPILE = True adds it)")


def both_ways(forward):
    y, sources = forward()
    return y.detach(), *torch.autograd.grad(y, sources, dy)


def in_float64():
    wide = [t.detach().double().requires_grad_() for t in (x, gamma, beta)]
    y = torch.nn.functional.batch_norm(wide[0], None, None, *wide[1:], training=True, eps=EPS)
    return [y.detach(), *torch.autograd.grad(y, wide, dy.double())]


expected = in_float64()
admitted = {}
for name, forward in contestants.items():
    reason = why_not(lambda forward=forward: both_ways(forward), expected, 1e-4)
    if reason:
        print(f"{name}: refused, {reason}")
    else:
        admitted[name] = forward
del expected


def timer(function):
    wait = torch.cuda.synchronize if DEVICE == "cuda" else lambda: None
    return measure(function, time.perf_counter, wait, warmup=1, repeats=2)[1]


def backward(forward):
    y, sources = forward()
    return lambda: torch.autograd.grad(y, sources, dy, retain_graph=True)


bandwidth = np.median([copy_bandwidth(x.detach(), timer) for _ in range(5)])
print(f"{DEVICE}, {torch.get_num_threads()} thread(s), float32 {SHAPE}: a copy runs at {bandwidth:.1f} GB/s")
print(f"{'step':<10}{'implementation':<18}{'ms':>9}{'speedup':>10}{'of streaming':>14}{'of the floor':>14}")
points = []
for step in ("forward", "backward"):
    functions = dict(admitted)
    if step == "backward":
        functions = {name: backward(forward) for name, forward in admitted.items()}
    seconds, speedup = race(functions, timer, rounds=5)
    flops = bn_flops(SHAPE, step)
    intensity, _, bound = roofline(flops, bn_bytes(SHAPE, 4, step, True)[0], bandwidth, np.inf)
    _, _, floor = roofline(flops, bn_bytes(SHAPE, 4, step, False)[0], bandwidth, np.inf)
    for name, own in seconds.items():
        row = f"{1e3 * own:>9.2f}{speedup[name]:>10.2f}{bound / own:>14.0%}{floor / own:>14.0%}"
        print(f"{step:<10}{name:<18}{row}")
        points.append((name, step, intensity, flops / own / 1e9))

fig, ax = plt.subplots(figsize=(6.4, 4), layout="constrained")
looks = dict(zip(contestants, ("oC0", "sC1", "DC2", "vC3"), strict=False))
for name, step, intensity, performance in points:
    fill = "full" if step == "forward" else "none"
    ax.plot(intensity, performance, looks[name], fillstyle=fill, markersize=9, label=f"{name}, {step}")
slope = np.array([0.1, 2.0])
ax.loglog(slope, slope * bandwidth, color="black", label="the bandwidth of a copy")
ax.set(xlabel="arithmetic intensity, flops per byte", ylabel="Gflop/s", xlim=(0.1, 2))
ax.set_xticks([0.1, 0.2, 0.4, 1, 2], ["0.1", "0.2", "0.4", "1", "2"])
ax.set_xticks([], minor=True)
fig.legend(loc="outside right upper", fontsize=9)
plt.show()

# %% [markdown]
# ## 10. Does it pay?
#
# *Difficulty* ●●○○○ · *10 minutes* · *7 points*
#
# "BN takes more computation per epoch but fewer epochs, so less time in total." Three statements, and the last one
# follows only if the numbers are right:
#
# $$
# \text{time to the target} = \text{epochs} \cdot \text{steps per epoch} \cdot \text{seconds per step}
# $$
#
# A training run left you the test error after each epoch: `errors[0]` after the first one, `errors[1]` after the second,
# and so on. How many epochs did it take until the error was at or below `target` for the *first* time, and how many
# seconds of training were that? A curve may bounce up again afterwards; and some never get there: then both answers are
# infinite, `float("inf")`. (Not the number of epochs that you happened to wait. Never is longer than that.)
#
# <details><summary>Hint 1: a question</summary>
#
# If `errors[0]` is already below the target, how many epochs have been trained? (Not zero.)
#
# </details>
#
# <details><summary>Hint 2: the first of many</summary>
#
# Go through the errors in order and stop at the first that is small enough. Or collect the indices of all that are
# (`np.flatnonzero`) and take the first, if there is one.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# `for epoch, error in enumerate(errors, start=1):` and inside, if the error is at most the target, return the epoch and
# its product with the steps per epoch and the seconds per step. After the loop, return two infinities.
#
# </details>


# %% nbgrader={"grade_id": "time_to_target-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def time_to_target(errors, target, steps_per_epoch, seconds_per_step):
    """Epochs and seconds of training until the test error reaches a target for the first time.

    Parameters
    ----------
    errors : ndarray of shape (epochs,)
        Test error after each epoch; errors[0] is that after the first.
    target : float
        Reached by an error at or below it.
    steps_per_epoch : int
    seconds_per_step : float

    Returns
    -------
    epochs : int or float
        inf if the target is never reached.
    seconds : float
        Of training; inf if the target is never reached.
    """
    ### BEGIN SOLUTION
    for epochs, error in enumerate(errors, start=1):
        if error <= target:
            return epochs, epochs * steps_per_epoch * seconds_per_step
    return float("inf"), float("inf")
    ### END SOLUTION


# %% nbgrader={"grade_id": "time_to_target", "grade": true, "locked": true, "points": 7, "schema_version": 3, "solution": false, "task": false}
check("time_to_target", time_to_target)

# %% [markdown]
# **See it.** A real race, on real seconds: dense networks with eight layers of 64 ReLU units learn 2,000 pictures of
# clothes, without BN and with it. Both start from the initialization that suits ReLU, and both have the learning rate
# that was the best of seven for them (0.1, as it happens, for both). *What you should see:* on the left, over epochs, the
# curve with BN falls sooner. On the right the same curves over seconds: the one with BN is stretched by what a step costs,
# and a part of the lead is gone again. How large a part depends on the machine: the last line above the figure says how
# much longer a step took on yours. One seed, tiny layers: not a verdict. The chapter *Training speed and learning rates*
# has more networks, five seeds and a fair search.

# %%
data = fashion(2000, 500)
images, labels, test_images, test_labels = (torch.as_tensor(a) for a in data[:4])
images, test_images = images.flatten(1) - images.mean(), test_images.flatten(1) - images.mean()


def train(norm, epochs=8, rate=0.1):
    """Test error after each epoch, and the median seconds of a step."""
    torch.manual_seed(0)
    model = MLP([784, *8 * [64], 10], norm)
    errors, seconds = [], []
    for _ in range(epochs):
        model.train()
        for now in torch.randperm(len(images)).split(50):
            start = time.perf_counter()
            loss = torch.nn.functional.cross_entropy(model(images[now]), labels[now])
            parameters = list(model.parameters())
            for p, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                p.data -= rate * gradient
            seconds.append(time.perf_counter() - start)
        with torch.no_grad():
            errors.append((model.eval()(test_images).argmax(1) != test_labels).float().mean().item())
    return np.array(errors), float(np.median(seconds))


runs = {"without BN": train(None), "with BN": train(torch.nn.BatchNorm1d)}
for label, (errors, step) in runs.items():
    epochs, seconds = time_to_target(errors, 0.25, 40, step)
    print(f"{label:<11}{1e3 * step:.1f} ms per step; 25% error after {epochs} epochs, {seconds:.2f} s of training")
print(f"a step with BN takes {runs['with BN'][1] / runs['without BN'][1]:.2f} times as long")

fig, axes = plt.subplots(1, 2, figsize=(6.4, 3.4), sharey=True, layout="constrained")
for (label, (errors, step)), style in zip(runs.items(), ("o--", "s-"), strict=True):
    epochs = np.arange(1, len(errors) + 1)
    axes[0].plot(epochs, errors, style, label=label)
    axes[1].plot(epochs * 40 * step, errors, style)
for ax, label in ((axes[0], "epochs"), (axes[1], "seconds of training")):
    ax.axhline(0.25, color="black", linewidth=1)
    ax.set(xlabel=label, ylim=(0, None))
axes[0].set_ylabel("test error")
axes[0].legend()
plt.show()

# %% [markdown]
# ## 11. Cost and gain
#
# *Difficulty* ●●○○○ · *8 minutes* · *4 points* · answer in words
#
# A network takes 100 ms per training step without BN and 130 ms with it. Without BN the target is reached after 30
# epochs, with it after 20.
#
# (a) By what factor does BN change the training time?
#
# (b) How long could a step with BN take at most, so that BN would still pay? And how much of the total time could a
# perfect BN kernel, one that takes no time at all, save at best?
#
# (c) Name two circumstances under which the same comparison could come out the other way, and say why.

# %% [markdown] nbgrader={"grade_id": "cost_and_gain", "grade": true, "locked": false, "points": 4, "schema_version": 3, "solution": true, "task": false}
# (a) The time is epochs x steps per epoch x seconds per step, and the steps per epoch are the same: $\frac{20}{30} \cdot
# \frac{130}{100} \approx 0.87$. BN saves 13% of the time.
#
# (b) It breaks even where $20 \cdot t = 30 \cdot 100$ ms, at $t = 150$ ms, one and a half times the step without BN. In
# general a step may be as many times longer as there are times fewer epochs. If BN itself took no time, a step would
# take about 100 ms instead of 130, so a perfect kernel saves at most 30/130, 23% of the time with BN. Twice as fast a
# kernel saves half of that.
#
# (c) For example: a network of small layers, or on a GPU whose arithmetic is fast, in which BN, limited by memory, has a
# larger share of the step; a shallow network, a well-chosen initialization or an optimizer such as Adam, with which the
# network without BN needs hardly more epochs; a fair learning rate for the network without BN, if it had been run at the
# one that suits BN; another target error, since the curves may cross; small batches, whose noisy statistics cost
# accuracy.

# %% [markdown]
# ## Optional: a fused kernel in Triton
#
# *Difficulty* ●●●●○ · *45 minutes* · no points
#
# Triton compiles functions in a kind of Python to GPU code, and PyTorch's own compiler builds on it. You write what one
# *program* does; many of them run at the same time. Here one program takes care of one channel, so that nothing has to
# be added up across programs. It goes over the channel twice: once for the sums, once to normalize and write. That is
# the streaming count of question 1, 3 passes, in a single launch. While the second reading follows the first closely, the
# channel may still lie in the cache, and then it is nearly the floor.
#
# **What you need** is Triton. It comes with PyTorch for NVIDIA GPUs on Linux. Elsewhere it can be installed on Linux, and
# its interpreter (`TRITON_INTERPRET=1`, which the first cell sets where there is no GPU) runs the kernel on the processor:
# correctly, and far too slowly for a race. Where Triton is missing, the cells below say so and do nothing.
#
# The tensor is contiguous, of shape $(N, C, H, W)$. The $M = N \cdot HW$ elements of channel $c$ come in $N$ runs of $HW$
# neighbors. Element $i$ of the channel, $0 \le i < M$, belongs to example $n = \lfloor i / HW \rfloor$, position $p = i
# \bmod HW$, and lies at
#
# $$
# (n \cdot C + c) \cdot HW + p .
# $$
#
# You need `tl.program_id(0)` (the number of the channel), `tl.arange(0, BLOCK)` (a vector of indices), `tl.load(pointer +
# indices, mask=..., other=0.0)`, `tl.store(pointer + indices, values, mask=...)`, `tl.zeros((BLOCK,), tl.float32)`,
# `tl.where`, `tl.sum(vector, axis=0)`, `tl.math.rsqrt`, and a plain `for start in range(0, M, BLOCK):`. The last block may
# stick out beyond `M`: mask it. `C`, `HW`, `M` and `BLOCK` are known when the kernel is compiled.
#
# Two passes would need two loops before the writing. To get by with one, subtract a number $a$ near the mean from all
# elements, such as the channel's first element: with $d_i = x_i - a$, $\mu = a + \bar{d}$ and $\sigma^2 = \overline{d^2} -
# \bar{d}^2$. The $d_i$ are small, so this survives a large mean; with $a = 0$ it wouldn't.
#
# <details><summary>Hint 1: a question</summary>
#
# What must the masked elements contribute to the sums? `other=0.0` loads a 0 for them, but from that, $a$ is subtracted.
#
# </details>
#
# <details><summary>Hint 2: sums</summary>
#
# Keep two vectors of `BLOCK` partial sums, and add them up with `tl.sum` once, after the loop.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# Channel number; $a$ = the element at $c \cdot HW$. First loop: index, mask, offset as above, load, subtract, `tl.where`
# with the mask, add to the two vectors. Then mean, variance, `scale = gamma * rsqrt(var + eps)`. Second loop: the same
# offsets, load, `(x - mean) * scale + beta`, store with the mask.
#
# </details>

# %% nbgrader={"grade_id": "fused-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
batch_norm_kernel = None  # stays so where Triton is missing
if triton is not None:

    @triton.jit
    def batch_norm_kernel(
        x_ptr,
        y_ptr,
        gamma_ptr,
        beta_ptr,
        eps,
        C: tl.constexpr,
        HW: tl.constexpr,
        M: tl.constexpr,
        BLOCK: tl.constexpr,
    ):
        """BN in training, forward, of one channel: x to y, both contiguous float32 of shape (N, C, H, W)."""
        ### BEGIN SOLUTION
        c = tl.program_id(0)
        a = tl.load(x_ptr + c * HW)
        total = tl.zeros((BLOCK,), tl.float32)
        squares = tl.zeros((BLOCK,), tl.float32)
        for start in range(0, M, BLOCK):
            i = start + tl.arange(0, BLOCK)
            mask = i < M
            offset = (i // HW * C + c) * HW + i % HW
            d = tl.where(mask, tl.load(x_ptr + offset, mask=mask, other=0.0) - a, 0.0)
            total += d
            squares += d * d
        rest = tl.sum(total, axis=0) / M
        var = tl.sum(squares, axis=0) / M - rest * rest
        scale = tl.load(gamma_ptr + c) * tl.math.rsqrt(var + eps)
        beta = tl.load(beta_ptr + c)
        for start in range(0, M, BLOCK):
            i = start + tl.arange(0, BLOCK)
            mask = i < M
            offset = (i // HW * C + c) * HW + i % HW
            x = tl.load(x_ptr + offset, mask=mask, other=0.0)
            tl.store(y_ptr + offset, ((x - a) - rest) * scale + beta, mask=mask)
        ### END SOLUTION


# %%
check_fused(batch_norm_kernel)

# %% [markdown]
# **See it** (on a GPU only). Your kernel against PyTorch's, as in the benchmark, forward. *What to look at:* how near
# thirty lines come to PyTorch's hand-written kernel on your card; the course has not recorded it yet. With 64 channels
# only 64 programs run, fewer than a large GPU has multiprocessors: more programs per channel keep more of it busy, and have
# to agree on their sums.

# %%
if DEVICE == "cuda" and batch_norm_kernel is not None:
    x = torch.randn(256, 64, 56, 56, device=DEVICE)
    gamma, beta = torch.rand(64, device=DEVICE), torch.randn(64, device=DEVICE)
    functions = {
        "PyTorch": lambda: torch.nn.functional.batch_norm(x, None, None, gamma, beta, training=True),
        "your kernel": lambda: fused_batch_norm(batch_norm_kernel, x, gamma, beta, 1e-5),
    }
    seconds, speedup = race(
        functions, lambda f: measure(f, time.perf_counter, torch.cuda.synchronize, 3, 10)[1], rounds=5
    )
    for name in functions:
        print(f"{name:<12}{1e3 * seconds[name]:>8.3f} ms, {speedup[name]:.2f} times as fast as PyTorch")
else:
    print("Left out: it needs a GPU and Triton.")

# %% [markdown]
# ## What you learned
#
# - BN moves many bytes for little arithmetic: a few flops per element, below one flop per byte. It is limited by memory,
#   so the way to make it faster is to move fewer bytes: fuse what goes over the tensor.
# - The floor (2 passes in evaluation, 2 forward, 3 backward) and the streaming count (2, 3, 5) come from what has to be
#   summed before anything can be normalized. Divided by a measured bandwidth they bound every timing from below, which
#   also exposes timings that can't be true.
# - A stopwatch warms up, synchronizes before both readings of the clock, repeats, and reports quantiles.
# - A comparison checks results first (against `float64`), runs in rounds, and takes ratios within a round.
# - Time to a target is steps times time per step. A layer pays if it saves more steps than it costs time, and that
#   depends on the network, the machine, and on how fairly the opponent was tuned.
#
# ## Going further (not graded)
#
# - Run the benchmark with `float16` on a GPU. Which of the byte counts halve? Do the times?
# - Convert `x` to `memory_format=torch.channels_last` and race again. Who profits, and who loses?
# - Add evaluation to the race. Then fold the BN layer into the convolution before it, and race the pair against one
#   convolution.
# - On a GPU, calls shorter than about 20 µs are limited by launching. Read about CUDA graphs, and compare for small
#   tensors.
# - Write the backward kernel in Triton: two sums, then $dx = k \, dy + u x + v$ with one $k$, $u$ and $v$ per channel. Why
#   is it five passes, and when four or three?
# - In BN followed by ReLU, the ReLU costs two more passes, unless it is fused. How many bytes does a block of
#   convolution, BN, addition and ReLU move, fused and unfused?
