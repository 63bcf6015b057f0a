"""Uses x @ x.T, a matrix of rows by rows."""

QUESTION = "condition_number"
LOSES = {
    "largest eigenvalue over smallest",
    "features on very different scales",
    "infinite where singular, and only there",
    "leaves its inputs as they were",
}
SAYS = "The Hessian is x.T @ x / m"


def condition_number(x):
    eigenvalues = np.linalg.eigvalsh(x @ x.T / len(x))
    return eigenvalues[-1] / eigenvalues[0] if eigenvalues[0] > 1e-12 * eigenvalues[-1] else np.inf
