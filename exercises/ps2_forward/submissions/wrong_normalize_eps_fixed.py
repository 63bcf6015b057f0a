"""Writes 1e-5 instead of the eps that is given."""

QUESTION = "normalize"
LOSES = {"eps inside the square root"}
SAYS = "fixed at 1e-5"


def normalize(x, mean, var, eps):
    return (x - mean) / np.sqrt(var + 1e-5)
