"""Replaces 0/0 by 0 by hand instead of using eps."""

QUESTION = "normalize"
LOSES = {"eps inside the square root"}
SAYS = "eps has no effect here"


def normalize(x, mean, var, eps):
    std = np.sqrt(var)
    return np.divide(x - mean, std, out=np.zeros_like(x), where=std > 0)
