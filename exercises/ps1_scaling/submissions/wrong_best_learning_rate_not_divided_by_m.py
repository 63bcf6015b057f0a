"""Takes the eigenvalues of x.T @ x without dividing by m."""

QUESTION = "best_learning_rate"
LOSES = {"several features", "one feature: a single step arrives"}
SAYS = "Divide by m"


def best_learning_rate(x):
    eigenvalues = np.linalg.eigvalsh(x.T @ x)
    return 2 / (eigenvalues[0] + eigenvalues[-1])
