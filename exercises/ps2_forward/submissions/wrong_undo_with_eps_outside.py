"""gamma = sqrt(var) + eps."""

QUESTION = "undo_with"
LOSES = {"gamma of a feature that hardly varies"}
SAYS = "outside the root"


def undo_with(mean, var, eps):
    return np.sqrt(var) + eps, mean.copy()
