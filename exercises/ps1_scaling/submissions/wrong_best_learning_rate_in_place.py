"""Divides the caller's table by the root of m."""

QUESTION = "best_learning_rate"
LOSES = {"leaves its inputs as they were"}
SAYS = "changed its input x in place"


def best_learning_rate(x):
    x /= np.sqrt(len(x))
    eigenvalues = np.linalg.eigvalsh(x.T @ x)
    return 2 / (eigenvalues[0] + eigenvalues[-1])
