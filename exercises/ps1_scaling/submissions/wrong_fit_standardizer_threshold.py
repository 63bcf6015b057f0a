"""Takes a small std for that of a constant, whatever the size of the numbers."""

QUESTION = "fit_standardizer"
LOSES = {"the std of a constant feature is exactly 0"}
SAYS = "No threshold tells a small std from a rounding error"


def fit_standardizer(x):
    std = x.std(axis=0)
    std[std < 1e-6] = 0
    return x.mean(axis=0), std
