"""Leaves eps out: 0/0 where a feature is constant."""

QUESTION = "normalize"
LOSES = {"eps inside the square root", "a constant feature becomes zero"}
SAYS = "eps has no effect here"


def normalize(x, mean, var, eps):
    return (x - mean) / np.sqrt(var)
