"""gamma = var, a bug found in published code that inserts BN into a trained network."""

QUESTION = "undo_with"
LOSES = {"gamma", "gamma of a feature that hardly varies"}
SAYS = "gamma is the variance"


def undo_with(mean, var, eps):
    return var.copy(), mean.copy()
