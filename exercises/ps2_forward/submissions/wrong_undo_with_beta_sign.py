"""Subtracts the mean a second time."""

QUESTION = "undo_with"
LOSES = {"beta"}
SAYS = "wrong sign"


def undo_with(mean, var, eps):
    return np.sqrt(var + eps), -mean
