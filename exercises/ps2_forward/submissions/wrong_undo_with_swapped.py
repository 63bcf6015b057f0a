"""Returns beta before gamma."""

QUESTION = "undo_with"
LOSES = {"gamma", "beta", "gamma of a feature that hardly varies", "leaves its inputs as they were"}
SAYS = "swapped"


def undo_with(mean, var, eps):
    return mean.copy(), np.sqrt(var + eps)
