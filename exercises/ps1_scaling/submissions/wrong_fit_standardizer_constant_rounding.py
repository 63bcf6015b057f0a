"""Trusts np.std with a constant feature, where the mean is off in the last digit."""

QUESTION = "fit_standardizer"
LOSES = {"the std of a constant feature is exactly 0"}
SAYS = "is off in its last digit"


def fit_standardizer(x):
    return x.mean(axis=0), x.std(axis=0)
