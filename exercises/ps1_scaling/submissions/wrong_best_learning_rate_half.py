"""1 / (largest + smallest), half of the best one."""

QUESTION = "best_learning_rate"
LOSES = {"several features", "one feature: a single step arrives"}
SAYS = "half of the best one"


def best_learning_rate(x):
    eigenvalues = np.linalg.eigvalsh(x.T @ x / len(x))
    return 1 / (eigenvalues[0] + eigenvalues[-1])
