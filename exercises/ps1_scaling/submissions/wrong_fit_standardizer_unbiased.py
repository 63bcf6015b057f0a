"""Divides by m - 1."""

QUESTION = "fit_standardizer"
LOSES = {"mean and standard deviation of each feature"}
SAYS = "You divide by m - 1"


def fit_standardizer(x):
    std = x.std(axis=0, ddof=1)
    return x.mean(axis=0), np.where(np.ptp(x, axis=0) == 0, 0.0, std)
