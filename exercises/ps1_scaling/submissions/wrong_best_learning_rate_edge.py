"""The edge of divergence: 2 / largest eigenvalue."""

QUESTION = "best_learning_rate"
LOSES = {"several features", "one feature: a single step arrives"}
SAYS = "This is 2 / largest"


def best_learning_rate(x):
    eigenvalues = np.linalg.eigvalsh(x.T @ x / len(x))
    return 2 / eigenvalues[-1]
