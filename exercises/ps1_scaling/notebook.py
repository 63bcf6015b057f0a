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
# # Problem set 1: Feature scaling
#
# A share between 0 and 1 beside an area of up to 1000: what does that do to a model that learns by gradient descent,
# and what helps? You write min-max scaling and standardization so that they survive real data, keep the test
# set out of the training, and then measure how much faster gradient descent becomes.
#
# **Afterwards you can**
#
# - scale features two ways, and say what becomes of outliers, constant features and values never seen before,
# - keep information about the test set out of the training, and say what becomes of a reported error where it leaks in,
# - compute how badly scaled a least-squares problem is, and the learning rate that suits it,
# - write gradient descent, and predict whether it will arrive.
#
# **Time:** two hours and twenty minutes. **You need:** Python functions, NumPy arrays, mean and variance, partial
# derivatives. The chapter *Normalization and standardization* of the book is the theory to this practice.
#
# ## How to work
#
# 1. Run the cells from the top. Where a cell says `raise NotImplementedError()`, replace that line by your code.
# 2. Run the cell below it. It checks your function on several random inputs and tells you what is right, what isn't
#    yet, and what the likely mistake is. Try again as often as you like.
# 3. Points are given part by part, so half a solution earns something. The questions don't depend on each other: skip
#    one and come back later. A figure that uses an unanswered function shows `NotImplementedError`; this costs nothing.
# 4. Stuck? Every function has three hints. Open one at a time.
# 5. Two questions, 4 and 6, want sentences instead of code. Double-click the cell below the question, write where it
#    says `YOUR ANSWER HERE`, and press Shift+Enter. Your instructor reads them and gives their points.
# 6. Before you hand in, type `bnlab check ps1_scaling.ipynb` in a terminal. It runs the notebook from top to bottom in
#    a fresh kernel, as the grader will, with a table of your points. The grader draws other random inputs.
#
# Keep the cells that are here. You may add cells of your own.
#
# **Conventions.** A table `x` has shape `(m, D)`: `m` rows (examples), `D` columns (features). Statistics are taken per
# feature, over the rows (axis 0). Compute in float64, NumPy's default. No function may change its arguments in place.
#
# | question | difficulty | minutes | points |
# |---|---|---|---|
# | 1. `min_max` | ●○○○○ | 10 | 11 |
# | 2. `fit_standardizer` | ●●○○○ | 15 | 11 |
# | 3. `Standardizer` | ●●○○○ | 20 | 14 |
# | 4. `which_scaling` | ●●○○○ | 10 | 3 |
# | 5. `split_and_scale` | ●●○○○ | 10 | 12 |
# | 6. `what_leakage_does` | ●●●○○ | 10 | 4 |
# | 7. `condition_number` | ●●●○○ | 15 | 11 |
# | 8. `gradient` | ●●●○○ | 15 | 11 |
# | 9. `best_learning_rate` | ●●●●○ | 15 | 10 |
# | 10. `gradient_descent` | ●●●○○ | 20 | 13 |

# %%
import matplotlib.pyplot as plt
import numpy as np
from checks import check

# %% [markdown]
# ## The houses
#
# The data of this problem set are made up, so that everyone has the same. Every row is a house with three features: the
# share of its windows that face south (0 to 1), its area in m², and the year it was built. Newer houses tend to be
# larger and to face south more. `price` is in thousands of some currency.

# %%
FEATURES = ["south", "area", "year"]


def make_houses(m=200, seed=1):
    """Make a table of houses.

    Returns
    -------
    houses : ndarray, shape (m, 3)
        Share of windows facing south, area in square meters, year of construction.
    price : ndarray, shape (m,)
        In thousands.
    """
    rng = np.random.default_rng(seed)
    year = rng.integers(1900, 2021, m)
    modern = (year - 1960) / 35
    south = 1 / (1 + np.exp(-modern - rng.normal(0, 1.5, m)))
    area = np.clip(np.exp(4.8 + 0.3 * modern + rng.normal(0, 0.6, m)), 1, 1000)
    price = 80 + 60 * south + 0.5 * area + 0.4 * (year - 1960) + rng.normal(0, 15, m)
    return np.column_stack([south, area, year]), price


houses, price = make_houses()
for name, column in zip(FEATURES, houses.T, strict=True):
    extent = f"{column.min():8.2f} to {column.max():8.2f}"
    print(f"{name:>5}: {extent}, mean {column.mean():8.2f}, std {column.std():7.2f}")
print(f"price: {price.min():8.2f} to {price.max():8.2f}")

# %% [markdown]
# ## 1. Min-max scaling
#
# *Difficulty:* ●○○○○ · *Time:* 10 minutes · *Points:* 11
#
# Min-max scaling, often called *normalization*, maps the range of every feature to 0 to 1:
#
# $$x'_{ij} = \frac{x_{ij} - \text{low}_j}{\text{high}_j - \text{low}_j}.$$
#
# `low` and `high` come from the training data. The rows in `x` may be others, which nobody had seen when the range was
# fitted. Therefore:
#
# - A value outside the range lands outside 0 to 1, in its place. It is not clipped, unless `clip=True` asks for it:
#   then what is below 0 becomes 0 and what is above 1 becomes 1.
# - A feature with `high == low` was constant in training. Its column becomes 0, whatever values `x` has there: no NaN,
#   no inf.
# - `x` may hold integers. The result holds fractions all the same.
#
# <details><summary>Hint 1: a question</summary>
#
# `x` has shape `(m, D)` and `low` has shape `(D,)`. What does `x - low` do, and why is no loop needed? What does
# `0 / 0` give in NumPy, and what does `3 / 0` give?
# </details>
# <details><summary>Hint 2: an idea</summary>
#
# Divide by a width that is never 0: where it is 0, put 1 instead. What you get in those columns is still not always 0,
# as the rows may be new. `np.where(condition, a, b)` chooses value by value.
# </details>
# <details><summary>Hint 3: an outline</summary>
#
# 1. `width` is `high - low`; `constant` is where it is 0.
# 2. Divide `x - low` by `width`, with 1 in place of 0.
# 3. Put 0.0 into the constant columns.
# 4. If `clip`, limit the result to 0 to 1 (`np.clip`).
# </details>


# %% nbgrader={"grade_id": "min_max-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def min_max(x, low, high, clip=False):
    """Map the range low to high of every feature to 0 to 1.

    Parameters
    ----------
    x : ndarray, shape (m, D)
        Rows to scale; not necessarily those that `low` and `high` were taken from.
    low, high : ndarray, shape (D,)
        Smallest and largest value of each feature in the training data.
    clip : bool
        Whether values outside the range become 0 or 1.

    Returns
    -------
    x_scaled : ndarray of float, shape (m, D)
        A constant feature (high == low) is 0.
    """
    ### BEGIN SOLUTION
    width = high - low
    constant = width == 0
    x_scaled = np.where(constant, 0.0, (x - low) / np.where(constant, 1.0, width))
    return np.clip(x_scaled, 0.0, 1.0) if clip else x_scaled
    ### END SOLUTION


# %% nbgrader={"grade_id": "min_max", "grade": true, "locked": true, "points": 11, "schema_version": 3, "solution": false, "task": false}
check("min_max", min_max)

# %% [markdown]
# ### What one palace does
#
# Now your function scales the areas twice: once as they are, and once with a single palace of 20 000 m² among them. The
# figure shows two histograms of scaled areas. Without the palace the houses reach from 0 to 1, half of them below the
# first number that the cell prints. With it they all crowd into a narrow bar at the left end, half of them below the
# second number, and the rest of the range is empty: it belongs to the palace.

# %%
area = houses[:, [1]]
with_palace = np.vstack([area, [[20_000.0]]])
scaled = {
    "200 houses": min_max(area, area.min(axis=0), area.max(axis=0)),
    "200 houses and a palace": min_max(with_palace, with_palace.min(axis=0), with_palace.max(axis=0)),
}

fig, axes = plt.subplots(2, 1, figsize=(6.4, 4.2), sharex=True, layout="constrained")
for ax, (title, x_scaled) in zip(axes, scaled.items(), strict=True):
    ax.hist(x_scaled[:, 0], bins=np.linspace(0, 1, 26), histtype="stepfilled")
    ax.set(title=title, ylabel="houses")
    print(f"{title}: half of them lie below {np.median(x_scaled):.4f}")
axes[-1].set_xlabel("area, min-max scaled")
plt.show()

# %% [markdown]
# ## 2. Mean and standard deviation
#
# *Difficulty:* ●●○○○ · *Time:* 15 minutes · *Points:* 11
#
# Standardization needs two numbers per feature:
#
# $$\mu_j = \frac{1}{m} \sum_{i=1}^{m} x_{ij}, \qquad
#   \sigma_j = \sqrt{\frac{1}{m} \sum_{i=1}^{m} (x_{ij} - \mu_j)^2}.$$
#
# Divide by $m$, not by $m - 1$. Two things must be right where a quick solution fails:
#
# - **A small spread on a large mean.** Time stamps are near $10^9$ and may differ by seconds. The std must be right
#   there, too.
# - **A constant feature has a std of exactly 0**, `std[j] == 0`. Try `np.std([0.1] * 10)` before you trust a formula.
#
# You may use NumPy's functions for mean and standard deviation.
#
# <details><summary>Hint 1: a question</summary>
#
# What is `np.mean([0.1] * 10) - 0.1`? And how could you tell that a feature is constant without computing anything that
# rounds?
# </details>
# <details><summary>Hint 2: an idea</summary>
#
# The formula $\sqrt{\text{mean}(x^2) - \text{mean}(x)^2}$ is right on paper. With numbers near $10^9$ it subtracts two
# numbers near $10^{18}$ that agree in all the digits float64 has. Subtract the mean first, then square. And a feature
# is constant if its smallest value equals its largest.
# </details>
# <details><summary>Hint 3: an outline</summary>
#
# 1. `mean` over axis 0.
# 2. `std` from the squared deviations over axis 0 (`x.std(axis=0)` does it in this order).
# 3. Where `x.min(axis=0)` equals `x.max(axis=0)`, set `std` to 0.
# </details>


# %% nbgrader={"grade_id": "fit_standardizer-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def fit_standardizer(x):
    """Compute mean and standard deviation of every feature.

    Parameters
    ----------
    x : ndarray, shape (m, D)

    Returns
    -------
    mean : ndarray, shape (D,)
    std : ndarray, shape (D,)
        Root of the variance divided by m; exactly 0 for a constant feature.
    """
    ### BEGIN SOLUTION
    mean = x.mean(axis=0)
    std = np.sqrt(((x - mean) ** 2).mean(axis=0))
    constant = x.min(axis=0) == x.max(axis=0)
    return mean, np.where(constant, 0.0, std)
    ### END SOLUTION


# %% nbgrader={"grade_id": "fit_standardizer", "grade": true, "locked": true, "points": 11, "schema_version": 3, "solution": false, "task": false}
check("fit_standardizer", fit_standardizer)

# %% [markdown]
# ### How large may the mean become?
#
# The figure shifts numbers with a known spread further and further away from 0 and shows the relative error of the std
# on logarithmic axes. The error of mean(x²) − mean(x)² grows with the square of the mean. In the end the variance can
# come out below 0, where it has no root: the points where that happened are missing, and there the line breaks off.
# The error of your function stays far below it. (An error of exactly 0 is drawn at 1e-17.)

# %%
spread = np.random.default_rng(0).normal(size=(1000, 1))
true_std = spread.std()
offsets = 10.0 ** np.arange(0, 13)
yours, naive = [], []
for offset in offsets:
    rows = spread + offset
    variance = (rows**2).mean() - rows.mean() ** 2
    naive.append(abs(np.sqrt(variance) / true_std - 1) if variance >= 0 else np.nan)
    yours.append(abs(fit_standardizer(rows)[1][0] / true_std - 1))

fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
ax.loglog(offsets, np.maximum(naive, 1e-17), "s--", label="mean(x²) − mean(x)²")
ax.loglog(offsets, np.maximum(yours, 1e-17), "o-", label="your fit_standardizer")
ax.set(xlabel="mean of the numbers (their std is 1)", ylabel="relative error of the std")
ax.legend()
plt.show()

# %% [markdown]
# ## 3. An object that remembers
#
# *Difficulty:* ●●○○○ · *Time:* 20 minutes · *Points:* 14
#
# Whoever trains a model on scaled features must scale every later house with the *same* numbers. So the numbers belong
# into an object that is fitted once. Complete the class:
#
# - `fit(x)` stores `self.mean` and `self.std`, arrays of shape `(D,)` (variance divided by $m$). Fitting again forgets
#   what was before. What it returns does not matter.
# - `transform(x)` returns $(x - \mu) / \sigma$ with the stored numbers. A feature that was constant in `fit` becomes 0,
#   whatever values `x` has there.
# - `inverse_transform(z)` returns $z \sigma + \mu$, back in the old units. A feature that was constant in `fit` comes
#   back as its constant.
#
# What `self.std` holds for a constant feature is up to you. The constants that are tried here are whole numbers, whose
# mean is exact. You may call your `fit_standardizer` or write the two lines afresh.
#
# <details><summary>Hint 1: a question</summary>
#
# Which of the three methods may compute a mean? What is different between `mean = ...` and `self.mean = ...`?
# </details>
# <details><summary>Hint 2: an idea</summary>
#
# In `transform`, a constant feature is the same problem as in `min_max`: divide by 1 where the std is 0, then put 0
# into the column. In `inverse_transform` nothing is divided: a std of 0 does the right thing by itself.
# </details>
# <details><summary>Hint 3: an outline</summary>
#
# 1. `fit`: `self.mean = ...`, `self.std = ...`, both over axis 0.
# 2. `transform`: `constant` is where `self.std` is 0; divide `x - self.mean` by the std, with 1 in place of 0; put 0.0
#    into the constant columns.
# 3. `inverse_transform`: multiply, then add.
# </details>


# %% nbgrader={"grade_id": "Standardizer-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
class Standardizer:
    """Standardize features with the mean and the standard deviation of the rows it was fitted to.

    Attributes
    ----------
    mean, std : ndarray, shape (D,)
        Set by `fit`.
    """

    def fit(self, x):
        """Store mean and std of every feature of x, shape (m, D)."""
        ### BEGIN SOLUTION
        self.mean = x.mean(axis=0)
        self.std = x.std(axis=0)
        ### END SOLUTION

    def transform(self, x):
        """Return x, shape (n, D), in units of std around mean. Constant features are 0."""
        ### BEGIN SOLUTION
        constant = self.std == 0
        return np.where(constant, 0.0, (x - self.mean) / np.where(constant, 1.0, self.std))
        ### END SOLUTION

    def inverse_transform(self, z):
        """Return z, shape (n, D), in the units of the rows that `fit` saw: the inverse of `transform`."""
        ### BEGIN SOLUTION
        return z * self.std + self.mean
        ### END SOLUTION


# %% nbgrader={"grade_id": "Standardizer", "grade": true, "locked": true, "points": 14, "schema_version": 3, "solution": false, "task": false}
check("Standardizer", Standardizer)

# %% [markdown]
# ### The shape stays
#
# The figure shows the areas of the houses and the same areas after your `Standardizer`. The two histograms have the
# same shape: many small houses, a long tail of large ones to the right. Only the axis is another one, with 0 at the
# mean. Standardization doesn't make data Gaussian, and it doesn't pull in outliers.

# %%
scaler = Standardizer()
scaler.fit(houses)
z = scaler.transform(houses)

fig, axes = plt.subplots(2, 1, figsize=(6.4, 4.2), layout="constrained")
axes[0].hist(houses[:, 1], bins=20, histtype="stepfilled")
axes[0].set(xlabel="area in m²", ylabel="houses")
axes[1].hist(z[:, 1], bins=20, histtype="stepfilled")
axes[1].set(xlabel="area, standardized", ylabel="houses")
plt.show()
print(f"standardized: mean {abs(z.mean(axis=0)).max():.0e} at most, std {z.std(axis=0)}")
print(f"largest house: {z[:, 1].max():.1f} standard deviations above the mean")
print(f"there and back: off by {abs(scaler.inverse_transform(z) - houses).max():.0e} at most")

# %% [markdown]
# ## 4. Which scaling, when?
#
# *Difficulty:* ●●○○○ · *Time:* 10 minutes · *Points:* 3 · a written answer
#
# Three features are waiting for a model that learns by gradient descent:
#
# - **(a)** Gray values of photos, whole numbers from 0 (black) to 255. Black should stay 0.
# - **(b)** The air pressure at noon in one town, every day of the last 30 years, roughly bell-shaped. The model will be
#   used on the days to come.
# - **(c)** The yearly incomes of 10 000 households. Ten of them earn a thousand times as much as the others.
#
# For each: min-max scaling, standardization, or something else, and why? One or two sentences each. The reason counts
# more than the choice.
#
# <details><summary>Hint: three questions to ask about each</summary>
#
# Which numbers are known before any data arrive? What happens to a value that no training row had? How much of the
# scale do the few most extreme rows decide?
# </details>

# %% [markdown] nbgrader={"grade_id": "which_scaling", "grade": true, "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# (a) Min-max scaling with the known bounds 0 and 255, that is, x / 255. No photo can leave this range, black stays 0,
# and nothing has to be fitted. (Bounds that merely occurred in the training photos would be a poorer choice: they
# depend on which photos those were.)
#
# (b) Standardization. Air pressure has no fixed bounds, so a record storm of next winter would leave the range 0 to 1
# that min-max scaling promised, and the lowest and the highest day of 30 years would set the scale for all others. Mean
# and std use every day and change little with a few extreme ones, and a record is simply -4.5 instead of -4.
#
# (c) Neither of them as it is. Ten incomes stretch the range a thousandfold, so min-max scaling squeezes all other
# households into the lowest thousandth of it. Standardization is hardly better: the ten make the std about 30 ordinary
# incomes. Take the logarithm first and standardize that, or use the median and the distance between the quartiles,
# which ten rows out of 10 000 can't move.

# %% [markdown]
# ## 5. Keep the test out of the training
#
# *Difficulty:* ●●○○○ · *Time:* 10 minutes · *Points:* 12
#
# A test set stands for data that don't exist yet. If a statistic of the test rows enters the training features,
# something from the future has leaked into the training: *data leakage*. The range of a min-max scaling is such a
# statistic.
#
# Write `split_and_scale(x, train_rows, test_rows)`. It takes out the training rows and the test rows, fits min-max
# scaling to the training rows alone, and scales both with it.
#
# - Row `i` of `x_train` is row `train_rows[i]` of `x`, scaled. The same holds for `x_test` and `test_rows`.
# - Rows of `x` that are named in neither list have no influence.
# - Test values outside the training range land outside 0 to 1. Don't clip.
# - No feature is constant in the training rows. There may be a single test row.
#
# You may call your `min_max` or write it afresh: it is one line here.
#
# <details><summary>Hint 1: a question</summary>
#
# When the model is used on the house that is sold next year, which smallest and largest area will it know?
# </details>
# <details><summary>Hint 2: an idea</summary>
#
# An array of row numbers is an index: `x[train_rows]` has the rows in that order. Split first, then fit, then scale.
# </details>
# <details><summary>Hint 3: an outline</summary>
#
# 1. `train` and `test` are `x[train_rows]` and `x[test_rows]`.
# 2. `low` and `high` are the smallest and largest value of each feature of `train`.
# 3. Scale `train` and `test` with the same `low` and `high`; return both.
# </details>


# %% nbgrader={"grade_id": "split_and_scale-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def split_and_scale(x, train_rows, test_rows):
    """Split a table and min-max scale both parts by the training rows.

    Parameters
    ----------
    x : ndarray, shape (m, D)
    train_rows, test_rows : ndarray of int
        Row numbers, without overlap.

    Returns
    -------
    x_train : ndarray, shape (len(train_rows), D)
        Fills the range 0 to 1.
    x_test : ndarray, shape (len(test_rows), D)
        On the same scale, so values below 0 and above 1 may occur.
    """
    ### BEGIN SOLUTION
    train, test = x[train_rows], x[test_rows]
    low, high = train.min(axis=0), train.max(axis=0)
    return (train - low) / (high - low), (test - low) / (high - low)
    ### END SOLUTION


# %% nbgrader={"grade_id": "split_and_scale", "grade": true, "locked": true, "points": 12, "schema_version": 3, "solution": false, "task": false}
check("split_and_scale", split_and_scale)

# %% [markdown]
# ### Houses of the future
#
# A fair test of a model for future prices trains on old houses and tests on new ones. The figure shows area against
# year, both scaled by your function with the houses built before 1990 as training rows. The training houses (circles)
# fill the unit square. All test houses (crosses) lie to the right of it, at years above 1. Had the test rows taken part
# in the fit, all points would lie inside, and the model would have been told how far the future reaches.

# %%
is_old = houses[:, 2] < 1990
x_train, x_test = split_and_scale(houses, np.flatnonzero(is_old), np.flatnonzero(~is_old))

fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
ax.plot(x_train[:, 2], x_train[:, 1], "o", markersize=4, label=f"built before 1990 ({len(x_train)} training rows)")
ax.plot(x_test[:, 2], x_test[:, 1], "x", markersize=5, label=f"built later ({len(x_test)} test rows)")
ax.plot([0, 1, 1, 0, 0], [0, 0, 1, 1, 0], color="black", linewidth=1)
ax.set(xlabel="year, min-max scaled", ylabel="area, min-max scaled")
ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2)
plt.show()
print(f"scaled year of the test rows: {x_test[:, 2].min():.2f} to {x_test[:, 2].max():.2f}")

# %% [markdown]
# ## 6. What a leak does
#
# *Difficulty:* ●●●○○ · *Time:* 10 minutes · *Points:* 4 · a written answer
#
# A friend predicts prices. She fits min-max scaling to all 200 houses, splits them into training and test rows
# afterwards, trains, and reports the error on the test rows. "No harm done," she says. "The scaling never looked at a
# price." Answer her in five to eight sentences:
#
# 1. Which question should her error answer, and why doesn't it quite do so?
# 2. Does this leak make the error look too small, too large, or can't one say? When will it hardly matter?
# 3. She also kept only the features that go along with the price best, chosen from all 200 houses. Why is that leak
#    worse?
# 4. What should she do instead, and how could she find out what her leaks did to the error?
#
# <details><summary>Hint: two extremes</summary>
#
# To 2: think of 5 training rows among 200 houses, and of 190. To 3: think of 1000 features that are pure noise. Some of
# them go along with the 200 prices by chance.
# </details>

# %% [markdown] nbgrader={"grade_id": "what_leakage_does", "grade": true, "locked": false, "points": 4, "schema_version": 3, "solution": true, "task": false}
# 1. Her error should say how far off the model will be on houses that nobody has seen yet. The test rows stand for
#    them, but their smallest and largest values took part in the scaling, so they weren't unseen: next year's houses
#    will have no such say.
#
# 2. One can't say. The range says nothing about prices; a wider one makes the scaled features smaller, and whether this
#    helps or hurts depends on the model. It hardly matters where the training rows alone have about the same range, as
#    with many rows split at random, and no outliers. It matters with few training rows, or where the test rows lie
#    elsewhere, such as the newest houses: the training is then told how far the future reaches.
#
# 3. This choice looked at the prices of the test rows. Among many features some go along with those prices by chance,
#    and exactly these were kept, so the model looks good even where there is nothing to learn. This error is too small,
#    and with many features and few rows much too small.
#
# 4. Split first. Then fit everything that is fitted, the scaling as well as the choice of features, to the training
#    rows alone, and apply it unchanged to the test rows. To see what the leaks did, she can do both on the same
#    splits, many times, and compare the errors; or shuffle the prices: an honest error then shows that nothing can be
#    learned, a leaky one doesn't.

# %% [markdown]
# ## 7. How badly scaled is it?
#
# *Difficulty:* ●●●○○ · *Time:* 15 minutes · *Points:* 11
#
# From here on a linear model $\hat y = X w$ learns the price by least squares, with half the mean squared error as its
# loss:
#
# $$L(w) = \frac{1}{2m} \sum_{i=1}^{m} \Big( \sum_{j=1}^{D} x_{ij} w_j - y_i \Big)^2.$$
#
# Around its minimum this loss is a bowl, and its Hessian, the matrix of second derivatives, is the same everywhere:
# $H = X^\top X / m$, of shape `(D, D)`. The eigenvalues of $H$ are the curvatures of the bowl along its axes. Their
# ratio is the *condition number*,
#
# $$\kappa = \frac{\lambda_{\max}(H)}{\lambda_{\min}(H)}.$$
#
# A round bowl has $\kappa = 1$; a long narrow valley has a huge one. Return $\kappa$ as a number, for `x` as it is
# given (subtract no mean). Where $\lambda_{\min} \le 10^{-12} \lambda_{\max}$, the smallest eigenvalue is 0 up to
# rounding: return `np.inf`. With more features than rows, $m < D$, that is always so: $H$ has $D$ eigenvalues, and at
# least $D - m$ of them are 0.
#
# *By hand:* $X = \begin{pmatrix} 1 & 0 \\ 0 & 10 \end{pmatrix}$ has
# $H = \begin{pmatrix} 0.5 & 0 \\ 0 & 50 \end{pmatrix}$ and therefore $\kappa = 100$.
#
# <details><summary>Hint 1: a question</summary>
#
# $H$ is symmetric. Which function of `np.linalg` gives the eigenvalues of a symmetric matrix, and in which order?
# </details>
# <details><summary>Hint 2: an idea</summary>
#
# `np.linalg.eigvalsh` gives real numbers in ascending order. With two equal features the smallest one should be 0, but
# comes out as something like 3e-17 or -3e-17: compare it with the largest before you divide. (`np.linalg.cond(x)` is
# the condition number of `x` itself. How is it related to that of `x.T @ x`? And what does it give for a singular
# `x`, or for one with more columns than rows?)
# </details>
# <details><summary>Hint 3: an outline</summary>
#
# 1. `hessian = x.T @ x / len(x)`.
# 2. `eigenvalues = np.linalg.eigvalsh(hessian)`: the first is the smallest, the last the largest.
# 3. If the smallest is at most `1e-12` times the largest, return `np.inf`; otherwise their ratio.
# </details>


# %% nbgrader={"grade_id": "condition_number-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def condition_number(x):
    """Compute the condition number of the Hessian of least squares.

    Parameters
    ----------
    x : ndarray, shape (m, D)

    Returns
    -------
    kappa : float
        Largest eigenvalue of x.T @ x / m divided by the smallest; np.inf if that is 0 up to rounding.
    """
    ### BEGIN SOLUTION
    eigenvalues = np.linalg.eigvalsh(x.T @ x / len(x))
    smallest, largest = eigenvalues[0], eigenvalues[-1]
    return largest / smallest if smallest > 1e-12 * largest else np.inf
    ### END SOLUTION


# %% nbgrader={"grade_id": "condition_number", "grade": true, "locked": true, "points": 11, "schema_version": 3, "solution": false, "task": false}
check("condition_number", condition_number)

# %% [markdown]
# ### Three bowls, seen from above
#
# Below, `with_ones` puts a column of ones in front of the features, whose weight is the intercept of the model, and
# your function measures the houses raw, min-max scaled and standardized. Mind that the raw houses have two troubles:
# the ranges differ, and the years lie far from 0, which makes them almost a copy of the column of ones.
#
# The figure shows lines of equal loss around the minimum for two features, south and area: raw, min-max scaled and
# standardized, each with the same scale on both axes. Raw is a line so thin that no width can be seen. Min-max scaling
# gives a slanted ellipse. Standardized, it is nearly a circle; what is left of a slant comes from the correlation of
# the two features, which no scaling removes.


# %%
def with_ones(x):
    """Put a column of ones in front of x."""
    return np.column_stack([np.ones(len(x)), x])


SCALED = {
    "raw": houses,
    "min-max": (houses - houses.min(axis=0)) / (houses.max(axis=0) - houses.min(axis=0)),
    "standardized": (houses - houses.mean(axis=0)) / houses.std(axis=0),
}

# %%
for name, x in SCALED.items():
    print(f"{name:>12}: kappa = {condition_number(with_ones(x)):.4g}")

fig, axes = plt.subplots(1, 3, figsize=(8, 3.2), layout="constrained")
turn = np.linspace(0, 2 * np.pi, 400)
for ax, (name, x) in zip(axes, SCALED.items(), strict=True):
    eigenvalues, directions = np.linalg.eigh(x[:, :2].T @ x[:, :2] / len(x))
    circle = np.array([np.cos(turn), np.sin(turn)])
    ellipse = directions @ (circle / np.sqrt(eigenvalues)[:, None]) * np.sqrt(eigenvalues[0])
    for size in (1, 0.75, 0.5, 0.25):
        ax.plot(*size * ellipse, color="C0")
    ax.set(aspect="equal", xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), xticks=[], yticks=[], xlabel="weight of south")
    ax.set_title(f"{name}\nkappa = {condition_number(x[:, :2]):.3g}")
axes[0].set_ylabel("weight of area")
plt.show()

# %% [markdown]
# ## 8. The gradient
#
# *Difficulty:* ●●●○○ · *Time:* 15 minutes · *Points:* 11
#
# The gradient of the loss holds its slope in every weight, $\partial L / \partial w_j$, with
#
# $$L(w) = \frac{1}{2m} \sum_{i=1}^{m} \Big( \sum_{j=1}^{D} x_{ij} w_j - y_i \Big)^2.$$
#
# Derive it on paper, then write it. The result has the shape of `w`.
#
# *A check you can do yourself:* move one weight by a small $h$ each way and divide the difference of the losses by
# $2h$. Such a *central difference* is what the check uses. It is one of the best habits in this course: gradients of
# batch normalization will be tested the same way.
#
# <details><summary>Hint 1: a question</summary>
#
# Take one row and one feature: $L = (x w - y)^2 / 2$. What is its derivative, and what became of the 2?
# </details>
# <details><summary>Hint 2: an idea</summary>
#
# By the chain rule $\partial L / \partial w_j = \frac{1}{m} \sum_i r_i x_{ij}$ with the residuals $r = X w - y$. The
# sum over the rows $i$ is a product of a matrix with a vector.
# </details>
# <details><summary>Hint 3: an outline</summary>
#
# 1. `residual = x @ w - y`, of shape `(m,)`.
# 2. Which of `x @ residual` and `x.T @ residual` has the shape of `w`?
# 3. Divide by the number of rows.
# </details>


# %% nbgrader={"grade_id": "gradient-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def gradient(w, x, y):
    """Compute the gradient of half the mean squared error of the linear model x @ w.

    Parameters
    ----------
    w : ndarray, shape (D,)
        Weights.
    x : ndarray, shape (m, D)
    y : ndarray, shape (m,)
        Targets.

    Returns
    -------
    grad : ndarray, shape (D,)
    """
    ### BEGIN SOLUTION
    residual = x @ w - y
    return x.T @ residual / len(x)
    ### END SOLUTION


# %% nbgrader={"grade_id": "gradient", "grade": true, "locked": true, "points": 11, "schema_version": 3, "solution": false, "task": false}
check("gradient", gradient)

# %% [markdown]
# ### Downhill is not always forward
#
# The figure shows lines of equal loss for two weights, with arrows in the direction of the negative gradient from
# points on the outermost line. Left, the features are standardized, and the arrows point roughly to the minimum, the
# star in the middle. Right, one feature is three times as large as the other. The lines are flat ellipses, and from
# most points the arrow goes straight down across the valley and misses the minimum. The printed angles say by how much.

# %%
two = SCALED["standardized"][:, :2]
panels = []
for title, x in (("standardized", two), ("one feature 3 times larger", two * [1, 3])):
    H = x.T @ x / len(x)
    turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    starts = np.column_stack([np.cos(turn), np.sin(turn)])
    starts /= np.sqrt(np.einsum("ki,ij,kj->k", starts, H, starts))[:, None]  # on the line of loss 0.5
    arrows = np.array([-gradient(start, x, np.zeros(len(x))) for start in starts])
    arrows /= np.linalg.norm(arrows, axis=1, keepdims=True)
    inward = -starts / np.linalg.norm(starts, axis=1, keepdims=True)
    angles = np.degrees(np.arccos(np.clip((arrows * inward).sum(axis=1), -1, 1)))
    panels.append((title, H, starts, arrows))
    print(f"{title}: arrows miss the minimum by {angles.mean():.0f} degrees on average, {angles.max():.0f} at most")

fig, axes = plt.subplots(1, 2, figsize=(8, 4), layout="constrained")
w1, w2 = np.meshgrid(np.linspace(-1.3, 1.3, 61), np.linspace(-1.3, 1.3, 61))
for ax, (title, H, starts, arrows) in zip(axes, panels, strict=True):
    bowl = (H[0, 0] * w1**2 + 2 * H[0, 1] * w1 * w2 + H[1, 1] * w2**2) / 2
    ax.contour(w1, w2, bowl, levels=[0.025, 0.125, 0.3, 0.5], colors="C0")
    ax.quiver(*starts.T, *arrows.T, color="C1", scale=8, width=0.01, zorder=3)
    ax.plot(0, 0, "k*", markersize=10)
    ax.set(aspect="equal", title=title, xlabel="$w_1$ minus its best value", ylabel="$w_2$ minus its best value")
plt.show()

# %% [markdown]
# ## 9. The best learning rate
#
# *Difficulty:* ●●●●○ · *Time:* 15 minutes · *Points:* 10
#
# A step of gradient descent, $w \leftarrow w - \eta \nabla L(w)$, changes the distance to the minimum along an axis of
# the bowl with curvature $\lambda$ by the factor $1 - \eta \lambda$. After many steps the slowest axis decides. So the
# best constant learning rate $\eta$ makes the largest of these factors as small as possible:
#
# $$\eta^* = \arg\min_\eta \max_{\lambda} |1 - \eta \lambda|,$$
#
# where $\lambda$ runs over the eigenvalues of $H = X^\top X / m$. Find a formula that needs only the largest eigenvalue
# $\lambda_{\max}$ and the smallest $\lambda_{\min}$, and return its value. All eigenvalues are above 0.
#
# *By hand:* with the single feature $x = (1, 3)^\top$, $H = 5$ and $\eta^* = 0.2$: one step arrives.
#
# <details><summary>Hint 1: a question</summary>
#
# Draw $|1 - \eta \lambda_{\max}|$ and $|1 - \eta \lambda_{\min}|$ against $\eta$, say for $\lambda_{\max} = 4$ and
# $\lambda_{\min} = 1$. Which one is larger for small $\eta$, and which one for large $\eta$?
# </details>
# <details><summary>Hint 2: an idea</summary>
#
# The largest of the factors is smallest where the two curves cross: there $\eta \lambda_{\max} - 1 = 1 - \eta
# \lambda_{\min}$.
# </details>
# <details><summary>Hint 3: an outline</summary>
#
# 1. Solve $\eta \lambda_{\max} - 1 = 1 - \eta \lambda_{\min}$ for $\eta$.
# 2. Get the eigenvalues of `x.T @ x / len(x)` from `np.linalg.eigvalsh`.
# 3. Put the last (the largest) and the first (the smallest) into the formula.
# </details>


# %% nbgrader={"grade_id": "best_learning_rate-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def best_learning_rate(x):
    """Compute the constant learning rate with the best guaranteed progress per step on least squares.

    Parameters
    ----------
    x : ndarray, shape (m, D)
        Its columns are linearly independent.

    Returns
    -------
    learning_rate : float
        It minimizes the largest of |1 - learning_rate * eigenvalue| over the eigenvalues of x.T @ x / m.
    """
    ### BEGIN SOLUTION
    eigenvalues = np.linalg.eigvalsh(x.T @ x / len(x))
    return 2 / (eigenvalues[0] + eigenvalues[-1])
    ### END SOLUTION


# %% nbgrader={"grade_id": "best_learning_rate", "grade": true, "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
check("best_learning_rate", best_learning_rate)

# %% [markdown]
# ### Just before it goes wrong
#
# The figure shows, for the standardized houses, the factor by which the slowest axis shrinks per step, against the
# learning rate. It falls in a straight line, turns sharply, and rises again, steeply, to 1: beyond, gradient descent
# diverges. Your learning rate is the dashed line. It should stand at the lowest point of the curve.

# %%
x = with_ones(SCALED["standardized"])
eigenvalues = np.linalg.eigvalsh(x.T @ x / len(x))
rates = np.linspace(0, 2.1 / eigenvalues[-1], 400)
slowest = abs(1 - np.outer(eigenvalues, rates)).max(axis=0)
yours = best_learning_rate(x)

fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
ax.plot(rates, slowest)
ax.axhline(1, color="black", linewidth=1)
ax.axvline(yours, linestyle="--", color="C1", label=f"your learning rate, {yours:.3f}")
ax.set(xlabel="learning rate", ylabel="slowest factor per step", ylim=(0, 1.1))
ax.legend(loc="lower left")
plt.show()

# %% [markdown]
# ## 10. Gradient descent
#
# *Difficulty:* ●●●○○ · *Time:* 20 minutes · *Points:* 13
#
# Put it together. Start at $w = 0$, one weight per feature, and take `steps` steps of gradient descent on
# half the mean squared error of `x @ w`, with all rows in every step. Return
#
# - `w`: the weights after the last step, shape `(D,)`,
# - `losses`: `steps + 1` numbers, the loss before the first step and after every step. An array or a list will do.
#
# `x` is used as it is given: no scaling and no column of ones in here. With `steps=0` nothing moves. Don't stop early.
# You may call your `gradient` or write it afresh: the whole function is about ten lines.
#
# <details><summary>Hint 1: a question</summary>
#
# With 3 steps there are 4 losses. Where in the loop does each of them arise?
# </details>
# <details><summary>Hint 2: an idea</summary>
#
# Record the first loss before the loop, and one more at the end of every pass, after `w` has changed. If the losses
# grow, look at the sign of the step first.
# </details>
# <details><summary>Hint 3: an outline</summary>
#
# 1. `w = np.zeros(x.shape[1])`; `losses = [loss at w]`.
# 2. `steps` times: compute the gradient at the present `w`, subtract `learning_rate` times the gradient, append the
#    loss.
# 3. Return `w` and `losses`.
# </details>


# %% nbgrader={"grade_id": "gradient_descent-solution", "grade": false, "locked": false, "schema_version": 3, "solution": true, "task": false}
def gradient_descent(x, y, learning_rate, steps):
    """Fit a linear model by gradient descent on half the mean squared error, from w = 0.

    Parameters
    ----------
    x : ndarray, shape (m, D)
    y : ndarray, shape (m,)
    learning_rate : float
    steps : int

    Returns
    -------
    w : ndarray, shape (D,)
        Weights after the last step.
    losses : ndarray, shape (steps + 1,)
        Loss before the first and after every step.
    """
    ### BEGIN SOLUTION
    w = np.zeros(x.shape[1])
    residual = x @ w - y
    losses = [(residual**2).mean() / 2]
    for _ in range(steps):
        w = w - learning_rate * x.T @ residual / len(x)
        residual = x @ w - y
        losses.append((residual**2).mean() / 2)
    return w, np.array(losses)
    ### END SOLUTION


# %% nbgrader={"grade_id": "gradient_descent", "grade": true, "locked": true, "points": 13, "schema_version": 3, "solution": false, "task": false}
check("gradient_descent", gradient_descent)

# %% [markdown]
# ### The race
#
# The same houses, the same model, the same prices: raw, min-max scaled and standardized. All three can express exactly
# the same predictions and start at the same loss. Each tries three learning rates, up to the best guaranteed one of
# question 9, and keeps the one that is first at 0.1 % of the way (or comes closest). So the comparison is fair.
#
# The figure shows how much of the way from the first loss to the best possible loss is left, on a logarithmic axis.
# Standardized, the loss falls steeply and a few steps do it. Min-max scaled, it falls much less steeply. Raw drops at
# once as far as the steepest direction reaches and then creeps: along the flat axes of its valley hardly anything
# happens. The printed learning rates also show that the best *guaranteed* rate isn't always the best for a given number
# of steps.

# %%
best_runs = {}
for name, x in SCALED.items():
    x = with_ones(x)
    best_loss = ((x @ np.linalg.lstsq(x, price, rcond=None)[0] - price) ** 2).mean() / 2
    eigenvalues = np.linalg.eigvalsh(x.T @ x / len(x))
    guaranteed = 2 / (eigenvalues[0] + eigenvalues[-1])
    runs = []
    for share in (0.6, 0.8, 1):
        losses = np.array(gradient_descent(x, price, share * guaranteed, 120)[1])
        left = (losses - best_loss) / (losses[0] - best_loss)
        runs.append(((left > 1e-3).sum(), left[-1], share, left))
    steps, _, share, best_runs[name] = min(runs, key=lambda run: run[:2])
    steps = steps if steps <= 120 else "more than 120"
    print(f"{name:>12}: {steps} steps until 0.1 % is left, at {share} times the guaranteed learning rate")

fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
for (name, left), style in zip(best_runs.items(), ("-", "--", "-."), strict=True):
    ax.semilogy(np.where(left > 1e-8, left, np.nan), style, label=name)
ax.set(xlabel="step", ylabel="part of the way that is left")
ax.legend()
plt.show()

# %% [markdown]
# ## What you learned
#
# - Min-max scaling fixes the range, standardization fixes mean and spread. Neither changes the shape of a distribution,
#   and an outlier spoils the range at once.
# - Scaling has two halves, *fit* and *transform*. The first sees training rows only. A scaler that is fitted to all
#   rows leaks, and one that is fitted to every batch of test rows anew gives equal houses unequal numbers.
# - Constant features need a decision, and rounding must not make it for you.
# - Gradient descent on least squares needs a number of steps that grows with the condition number. Scaling lowers it;
#   subtracting the mean lowers it too, where features lie far from 0.
# - A fair comparison gives every arm its own best learning rate.
#
# Batch normalization takes this from the inputs into the network: it standardizes in every layer, with the mean and the
# variance of the present mini-batch. That is problem set 2.
#
# ## Going further (not graded)
#
# 1. Standardize with the median and the distance between the quartiles instead of mean and std. How does the picture
#    with the palace change?
# 2. The features of the houses are correlated. How low does standardization bring the condition number? Which linear
#    map of the features would bring it to 1?
# 3. Fit the scaler to all rows and to the training rows, take the same number of steps both ways, and compare the test
#    errors over 100 random splits. How large is the difference? For which data would it be larger?
# 4. How many steps would the raw houses need? The factor per step tells you without waiting for them.
