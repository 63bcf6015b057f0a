"""Takes a std below 1e-10 for that of a constant. Near 1e9 a constant has a larger one."""

QUESTION = "fit_standardizer"
LOSES = {"the std of a constant feature is exactly 0"}
SAYS = "no threshold will do"


def fit_standardizer(x):
    std = x.std(axis=0)
    std[std < 1e-10] = 0
    return x.mean(axis=0), std
