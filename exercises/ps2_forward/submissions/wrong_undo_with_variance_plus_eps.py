"""gamma = var + eps: the square root is missing."""

QUESTION = "undo_with"
LOSES = {"gamma", "gamma of a feature that hardly varies"}
SAYS = "gamma is the variance plus eps"


def undo_with(mean, var, eps):
    return var + eps, mean.copy()
