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
# # Problem set 6: Noise, dropout, weight decay, overfitting
#
# "Batch normalization regularizes." "With it you need no dropout." "It prevents overfitting." You take these sentences
# apart: how noisy the statistics of a batch are, how to change that noise and little else, what dropout does to the
# variances that batch normalization (BN) stores, what weight decay does to weights whose size doesn't matter, and how
# to find out whether a network has learned by heart.
#
# **Afterwards you can**
#
# - predict the noise of batch statistics from the batch size, without drawing a single batch;
# - build ghost batch normalization, the tool that changes this noise and neither the gradient's batch nor its steps;
# - write dropout, and compute how far it makes a network wrong about its own variances;
# - find out by experiment which parameters of a network have no size that matters, and say what weight decay does to
#   them;
# - test a network for memorization, and compare methods without fooling yourself.
#
# **Time:** about two and three quarter hours. **You need:** NumPy, mean and variance, problem set 2 (or a rough idea of
# what BN does in training and in evaluation). Your functions are NumPy alone; the notebook uses PyTorch and
# scikit-learn for some of its figures. The chapter *Noise, dropout, weight decay, overfitting* of the book is the
# theory to this practice.
#
# ## How to work
#
# 1. Run the cells from the top. Where a cell says `raise NotImplementedError()`, replace that line by your code.
# 2. Run the cell below it. It checks your function on several random inputs and tells you what is right, what isn't
#    yet, and what the likely mistake is. Try again as often as you like.
# 3. Points are given part by part, so half a solution earns something. No question needs another one: skip one and come
#    back later. A figure that uses an unanswered function shows `NotImplementedError`; this costs nothing.
# 4. Stuck? Every function has three hints. Open one at a time.
# 5. Two questions ask for a few sentences. Your instructor reads them; no check can.
# 6. Before you hand in, type `bnlab check ps6_regularization.ipynb` in a terminal. It runs the notebook from top to
#    bottom in a fresh kernel, as the grader will, with a table of your points. The grader draws other random inputs.
#
# Keep the cells that are here. You may add cells of your own.
#
# **Conventions.** Axis 0 of a table are the examples, axis 1 the features. "Variance" means the biased one, divided by
# the number of values, unless a question says otherwise. No function may change its arguments in place. The checks
# allow for rounding, in `float64` and in `float32`.
#
# **Random numbers.** Some functions get an argument `rng`, made by `np.random.default_rng(seed)`. Draw from it alone:
# `rng.random(shape)` gives uniform numbers in $[0, 1)$, `rng.integers(low, high, size)` whole numbers from `low` to
# `high - 1`, `rng.permutation(n)` the numbers $0$ to $n - 1$ in random order. Whoever calls your function with the same
# seed then gets the same result, which is what makes an experiment repeatable.
#
# | question | difficulty | minutes | points |
# |---|---|---|---|
# | 1. `predict_noise` | ●●○○○ | 15 | 10 |
# | 2. `noisy_views` | ●●○○○ | 10 | 8 |
# | 3. `ghost_batch_norm` | ●●●○○ | 30 | 16 |
# | 4. `was_it_the_noise` | ●●○○○ | 10 | 4 |
# | 5. `dropout` | ●●○○○ | 10 | 10 |
# | 6. `variance_shift` | ●●●●○ | 20 | 12 |
# | 7. `scale_invariant` | ●●○○○ | 15 | 8 |
# | 8. `follow_length` | ●●●○○ | 20 | 12 |
# | 9. `what_decay_does` | ●●●○○ | 10 | 4 |
# | 10. `corrupt_labels` | ●●○○○ | 15 | 8 |
# | 11. `honest_score` | ●●○○○ | 15 | 8 |

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from checks import check, layer_and_output, two_layers

from bnlab import datasets
from bnlab.ensemble import BatchNorm, Ensemble, fit

digits = datasets.digits()  # images of 8x8 pixels as rows of 64 numbers, and their labels
torch.set_num_threads(1)

# %% [markdown]
# ## 1. How noisy is a batch?
#
# *Difficulty* ●●○○○ · *15 minutes* · *10 points*
#
# A feature has $n$ values in the training set, with mean $\mu$, standard deviation $\sigma$ and kurtosis
#
# $$
# \kappa = \frac{1}{n} \sum_{i=1}^{n} \left( \frac{x_i - \mu}{\sigma} \right)^4 ,
# $$
#
# which is 3 for a bell curve and larger for a feature with outliers. Training sees it through batches of $m$ values.
# The mean of a batch, $\mu_B$, isn't $\mu$: over many batches it scatters around it. How much, measured in units of
# $\sigma$, depends on how the batches are drawn. With replacement (the same example may come twice) and without:
#
# $$
# \frac{\operatorname{std}(\mu_B)}{\sigma} = \frac{1}{\sqrt{m}}
# \qquad\text{or}\qquad
# \frac{\operatorname{std}(\mu_B)}{\sigma} = \frac{1}{\sqrt{m}} \sqrt{\frac{n - m}{n - 1}} .
# $$
#
# The second factor is the *finite-population correction*. (Epochs of shuffled batches draw without replacement.) The
# batch variance $\sigma^2_B$ scatters as well. With replacement and for large $m$,
#
# $$
# \frac{\operatorname{std}(\sigma^2_B)}{\sigma^2} \approx \sqrt{\frac{\kappa - 1}{m}} .
# $$
#
# Compute all three. The first two are the same for all features, the third differs.
#
# <details><summary>Hint 1: a question</summary>
#
# When the batch is the whole training set, $m = n$, what must the noise of the mean be without replacement?
#
# </details>
#
# <details><summary>Hint 2: the kurtosis</summary>
#
# Subtract the mean of each column, divide by its standard deviation (the biased one, as `np.std` has it), and take the
# mean of the fourth powers. Some books and libraries subtract 3 and call the rest *excess*; here nothing is subtracted.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# $n$ is `len(x)`. Two numbers by `np.sqrt` of the formulas above. Then `x_hat`, of shape $(n, D)$; `kurtosis`, of shape
# $(D,)$, by a mean over axis 0; and a root again. Return the three.
#
# </details>


# %% nbgrader={"grade_id": "predict_noise-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def predict_noise(x, m):
    """Noise of the batch mean, in units of sigma, and of the batch variance, in sigma squared.

    Parameters
    ----------
    x : ndarray of shape (n, D)
        All values of D features, none of them constant. Must not be changed.
    m : int
        Examples in a batch, 2 <= m <= n.

    Returns
    -------
    with_replacement, without_replacement : float
        Standard deviation of the mean of a batch, divided by sigma.
    of_variance : ndarray of shape (D,)
        Standard deviation of the variance of a batch drawn with replacement, divided by sigma
        squared, for large m.

    References
    ----------
    Cramér (1946), Mathematical Methods of Statistics, Section 27.4; Cochran (1977), Sampling
    Techniques, Theorem 2.2.
    """
    ### BEGIN SOLUTION
    n = len(x)
    with_replacement = np.sqrt(1 / m)
    without_replacement = np.sqrt((n - m) / (n - 1) / m)
    x_hat = (x - x.mean(axis=0)) / x.std(axis=0)
    kurtosis = (x_hat**4).mean(axis=0)
    return with_replacement, without_replacement, np.sqrt((kurtosis - 1) / m)
    ### END SOLUTION


# %% nbgrader={"grade_id": "predict_noise", "grade": true, "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
check("predict_noise", predict_noise)

# %% [markdown]
# **See it.** What a neuron with random weights makes of 1,442 handwritten digits: real values, no bell curve drawn by a
# computer. The dots are measured, over 400 batches of each size; the lines are your predictions. *What you should see:*
# the dots lie on the lines. On these axes $1/\sqrt{m}$ is a straight line: four times the batch, half the noise.
# Without replacement the noise leaves that line only where the batch is a large part of the whole set, and then dives
# to zero. At batch sizes in use, at the left, the two can't be told apart. The variance is noisier than the mean. Its
# triangles lie clearly below their line at the smallest batches (about 0.6 instead of 0.9 at $m = 4$), where "for large
# $m$" doesn't hold. From 32 on they lie on it.

# %%
rng = np.random.default_rng(1)
neuron = digits.x_train @ rng.normal(size=(64, 1))
sizes = np.array([4, 8, 16, 32, 64, 128, 256, 512, 1024, 1400])
measured = {"mean, with replacement": [], "mean, without": [], "variance": []}
for m in sizes:
    drawn = neuron[rng.integers(len(neuron), size=(400, m)), 0]
    dealt = np.array([rng.permutation(neuron[:, 0])[:m] for _ in range(400)])
    measured["mean, with replacement"].append(drawn.mean(axis=1).std() / neuron.std())
    measured["mean, without"].append(dealt.mean(axis=1).std() / neuron.std())
    measured["variance"].append(drawn.var(axis=1).std() / neuron.var())
predicted = [[np.ravel(noise)[0] for noise in predict_noise(neuron, int(m))] for m in sizes]

fig, ax = plt.subplots(figsize=(6.4, 4), layout="constrained")
styles = (("o", "-"), ("s", ":"), ("v", "--"))
for k, ((label, values), (marker, style)) in enumerate(zip(measured.items(), styles, strict=True)):
    ax.loglog(sizes, values, marker, color=f"C{k}", label=label)
    ax.loglog(sizes, [noises[k] for noises in predicted], style, color=f"C{k}")
ax.set(xlabel="batch size m", ylabel="noise, relative to all values")
ax.legend(title="dots measured, lines yours")
plt.show()

# %% [markdown]
# ## 2. What one example sees of it
#
# *Difficulty* ●●○○○ · *10 minutes* · *8 points*
#
# An example meets other mates in every batch, so it is normalized by other statistics every time. Given one example,
# the training set `x`, and for each of $B$ batches the rows of `x` that are its mates, compute its normalized value in
# each batch:
#
# $$
# \hat{x}_{bj} = \frac{x_j - \mu_{bj}}{\sqrt{\sigma^2_{bj} + \varepsilon}} ,
# $$
#
# where $\mu_b$ and $\sigma^2_b$ are the mean and the (biased) variance of a batch of $m$ examples: *the example itself*
# and its $m - 1$ mates.
#
# <details><summary>Hint 1: a question</summary>
#
# In a batch of 4, how many examples enter the mean, and how many mates are there?
#
# </details>
#
# <details><summary>Hint 2: indexing by an array</summary>
#
# `x[mates[b]]` is the table of the mates in batch `b`, of shape $(m - 1, D)$. `np.vstack([example, x[mates[b]]])` puts
# the example on top. A loop over the batches is fine. Without a loop: `x[mates]` has the shape $(B, m - 1, D)$.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# For each row of `mates`: stack example and mates; mean and variance over axis 0; normalize the example alone, with
# `eps` inside the root; append. At the end `np.array` of the list has the shape $(B, D)$.
#
# </details>


# %% nbgrader={"grade_id": "noisy_views-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def noisy_views(example, x, mates, eps):
    """The normalized values of one example in several batches.

    Parameters
    ----------
    example : ndarray of shape (D,)
        Must not be changed, nor may the others.
    x : ndarray of shape (n, D)
        Where its mates come from.
    mates : ndarray of int, shape (B, m - 1)
        Row b names the rows of x that share batch b with the example. m is at least 2.
    eps : float
        Positive; added to the variance, inside the square root.

    Returns
    -------
    x_hat : ndarray of shape (B, D)

    References
    ----------
    Ioffe & Szegedy (2015), Algorithm 1, and Section 3.4 on what it means for an example.
    """
    ### BEGIN SOLUTION
    views = []
    for rows in mates:
        batch = np.vstack([example, x[rows]])
        views.append((example - batch.mean(axis=0)) / np.sqrt(batch.var(axis=0) + eps))
    return np.array(views)
    ### END SOLUTION


# %% nbgrader={"grade_id": "noisy_views", "grade": true, "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
check("noisy_views", noisy_views)

# %% [markdown]
# **See it.** One of the digits, as the neuron above sees it, in 500 batches each of 2, 4, 16, 64 and 256. Dashed: its
# normalized value by the statistics of all digits. *What you should see:* large batches agree with the dashed line, and
# the smaller the batch, the wider the dots are spread. In batches of 2 there are only two values left, $+1$ and $-1$:
# whatever the example is, it is one standard deviation above or below the mean of the two. All that the network learns
# is which of them is larger. (In general no value in a batch of $m$ can be farther from the mean than
# $\sqrt{m - 1}$ standard deviations.)

# %%
rng = np.random.default_rng(2)
neuron = digits.x_train @ np.random.default_rng(1).normal(size=(64, 1))
chosen = np.argsort(neuron[:, 0])[1250]  # one that is rather large
others = np.delete(neuron, chosen, axis=0)
fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
for place, m in enumerate((2, 4, 16, 64, 256)):
    views = noisy_views(neuron[chosen], others, rng.integers(len(others), size=(500, m - 1)), 1e-12)
    ax.plot(views[:, 0], place + rng.uniform(-0.3, 0.3, 500), ".", markersize=3)
by_all = (neuron[chosen, 0] - neuron.mean()) / neuron.std()
ax.axvline(by_all, color="black", linestyle="--", linewidth=1)
ax.set_yticks(range(5), ["m = 2", "m = 4", "m = 16", "m = 64", "m = 256"])
ax.set_xlabel("normalized value of the same example")
plt.show()

# %% [markdown]
# ## 3. Ghost batch normalization
#
# *Difficulty* ●●●○○ · *30 minutes* · *16 points*
#
# To find out what the noise of the statistics does, you must change it and as little else as can be. A smaller batch
# won't do: it makes the gradient noisier, too, and needs more steps for an epoch. *Ghost batches* (Hoffer et al., 2017)
# will. The gradient comes from the whole batch of $N$ examples, but each group of `ghost_size` examples is normalized
# by its own statistics, as if it had come alone.
#
# In training:
#
# - The groups are *consecutive*: the first `ghost_size` examples, then the next, and so on. If `ghost_size` doesn't
#   divide $N$, the last group has the examples that are left over. (You will not be given a batch that leaves a single
#   one.) If `ghost_size` is $N$ or larger, there is one group.
# - Each group is normalized with its own mean and *biased* variance, $\varepsilon$ inside the root, then scaled by
#   $\gamma$ and shifted by $\beta$, which all groups share. $y$ keeps the order of the examples.
# - The running statistics take in one group after the other, each with weight `momentum` and its own mean and
#   *unbiased* variance. With $G$ groups they move $G$ times.
#   (So their memory is $G$ times as short, counted in steps, and what evaluation uses gets noisier as well. Whoever
#   compares group sizes should compute the statistics again after training, on many batches, or give each of the $G$
#   moves the weight $1 - (1 - \text{momentum})^{1/G}$.)
#
# In evaluation there are no groups: every example is normalized by the running statistics, which are returned as they
# came.
#
# <details><summary>Hint 1: a question</summary>
#
# Suppose a function `batch_norm` for a whole batch lay ready, like the one of problem set 2. With which arguments, and
# how often, would you call it?
#
# </details>
#
# <details><summary>Hint 2: cutting</summary>
#
# `for start in range(0, len(x), ghost_size)` visits the first row of every group, and
# `x[start : start + ghost_size]` is the group. A slice that would go past the end stops there, so the last, smaller
# group needs no code of its own. `np.concatenate` puts the pieces together.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# 1. If not training: one line for `y`, and return.
# 2. Else, for each group: its mean and variance; append its `y` to a list; update `running_mean` and `running_var` from
#    the *present* running values, so that the next group continues from there. `m` is the size of *this* group in the
#    factor $m/(m - 1)$. Write `a = (1 - momentum) * a + ...`, which makes new arrays.
# 3. Concatenate the list.
#
# </details>


# %% nbgrader={"grade_id": "ghost_batch_norm-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def ghost_batch_norm(
    x,
    gamma,
    beta,
    running_mean,
    running_var,
    ghost_size,
    training,
    momentum,
    eps,
):
    """Batch normalization by the statistics of groups of a batch.

    Parameters
    ----------
    x : ndarray of shape (N, D)
    gamma, beta : ndarray of shape (D,)
        Scale and shift of each feature.
    running_mean, running_var : ndarray of shape (D,)
        Statistics so far. No argument may be changed in place.
    ghost_size : int
        Examples in a group, at least 2. No group has a single example.
    training : bool
        True: normalize each group with its own statistics, and update the running ones. False:
        normalize with the running ones.
    momentum : float in [0, 1]
        Weight of each group in the running statistics.
    eps : float
        Positive; added to the variance, inside the square root.

    Returns
    -------
    y : ndarray of shape (N, D)
    running_mean, running_var : ndarray of shape (D,)
        After this batch.

    References
    ----------
    Hoffer, Hubara & Soudry (2017), Algorithm 1 (which averages standard deviations; here it is
    variances, as in PyTorch's batch normalization).
    """
    ### BEGIN SOLUTION
    if not training:
        y = gamma * (x - running_mean) / np.sqrt(running_var + eps) + beta
        return y, running_mean, running_var
    pieces = []
    for start in range(0, len(x), ghost_size):
        group = x[start : start + ghost_size]
        mean, var = group.mean(axis=0), group.var(axis=0)
        pieces.append(gamma * (group - mean) / np.sqrt(var + eps) + beta)
        unbiased = var * len(group) / (len(group) - 1)
        running_mean = (1 - momentum) * running_mean + momentum * mean
        running_var = (1 - momentum) * running_var + momentum * unbiased
    return np.concatenate(pieces), running_mean, running_var
    ### END SOLUTION


# %% nbgrader={"grade_id": "ghost_batch_norm", "grade": true, "locked": true, "points": 16, "schema_version": 3, "solution": false, "task": false}
check("ghost_batch_norm", ghost_batch_norm)

# %% [markdown]
# **See it.** The same 64 values, normalized in groups of 64, 16 and 4. *What you should see:* one group puts all values
# on one straight line, output against input. Four groups have four lines, which differ a little in slope and height.
# With sixteen groups the same input gives quite different outputs, depending on the group it was dealt to. That spread
# is the noise, and it is all that changed in $y$: same values, same $\gamma$ and $\beta$.
#
# (The package has this as a layer, `bnlab.GhostBatchNorm1d`. It makes the groups as even as can be, so that no batch
# leaves a single example over.)

# %%
rng = np.random.default_rng(3)
x = rng.normal(size=(64, 1))
one, zero = np.ones(1), np.zeros(1)
fig, axes = plt.subplots(1, 3, figsize=(6.4, 2.8), sharey=True, layout="constrained")
for ax, size in zip(axes, (64, 16, 4), strict=True):
    y, _, _ = ghost_batch_norm(x, one, zero, zero, one, size, True, 0.1, 1e-5)
    for start in range(0, 64, size):
        order = start + np.argsort(x[start : start + size, 0])
        ax.plot(x[order, 0], y[order, 0], ".-", linewidth=0.6, markersize=4)
    ax.set_title(f"groups of {size}", fontsize=11)
    ax.set_xlabel("input")
axes[0].set_ylabel("output")
plt.show()

# %% [markdown]
# ## 4. Was it the noise? (written)
#
# *Difficulty* ●●○○○ · *10 minutes* · *4 points* · `was_it_the_noise`
#
# Someone trains the same network with BN twice, for 20 epochs and at the same learning rate: with batches of 256 and
# with batches of 16. The second has the better test accuracy. The conclusion in the report: "The noise of the batch
# statistics regularizes."
#
# Answer in five to eight sentences. A full answer
#
# - names two *other* things that changed along with the noise of the statistics, and why each matters;
# - describes an experiment that could support or refute the conclusion: what is compared, and what stays the same;
# - says what makes it fair, and what each outcome would tell.
#
# (Replace the text of the next cell.)

# %% [markdown] nbgrader={"grade_id": "was_it_the_noise", "grade": true, "locked": false, "points": 4, "schema_version": 3, "solution": true, "task": false}
# With batches of 16 the gradient is noisier as well, and there are 16 times as many steps in 20 epochs, so at the same
# learning rate the network also travels farther and fits its training data more closely. (The learning rate that suits
# each of them best differs, too.)
#
# To change the noise of the statistics without these, keep batches of 256, and with them the number of steps and the
# examples behind every gradient, and normalize in ghost batches of 256, 64 and 16. Give each arm its own best learning
# rate and its own moment to stop, chosen on validation data, and repeat with several seeds. If the test score improves
# as the groups get smaller, by more than the seeds differ, the noise does regularize here; if the arms can't be told
# apart, the smaller batch helped by something else. Compute the running statistics of every arm again before each
# evaluation, in the same way: with 16 groups they move 16 times in a step and would be noisier themselves. A control
# that injects random numbers into the statistics of the whole batch, with the distribution a group of 16 would have,
# tells noise from any other effect of grouping.

# %% [markdown]
# ## 5. Dropout
#
# *Difficulty* ●●○○○ · *10 minutes* · *10 points*
#
# The best-known noise of all is made on purpose. In training, dropout sets each value to zero with probability $p$,
# *independently of all others*, and divides what is left by $1 - p$:
#
# $$
# \tilde{h} = \begin{cases} 0 & \text{with probability } p \\[2pt] \dfrac{h}{1 - p} & \text{otherwise.} \end{cases}
# $$
#
# The division keeps the expected value at $h$. So nothing has to be done in evaluation: the values pass as they are.
# (This form is called *inverted* dropout and is the one in use. In the original, nothing is divided in training, and in
# evaluation all values are multiplied by $1 - p$.)
#
# <details><summary>Hint 1: a question</summary>
#
# How many random numbers do you need for a table of 20 examples with 50 features?
#
# </details>
#
# <details><summary>Hint 2: a coin</summary>
#
# `rng.random(x.shape) < q` is `True` with probability $q$, in each place by itself. Which $q$ does a value need in
# order to be *kept*?
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# If not training, return `x`. Otherwise draw a mask that is `True` where a value is kept, with probability $1 - p$, and
# return `x` times the mask, divided by $1 - p$.
#
# </details>


# %% nbgrader={"grade_id": "dropout-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def dropout(x, p, training, rng):
    """Inverted dropout.

    Parameters
    ----------
    x : ndarray of shape (N, D)
        Must not be changed.
    p : float, 0 <= p < 1
        Probability that a value is dropped.
    training : bool
        False: nothing is dropped and nothing is scaled.
    rng : numpy.random.Generator
        The only source of random numbers.

    Returns
    -------
    y : ndarray of shape (N, D)

    References
    ----------
    Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov (2014), Section 4; scaled in training
    as in torch.nn.Dropout.
    """
    ### BEGIN SOLUTION
    if not training:
        return x
    kept = rng.random(x.shape) >= p
    return x * kept / (1 - p)
    ### END SOLUTION


# %% nbgrader={"grade_id": "dropout", "grade": true, "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
check("dropout", dropout)

# %% [markdown]
# **See it.** A handwritten digit passes through your `dropout` with $p = 0.5$. Dropped pixels are red (black ones, too,
# to which nothing happens). The gray scale goes up to 2, so that doubled values have room. *What you should see:* two
# versions with different holes, about half of all pixels, and what is left twice as bright as in the original.
# On the right the mean of 500 versions: the original again, hardly grainy, with the same brightness. That is what the
# division by $1 - p$ is for.

# %%
rng = np.random.default_rng(5)
image = digits.x_train[2:3].astype(float)


def holes(image):
    """The image after dropout, NaN where a pixel was dropped."""
    light = image + 1e-6  # so that a dropped pixel, 0, differs from a black one that was kept
    dropped = dropout(light, 0.5, True, rng)
    return np.where(dropped == 0, np.nan, dropped)


many = np.mean([dropout(image, 0.5, True, rng) for _ in range(500)], axis=0)
pictures = {
    "original": image,
    "dropped": holes(image),
    "dropped again": holes(image),
    "mean of 500": many,
}
gray = plt.get_cmap("gray").copy()
gray.set_bad("firebrick")
fig, axes = plt.subplots(1, 4, figsize=(6.4, 2), layout="constrained")
for ax, (title, values) in zip(axes, pictures.items(), strict=True):
    ax.imshow(np.reshape(values, (8, 8)), cmap=gray, vmin=0, vmax=2)
    ax.set_title(title, fontsize=11)
    ax.set_axis_off()
plt.show()

# %% [markdown]
# ## 6. The variance shift
#
# *Difficulty* ●●●●○ · *20 minutes* · *12 points*
#
# Dropout keeps the mean and changes the variance. That matters where BN comes next, because BN stores a variance in
# training and divides by it in evaluation, when dropout is off (Li et al., 2019).
#
# Inputs $h$ of shape $(n, D)$ pass through dropout, then through a linear layer with weights $W$ of shape $(D, K)$,
# then into BN. In evaluation BN sees $z = h W$, and the neuron $k$ has a variance over the $n$ examples:
#
# $$
# v^{\text{eval}}_k = \operatorname{var}(z_k), \qquad z_k = \sum_j h_j W_{jk} .
# $$
#
# In training it sees $\tilde{z} = \tilde{h} W$. Its variance is taken over the examples *and* the masks. The masks are
# independent of each other, so what they add to the variance of a neuron is a sum over its inputs. Derive it:
#
# - For a fixed value $h$, what is the variance of $\tilde{h}$ over the masks? ($\tilde{h}$ is $0$ or $h / (1 - p)$, and
#   its mean is $h$.)
# - Multiply by what a weight does to a variance, sum over the inputs of the neuron, and take the mean over the
#   examples.
# - The variance in training, $v^{\text{train}}_k$, is $\operatorname{var}(z_k)$ plus this (the law of total variance).
#
# The formula is exact. Don't forget that $h$ may have a mean: behind a ReLU it has.
#
# <details><summary>Hint 1: a question</summary>
#
# A value $h = 3$ is either dropped or doubled, with probability one half each. What are the mean and the variance of
# the result? What are they for $h = 0$?
#
# </details>
#
# <details><summary>Hint 2: one value</summary>
#
# The mean square of $\tilde{h}$ is $(1 - p) \cdot h^2 / (1 - p)^2 = h^2 / (1 - p)$. Subtract the squared mean, $h^2$:
# the variance is $\frac{p}{1 - p} h^2$. So what counts on average is $\operatorname{E}[h_j^2]$, the *mean square* of an
# input, which is its variance plus its squared mean.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# 1. `eval_var`: variance of `h @ weight` over axis 0. The inputs needn't be independent of each other, so don't add up
#    variances here.
# 2. `train_var`: $v^{\text{train}}_k = v^{\text{eval}}_k + \frac{p}{1 - p} \sum_j \operatorname{E}[h_j^2] \, W_{jk}^2$.
#    The sum is a matrix product of the mean squares, shape $(D,)$, and the squared weights, shape $(D, K)$.
#
# </details>


# %% nbgrader={"grade_id": "variance_shift-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def variance_shift(h, weight, p):
    """The variances that BN sees behind dropout and a linear layer, in training and in evaluation.

    Parameters
    ----------
    h : ndarray of shape (n, D)
        Inputs of the dropout. Must not be changed.
    weight : ndarray of shape (D, K)
        The linear layer computes h @ weight. (torch.nn.Linear keeps the transpose.)
    p : float, 0 <= p < 1
        Probability that dropout (the inverted one) drops a value.

    Returns
    -------
    train_var, eval_var : ndarray of shape (K,)
        Variance of each neuron over the examples and, in training, over the masks; biased.

    References
    ----------
    Li, Chen, Hu & Yang (2019), Section 3.
    """
    ### BEGIN SOLUTION
    eval_var = (h @ weight).var(axis=0)
    added = p / (1 - p) * (h**2).mean(axis=0) @ weight**2
    return eval_var + added, eval_var
    ### END SOLUTION


# %% nbgrader={"grade_id": "variance_shift", "grade": true, "locked": true, "points": 12, "schema_version": 3, "solution": false, "task": false}
check("variance_shift", variance_shift)

# %% [markdown]
# **See it.** Digits pass through 32 random neurons with ReLU, then dropout, then 40 more neurons. What is left in
# evaluation of the variance that BN stores in training? The dots are measured, with 60 masks for every image; one dot
# for each neuron. The line is your prediction for the median neuron. *What you should see:* it runs through the middle
# of the dots. At $p = 0.5$ most neurons have less than half of their variance left, so BN divides by a standard
# deviation that is too large. The gray line is $1 - p$, which holds for values of mean zero that go straight into BN:
# most neurons here do worse.

# %%
rng = np.random.default_rng(6)
images = digits.x_train[:400] - digits.x_train.mean(axis=0)
h = np.maximum(0, images @ rng.normal(size=(64, 32)) / 8)
weight = rng.normal(size=(32, 40)) / 4
ps = np.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
left = []  # of the variance, for each p and neuron
for p in ps:
    masks = rng.random((60, *h.shape)) >= p
    z = (h * masks / (1 - p)) @ weight
    left.append((h @ weight).var(axis=0) / z.reshape(-1, 40).var(axis=0))
yours = [np.median(np.divide(*variance_shift(h, weight, p)[::-1])) for p in ps]

fig, ax = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
places = np.repeat(ps, 40)
ax.plot(places, np.ravel(left), ".", color="C0", alpha=0.35, label="measured, each neuron")
ax.plot(ps, yours, "-", color="C1", linewidth=2, label="yours, the median neuron")
ax.plot(ps, 1 - ps, "--", color="gray", label="1 - p")
ax.set(xlabel="p", ylabel="variance: evaluation / training", ylim=(0, 1))
ax.legend()
plt.show()

# %% [markdown]
# ## 7. Which parameters have no size?
#
# *Difficulty* ●●○○○ · *15 minutes* · *8 points*
#
# Multiply the weights of a layer by 10, and its outputs are ten times as large. If BN comes next, it divides by their
# standard deviation, which is ten times as large as well. Nothing has changed: these weights have a direction, but no
# size that matters. One says the loss is *scale invariant* in them,
#
# $$
# L(a \, w) = L(w) \qquad \text{for every } a > 0 .
# $$
#
# In a network of today, which parameters is this true of? Instead of thinking it through layer by layer, ask the
# network. You get a function `loss(parameters)`, of which you know nothing, and a list of arrays. Tell for each array
# whether the loss is scale invariant in it, with the other arrays left as they are.
#
# Computers round, so "the same" needs a tolerance: take a relative difference of less than $10^{-6}$ as none. (In these
# networks $\varepsilon = 0$ in BN. With the usual $10^{-5}$, the invariance is only approximate.) Every loss that the
# checks use either stays the same up to rounding or changes clearly.
#
# <details><summary>Hint 1: a question</summary>
#
# What happens to the loss in the one array you test if you forget to put another, tested before, back to its old size?
#
# </details>
#
# <details><summary>Hint 2: the factor</summary>
#
# A factor like 2 or 10 serves. Not a negative one: it also turns the direction around. Not 0, which leaves nothing to
# normalize, and not 1.000001, which changes too little to see. Multiply: adding a constant is another question.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# Take the loss of the given list once. For each index, make a *new list* in which the array at that index is replaced
# by twice the array, and take the loss again. Append whether the two differ by less than $10^{-6}$ times the first.
# `math.isclose(a, b, rel_tol=1e-6)` compares so.
#
# </details>


# %% nbgrader={"grade_id": "scale_invariant-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def scale_invariant(loss, parameters):
    """Find out in which parameters a loss is scale invariant.

    Parameters
    ----------
    loss : callable
        loss(parameters) takes a list of arrays and returns a positive number.
    parameters : list of ndarray
        Where to ask. Neither the list nor its arrays may be changed.

    Returns
    -------
    invariant : list of bool
        One for each array: whether multiplying it alone by a positive number leaves the loss as
        it is.

    References
    ----------
    Ioffe & Szegedy (2015), Section 3.3: BN((aW)u) = BN(Wu).
    """
    ### BEGIN SOLUTION
    before = loss(parameters)
    invariant = []
    for k, array in enumerate(parameters):
        scaled = [*parameters[:k], 2 * array, *parameters[k + 1 :]]
        invariant.append(bool(abs(loss(scaled) - before) < 1e-6 * before))
    return invariant
    ### END SOLUTION


# %% nbgrader={"grade_id": "scale_invariant", "grade": true, "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
check("scale_invariant", scale_invariant)

# %% [markdown]
# **See it.** Two networks with BN. Each line is the loss when one of the arrays is multiplied by the factor on the
# axis; solid where your function says scale invariant, dashed where it doesn't. *What you should see:* solid lines are
# flat, at the height 1. (Where several are, the first is the thickest, so that none hides another.) On the left, with
# one hidden layer, weights are flat, and $\gamma$, $\beta$ and the output weights aren't. On the right are two hidden
# layers without $\beta$, both with ReLU. Both weights are flat and, perhaps to your surprise, the $\gamma$ of the first
# BN is flat, too: a second BN comes after it, and what lies in between passes the size on. A linear layer does, and so
# does ReLU, since $\operatorname{ReLU}(a z) = a \operatorname{ReLU}(z)$ for $a > 0$. With tanh in its place, $\gamma$
# would have a size.

# %%
rng = np.random.default_rng(7)
factors = np.geomspace(0.2, 5, 25)
networks = {
    "one hidden layer": (
        layer_and_output,
        ("weights", "gamma", "beta", "output"),
        ((6, 8), (8,), (8,), (8, 3)),
    ),
    "two hidden layers": (
        two_layers,
        ("weights 1", "gamma 1", "weights 2", "output"),
        ((6, 8), (8,), (8, 7), (7, 3)),
    ),
}
fig, axes = plt.subplots(1, 2, figsize=(6.4, 3.4), sharey=True, layout="constrained")
for ax, (title, (loss, names, shapes)) in zip(axes, networks.items(), strict=True):
    parameters = [rng.normal(size=shape) for shape in shapes]
    for k, (name, flat) in enumerate(zip(names, scale_invariant(loss, parameters), strict=True)):
        losses = [loss([*parameters[:k], a * parameters[k], *parameters[k + 1 :]]) for a in factors]
        losses = np.array(losses) / loss(parameters)
        width = 7 - 2.5 * k if flat else 1.5  # flat lines lie on each other: the first is thickest
        ax.semilogx(factors, losses, "-" if flat else "--", linewidth=width, label=name)
    ax.set(xlabel="factor", title=title, ylim=(0, 4))
    ax.set_xticks([0.2, 0.5, 1, 2, 5], ["0.2", "0.5", "1", "2", "5"])
    ax.minorticks_off()
    ax.legend(fontsize=9)
axes[0].set_ylabel("loss, relative to factor 1")
plt.show()

# %% [markdown]
# ## 8. What weight decay does to a weight without size
#
# *Difficulty* ●●●○○ · *20 minutes* · *12 points*
#
# Let $w$ be weights in which the loss is scale invariant, and $\lVert w \rVert$ their length. Two things follow (take
# the derivative of $L(aw) = L(w)$ with respect to $a$, and with respect to $w$):
#
# - The gradient is *perpendicular* to $w$: $\; w \cdot \nabla L(w) = 0$.
# - The gradient of longer weights is shorter: $\; \nabla L(a w) = \frac{1}{a} \nabla L(w)$. So its length is
#   $g / \lVert w \rVert$, where $g$ is the length of the gradient for weights of length 1.
#
# A step of gradient descent with learning rate $\eta$ and weight decay $\lambda$ is
#
# $$
# w \leftarrow (1 - \eta \lambda) \, w - \eta \, \nabla L(w) .
# $$
#
# (It is $\lambda w$ that joins the gradient, hence the product $\eta \lambda$.) Follow the length of $w$ for a number
# of steps, with $g$ held constant. Return
#
# - `lengths`: the length before the first step and after each step, $\text{steps} + 1$ numbers;
# - `rates`: the *effective learning rate* $\eta / \lVert w \rVert^2$ at each of these lengths. It says how far a step
#   turns the weights, and turning is all that matters;
# - `resting`: the length that a step doesn't change. The exact one, not the approximation for small $\eta \lambda$.
#
# <details><summary>Hint 1: a question</summary>
#
# Two arrows stand at a right angle, one of length 3, the other of length 4. How long is their sum?
#
# </details>
#
# <details><summary>Hint 2: one step</summary>
#
# The new weights are a sum of two perpendicular arrows: the old ones, shortened to $(1 - \eta\lambda) \lVert w \rVert$,
# and a step of length $\eta \, g / \lVert w \rVert$. Pythagoras gives the new squared length.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# A loop that appends $\sqrt{(1 - \eta\lambda)^2 \ell^2 + (\eta g / \ell)^2}$ for the latest length $\ell$. For the
# resting length, put this equal to $\ell$, square, multiply by $\ell^2$ and collect:
# $\ell^4 \left(1 - (1 - \eta\lambda)^2\right) = \eta^2 g^2$.
#
# </details>


# %% nbgrader={"grade_id": "follow_length-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def follow_length(length, g, lr, decay, steps):
    """The length of scale-invariant weights under gradient descent with weight decay.

    Parameters
    ----------
    length : float
        Of the weights before the first step, positive.
    g : float
        Length of the gradient for weights of length 1, positive.
    lr : float
        Learning rate eta, positive.
    decay : float
        Weight decay lambda, positive, with lr * decay < 1.
    steps : int

    Returns
    -------
    lengths : ndarray of shape (steps + 1,)
        Before the first step and after each.
    rates : ndarray of shape (steps + 1,)
        Effective learning rate at each of these lengths.
    resting : float
        The length that a step leaves as it is.

    References
    ----------
    van Laarhoven (2017), Sections 2 and 3; Wan, Zhu, Zhang & Sun (2021) for the equilibrium.
    """
    ### BEGIN SOLUTION
    shrink = 1 - lr * decay
    lengths = [length]
    for _ in range(steps):
        lengths.append(np.hypot(shrink * lengths[-1], lr * g / lengths[-1]))
    lengths = np.array(lengths)
    resting = ((lr * g) ** 2 / (1 - shrink**2)) ** 0.25
    return lengths, lr / lengths**2, resting
    ### END SOLUTION


# %% nbgrader={"grade_id": "follow_length", "grade": true, "locked": true, "points": 12, "schema_version": 3, "solution": false, "task": false}
check("follow_length", follow_length)

# %% [markdown]
# **See it.** A real network with BN learns digits by gradient descent with weight decay, three times: with initial
# weights as usual, of a third and of three times the length. On the left the length of its first layer, measured; the
# dashed lines are yours, with the $g$ that was measured in the second half of the training. On the right the effective
# learning rate. *What you should see:* all three lengths run together, and yours go with them to your resting length,
# roughly, since the real $g$ changes from batch to batch. Keep the picture in mind for the next question.

# %%
lr, decay, steps = 0.3, 0.05, 300
net = Ensemble([64, 32, 10], [0, 0, 0], norm=BatchNorm(), gain=[1 / 3, 1, 3])
lengths, pulls = [], []


def watch(step, gradients):
    lengths.append(net.weights[0].detach().flatten(1).norm(dim=1).numpy())
    pulls.append(gradients[0].flatten(1).norm(dim=1).numpy() * lengths[-1])


options = {"batch_size": 32, "every": steps, "weight_decay": decay, "on_step": watch}
fit(net, digits, [lr] * 3, steps=steps, **options)
lengths, g = np.array(lengths), np.sqrt(np.mean(np.square(pulls[steps // 2 :])))
fig, axes = plt.subplots(1, 2, figsize=(6.4, 3.4), layout="constrained")
names = ("a third", "as usual", "three times")
for k, start in enumerate(lengths[0]):
    predicted, rates, resting = follow_length(float(start), float(g), lr, decay, steps - 1)
    left, right = (lengths[:, k], predicted), (lr / lengths[:, k] ** 2, rates)
    for ax, (measured, yours) in zip(axes, (left, right), strict=True):
        ax.semilogy(measured, color=f"C{k}", linewidth=1, label=f"start: {names[k]}")
        ax.semilogy(yours, "--", color=f"C{k}")
axes[0].axhline(resting, color="black", linestyle=":", label="your resting length")
axes[0].set(xlabel="step", ylabel="length of the first layer's weights")
axes[1].set(xlabel="step", ylabel="effective learning rate")
for ax, ticks in ((axes[0], (2, 5, 10, 20)), (axes[1], (0.001, 0.01, 0.1))):
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
handles = axes[0].get_legend_handles_labels()
title = "solid measured, dashed yours"
fig.legend(*handles, title=title, fontsize=9, loc="outside lower center", ncols=4)
plt.show()

# %% [markdown]
# ## 9. What does decay do? (written)
#
# *Difficulty* ●●●○○ · *10 minutes* · *4 points* · `what_decay_does`
#
# "Weight decay keeps the weights small. Small weights make a simple function, and simple functions generalize. That is
# why we use weight decay in our network, in which every linear layer but the last is followed by BN."
#
# Does it hold for the layers before BN? Answer in five to eight sentences. A full answer
#
# - goes through the argument and says which step or steps fail for the layers before BN, and why;
# - says what weight decay does to these layers instead;
# - says what would happen to their effective learning rate without it;
# - names the layer of this network for which the argument still makes sense, and why.
#
# (Replace the text of the next cell.)

# %% [markdown] nbgrader={"grade_id": "what_decay_does", "grade": true, "locked": false, "points": 4, "schema_version": 3, "solution": true, "task": false}
# Two steps fail. The first: before BN, decay doesn't simply make the weights small. It brings them to the length where
# decay and gradient balance, which may be longer than the one they began with. The second, which matters more: before
# BN, small weights make no simpler function, since they make the very same function. Whatever the length of such
# weights is, BN divides it out again, so the loss depends on their direction only.
#
# Their length does set how far a step turns them: the effective learning rate is $\eta / \lVert w \rVert^2$. The
# gradient is perpendicular to the weights, so without decay every step makes them longer and the effective rate falls
# and falls. Decay makes them shorter, which raises the effective rate, until the two balance at a length that depends
# on $\eta$, $\lambda$ and the gradient but not on the start. So before BN, decay controls a learning rate; if it helps
# generalization, then through that.
#
# The last linear layer has no BN behind it. Its weights set the size of the logits, and there decay restricts what the
# network can compute, as the argument says.

# %% [markdown]
# ## 10. Wrong labels, on purpose
#
# *Difficulty* ●●○○○ · *15 minutes* · *8 points*
#
# A method that prevents overfitting would keep a network from learning what can't be learned. The test: replace some
# labels by wrong ones (Zhang et al., 2017, replaced all), train, and look at whether the network learned the wrong
# ones, too. To know what it did, you must know precisely which labels are wrong.
#
# Replace exactly `round(share * len(y))` labels. Which ones is random, every choice equally likely. Each of them gets a
# label that *differs* from its own, every other class equally likely. Return the new labels, which stay integers, and
# for each example whether its label was replaced, as `True` or `False`.
#
# <details><summary>Hint 1: a question</summary>
#
# Draw one of 10 classes for an example, and it keeps its label in one of 10 cases. How can you draw from the other
# nine?
#
# </details>
#
# <details><summary>Hint 2: a wheel</summary>
#
# Imagine the classes $0, \dots, C - 1$ on a wheel. From a label, move on by a random number of places between 1 and
# $C - 1$. You never come back to where you were, and you reach every other class equally often. `%` closes the wheel.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# The first `count` entries of `rng.permutation(len(y))` are the examples to replace. Copy `y`. Add random integers from
# 1 to `classes - 1` to the chosen labels (`rng.integers(1, classes, size=count)`; the upper end is not included) and
# take the remainder of a division by `classes`. The mask is all `False` but at the chosen places.
#
# </details>


# %% nbgrader={"grade_id": "corrupt_labels-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def corrupt_labels(y, classes, share, rng):
    """Replace some labels by wrong ones.

    Parameters
    ----------
    y : ndarray of int, shape (n,)
        Labels from 0 to classes - 1. Must not be changed.
    classes : int
        At least 2.
    share : float in [0, 1]
        Exactly round(share * n) labels are replaced.
    rng : numpy.random.Generator
        The only source of random numbers.

    Returns
    -------
    labels : ndarray of int, shape (n,)
    corrupted : ndarray of bool, shape (n,)
        Where labels and y differ.

    References
    ----------
    Zhang, Bengio, Hardt, Recht & Vinyals (2017), Section 2.1. (They draw from all classes, so that
    some "random" labels are right.)
    """
    ### BEGIN SOLUTION
    count = round(share * len(y))
    chosen = rng.permutation(len(y))[:count]
    labels, corrupted = y.copy(), np.zeros(len(y), dtype=bool)
    labels[chosen] = (y[chosen] + rng.integers(1, classes, size=count)) % classes
    corrupted[chosen] = True
    return labels, corrupted
    ### END SOLUTION


# %% nbgrader={"grade_id": "corrupt_labels", "grade": true, "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
check("corrupt_labels", corrupt_labels)

# %% [markdown]
# **See it.** A small network learns 300 digits, 40% of them with wrong labels by your function, without BN and with it.
# The lines say how often it answers with the label it was given, for clean and for corrupted labels apart; the dotted
# line is its accuracy on new digits with true labels. *What you should see:* early on it gets the clean labels right
# and the wrong ones not, and it is at its best on new digits. Then it learns the wrong ones by heart, up to all or
# nearly all of them, and gets worse on new digits. With BN it does just the same. Nothing is prevented. (One seed and
# one learning rate: this is a demonstration. The book's chapter has the experiment.)

# %%
labels, corrupted = corrupt_labels(digits.y_train[:300], 10, 0.4, np.random.default_rng(8))
few = digits.x_train[:300]
mean, std = few.mean(axis=0), few.std(axis=0) + 0.1
few, new = (few - mean) / std, (digits.x_test - mean) / std
noisy = digits._replace(x_train=few, y_train=labels, x_test=new)
fig, axes = plt.subplots(1, 2, figsize=(6.4, 3.4), sharey=True, layout="constrained")
for ax, norm, title in ((axes[0], None, "without BN"), (axes[1], BatchNorm(), "with BN")):
    net = Ensemble([64, 64, 64, 10], [0], norm=norm)
    fits = {"clean labels": [], "corrupted labels": []}

    def watch(step, gradients, net=net, fits=fits):
        if step % 20 == 0:
            x = torch.as_tensor(noisy.x_train)
            with torch.no_grad():
                net.calibrate(x)
                answers = net(x, training=False)[0].argmax(1).numpy()
            for name, group in (("clean labels", ~corrupted), ("corrupted labels", corrupted)):
                fits[name].append((answers == labels)[group].mean())

    history = fit(net, noisy, [0.2], steps=400, batch_size=50, every=20, on_step=watch)
    for (name, values), style in zip(fits.items(), ("-", "--"), strict=True):
        ax.plot(history.steps[:-1], values, style, label=f"fits {name}")
    ax.plot(history.steps, 1 - history.test_error, ":", color="black", label="right on new digits")
    ax.set(xlabel="step", title=title)
axes[0].set_ylabel("share of the examples")
axes[1].legend(fontsize=9, loc="lower right")
plt.show()

# %% [markdown]
# ## 11. An honest comparison
#
# *Difficulty* ●●○○○ · *15 minutes* · *8 points*
#
# Does BN have the smaller generalization gap? Does ghost BN? Whoever compares must give each arm its best learning rate
# and its best moment to stop. But "best" must not mean "best on the test set": among many tries one is lucky, and
# choosing by the test score reports the luck as well. So the *validation* loss chooses and the *test* loss is read off.
#
# An arm was trained at $R$ learning rates with $S$ seeds each and evaluated $T$ times along the way. `validation` and
# `test` have the shape $(R, S, T)$. Find the learning rate and the moment whose validation loss, *averaged over the
# seeds*, is the lowest. They are common to all seeds, as in a recipe that you would publish. Return both as indices,
# and the test losses of the $S$ seeds there.
#
# A training that diverged has NaN from then on. A learning rate at which *any* seed is NaN at a moment can't be chosen
# at that moment. Before it, the rate can: an arm that stops in time never gets there.
#
# <details><summary>Hint 1: a question</summary>
#
# Which shape has the validation loss after averaging over the seeds, and what does its smallest entry tell you?
#
# </details>
#
# <details><summary>Hint 2: NaN</summary>
#
# A mean over seeds with a NaN among them is NaN, which is what you want here. But `np.argmin` takes NaN for the
# smallest number. `np.nanargmin` doesn't.
#
# </details>
#
# <details><summary>Hint 3: an outline</summary>
#
# Mean of `validation` over axis 1, shape $(R, T)$. `np.nanargmin` gives the position of the smallest entry as one
# number, counted through all entries; `np.unravel_index(position, shape)` turns it into two indices. Then
# `test[rate, :, stop]`.
#
# </details>


# %% nbgrader={"grade_id": "honest_score-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def honest_score(validation, test):
    """Choose a learning rate and a moment to stop by validation; report the test losses there.

    Parameters
    ----------
    validation, test : ndarray of shape (R, S, T)
        Losses at R learning rates, for S seeds, at T moments; NaN where a training had diverged.
        Must not be changed. At least one pair of a rate and a moment has no NaN.

    Returns
    -------
    rate, stop : int
        Indices of the learning rate (0 to R - 1) and the moment (0 to T - 1) with the lowest mean
        validation loss.
    score : ndarray of shape (S,)
        Test losses there, one for each seed.
    """
    ### BEGIN SOLUTION
    mean = validation.mean(axis=1)
    rate, stop = np.unravel_index(np.nanargmin(mean), mean.shape)
    return int(rate), int(stop), test[rate, :, stop]
    ### END SOLUTION


# %% nbgrader={"grade_id": "honest_score", "grade": true, "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
check("honest_score", honest_score)

# %% [markdown]
# **See it.** An imaginary study, 400 times over: 8 learning rates, 5 seeds, 20 moments, and *all of them equally good*,
# with a true loss of 1. What is measured scatters around it, as with finite validation and test sets. *What you should
# see:* whoever chooses by the test loss reports a loss clearly below 1, in nearly every study. It is pure luck, and an
# arm with more tries gets more of it. Your `honest_score` reports values around 1. The vertical lines are the means.

# %%
rng = np.random.default_rng(9)
honest, lucky = [], []
for _ in range(400):
    validation, test = rng.normal(1, 0.1, size=(2, 8, 5, 20))
    honest.append(np.mean(honest_score(validation, test)[2]))
    lucky.append(test.mean(axis=1).min())
fig, ax = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
bins = np.linspace(0.82, 1.16, 60)
for label, values in (("chosen by the test loss", lucky), ("yours, by validation", honest)):
    color = "C1" if values is lucky else "C0"
    ax.hist(values, bins=bins, alpha=0.7, color=color, label=label)
    ax.axvline(np.mean(values), color=color)
ax.set(xlabel="reported test loss (true: 1)", ylabel="studies")
ax.legend()
plt.show()

# %% [markdown]
# ## What you learned
#
# - The mean of a batch is off by $\sigma / \sqrt{m}$, the variance by about $\sigma^2 \sqrt{(\kappa - 1)/m}$. An
#   example sees this as noise, different in every batch. In a batch of 2 nothing but a sign is left of it.
# - Ghost batches change the noise of the statistics and leave the gradient's batch and the number of steps alone.
#   (Running statistics feel them, too: compute those again.) Changing the batch size changes several things at once.
# - Dropout keeps the mean and adds variance, $\frac{p}{1 - p} \operatorname{E}[h^2]$ per value. A BN behind it stores
#   that variance and is wrong in evaluation. So put dropout behind the last BN, or compute the statistics again with
#   dropout off.
# - Weights before BN have a direction and no size. Weight decay can't make their function simpler; it sets their
#   effective learning rate $\eta / \lVert w \rVert^2$.
# - Networks with BN learn wrong labels by heart like others. BN doesn't prevent overfitting.
# - Choose by validation, report the test.
#
# ## Going further (not graded)
#
# - In a convolutional layer $m = N H W$ counts values that resemble their neighbors. Measure the noise of the mean for
#   a few filters: how many *independent* values would be as noisy?
# - The formula for the noise of the variance is for large $m$. The exact one is in
#   `bnlab.experiments.batch_noise.noise_theory`. From which $m$ on does the difference fall below 1%?
# - Repair a variance shift: train a network with dropout before BN, compute the running statistics again with dropout
#   off (`bnlab.retrofit.recalibrate`), and compare the test losses.
# - Training with weight decay and training without it, at a learning rate that grows exponentially, can be the same
#   thing (Li & Arora, 2020). Derive the rate from question 8 and try it in `float64`.
# - Repeat the memorization of question 10 with five seeds, several learning rates and your `honest_score`. Does BN's
#   lead in steps survive when both arms have their best rate?
