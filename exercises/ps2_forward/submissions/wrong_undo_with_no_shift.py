"""Undoes the scale and forgets the shift."""

QUESTION = "undo_with"
LOSES = {"beta"}
SAYS = "something has to add it back"


def undo_with(mean, var, eps):
    return np.sqrt(var + eps), np.zeros_like(mean)
