"""Computes mean(x^2) - mean(x)^2, which cancels when the mean is large."""

QUESTION = "fit_standardizer"
LOSES = {"a small spread on a large mean"}
SAYS = "Subtract the mean first, square afterwards"


def fit_standardizer(x):
    mean = x.mean(axis=0)
    variance = np.maximum((x**2).mean(axis=0) - mean**2, 0.0)
    return mean, np.where(np.ptp(x, axis=0) == 0, 0.0, np.sqrt(variance))
