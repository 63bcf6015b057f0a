"""The safe choice, 1 / largest eigenvalue, which leaves the flat directions slow."""

QUESTION = "best_learning_rate"
LOSES = {"several features"}
SAYS = "This is 1 / largest"


def best_learning_rate(x):
    eigenvalues = np.linalg.eigvalsh(x.T @ x / len(x))
    return 1 / eigenvalues[-1]
