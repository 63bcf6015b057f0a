"""Divides the caller's table by the root of m."""

QUESTION = "condition_number"
LOSES = {"leaves its inputs as they were"}
SAYS = "changed its input x in place"


def condition_number(x):
    x /= np.sqrt(len(x))
    eigenvalues = np.linalg.eigvalsh(x.T @ x)
    return eigenvalues[-1] / eigenvalues[0] if eigenvalues[0] > 1e-12 * eigenvalues[-1] else np.inf
