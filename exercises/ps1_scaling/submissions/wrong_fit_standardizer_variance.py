"""Returns the variance instead of its root."""

QUESTION = "fit_standardizer"
LOSES = {"mean and standard deviation of each feature", "a small spread on a large mean"}
SAYS = "This is the variance: take its square root"


def fit_standardizer(x):
    return x.mean(axis=0), np.where(np.ptp(x, axis=0) == 0, 0.0, x.var(axis=0))
