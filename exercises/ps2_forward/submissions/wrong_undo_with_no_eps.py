"""gamma = sqrt(var), as the paper writes it: exact only where eps is 0."""

QUESTION = "undo_with"
LOSES = {"gamma of a feature that hardly varies"}
SAYS = "eps is missing"


def undo_with(mean, var, eps):
    return np.sqrt(var), mean.copy()
