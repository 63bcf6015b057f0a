"""Divides the smallest eigenvalue by the largest."""

QUESTION = "condition_number"
LOSES = {
    "largest eigenvalue over smallest",
    "features on very different scales",
    "infinite where singular, and only there",
    "leaves its inputs as they were",
}
SAYS = "Upside down"


def condition_number(x):
    eigenvalues = np.linalg.eigvalsh(x.T @ x / len(x))
    return eigenvalues[0] / eigenvalues[-1]
