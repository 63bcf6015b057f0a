"""Are min-max scaling and standardization different things, for different cases? The experiment behind claim C02.

Four cases in which the choice could matter, measured on real tables with random splits: a wrong value (outlier), values
outside the training range, a learner that uses distances, and statistics that leak from the test set. Feature
selection on all data is there as what a serious leak looks like, beside the small one of a leaked scaler.

What this isn't: steps to a target, which `feature_scaling` measures.
"""

import numpy as np

from bnlab.experiments.conduct import Experiment, Journal, conduct
from bnlab.experiments.result import Estimate, Result, Verdict

EXPERIMENT = Experiment(
    name="scaling_choice",
    title="Min-max scaling against standardization: outliers, unseen values, learners, leakage",
    claims=("C02",),
    section="sec-scaling-which",
    fair="The same random splits for both; each learner with scikit-learn's defaults, which favor neither scaling.",
    cpu_only=True,
)
SCALINGS = ("min-max", "standardized")
FACTOR = 10  # the wrong value: a decimal point one place off


def run(seeds=range(5), device="cpu", budget="small", *, journal: Journal | None = None) -> Result:
    """Measure both scalings on wine and breast cancer tables; the full budget takes ten splits per seed."""
    splits = 2 if budget == "small" else 10
    units = [
        {"table": table, "scaling": scaling, "seed": seed}
        for table in ("wine", "cancer")
        for scaling in SCALINGS
        for seed in seeds
    ]
    return conduct(
        EXPERIMENT,
        units,
        lambda unit: _measure(**unit, splits=splits),
        seeds=seeds,
        device=device,
        budget=budget,
        settings={"splits": splits, "outlier_factor": FACTOR},
        journal=journal,
    )


def _measure(table, scaling, seed, splits):
    from sklearn.datasets import load_breast_cancer, load_wine
    from sklearn.model_selection import train_test_split
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.preprocessing import MinMaxScaler, StandardScaler
    from sklearn.svm import SVC

    x, y = {"wine": load_wine, "cancer": load_breast_cancer}[table](return_X_y=True)
    scaler = {"min-max": MinMaxScaler, "standardized": StandardScaler}[scaling]()
    scores = {"outside_rows": [], "neighbors": [], "svm": [], "neighbors_leaked": []}
    for k in range(splits):
        a, b, y_a, y_b = train_test_split(x, y, test_size=0.5, random_state=1000 * seed + k, stratify=y)
        z_a, z_b = scaler.fit_transform(a), scaler.transform(b)
        low, high = z_a.min(axis=0), z_a.max(axis=0)
        scores["outside_rows"].append(np.mean(((z_b < low) | (z_b > high)).any(axis=1)))
        scores["neighbors"].append(KNeighborsClassifier().fit(z_a, y_a).score(z_b, y_b))
        scores["svm"].append(SVC().fit(z_a, y_a).score(z_b, y_b))
        leaked = scaler.fit(x)
        fitted = KNeighborsClassifier().fit(leaked.transform(a), y_a)
        scores["neighbors_leaked"].append(fitted.score(leaked.transform(b), y_b))
    row = {name: float(np.mean(values)) for name, values in scores.items()}
    # One wrong value: what is left of the spread of the others, the median over the features.
    rng = np.random.default_rng(seed)
    wrong = x.copy()
    victim = rng.integers(len(x))
    wrong[victim] = FACTOR * np.abs(x).max(axis=0)
    others = np.arange(len(x)) != victim
    left = scaler.fit_transform(wrong)[others].std(axis=0) / scaler.fit_transform(x)[others].std(axis=0)
    return row | {"spread_left": float(np.median(left))}


def plot(result: Result):
    """Draw what an outlier leaves, and the accuracy of two learners, by scaling."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(3, 1, figsize=(6.4, 6.4))
    names = {"spread_left": "spread left beside an outlier", "neighbors": "accuracy, neighbors", "svm": "accuracy, SVM"}
    for ax, (column, title) in zip(axes, names.items(), strict=True):
        for j, scaling in enumerate(SCALINGS):
            for k, table in enumerate(("wine", "cancer")):
                values = result.column(column, scaling=scaling, table=table)
                ax.plot(
                    values, [j + 0.2 * k - 0.1] * len(values), "os"[k], color=f"C{k}", label=table if j == 0 else None
                )
        ax.set(title=title, yticks=range(2), yticklabels=SCALINGS, ylim=(-0.5, 1.5))
    axes[0].legend()
    return figure


def verdicts(result: Result) -> list[Verdict]:
    """Judge C02 by whether the two differ at all, and whether the difference reaches the learners.

    It holds if an outlier costs min-max scaling more of the spread than standardization (whole interval of the ratio
    above one) and the choice changes a learner's accuracy by at least two points in the median; with conditions if only
    the first is so; it is refuted if not even that is.
    """

    def of(column, scaling, **where):
        return result.column(column, scaling=scaling, **where)

    ratio = Estimate.of(of("spread_left", "standardized") / of("spread_left", "min-max"))
    gaps = {
        (learner, table): Estimate.of(
            100 * (of(learner, "standardized", table=table) - of(learner, "min-max", table=table)), "points"
        )
        for learner in ("neighbors", "svm")
        for table in ("wine", "cancer")
    }
    largest = max(gaps.values(), key=lambda gap: abs(gap.median))
    matters = abs(largest.median) >= 2
    verdict = "refuted" if ratio.low <= 1 else "holds" if matters else "conditions"
    what = "times as much of the other values' spread survives a tenfold outlier under standardization"
    because = f"On clean data the choice changes a learner's accuracy by {largest} at most."
    return [Verdict("C02", verdict, ratio, what, because)]
