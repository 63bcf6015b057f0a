"""Computes mean(x^2) - mean(x)^2, and takes the root even where rounding made it negative."""

QUESTION = "fit_standardizer"
LOSES = {"a small spread on a large mean", "the std of a constant feature is exactly 0"}
SAYS = "The variance came out below 0"


def fit_standardizer(x):
    mean = x.mean(axis=0)
    return mean, np.sqrt((x**2).mean(axis=0) - mean**2)
