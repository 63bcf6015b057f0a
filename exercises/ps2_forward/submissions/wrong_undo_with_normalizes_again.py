"""Gives the scale and shift that normalize, instead of those that undo it."""

QUESTION = "undo_with"
LOSES = {"gamma", "beta", "gamma of a feature that hardly varies", "leaves its inputs as they were"}
SAYS = "normalizes a second time"


def undo_with(mean, var, eps):
    std = np.sqrt(var + eps)
    return 1 / std, -mean / std
