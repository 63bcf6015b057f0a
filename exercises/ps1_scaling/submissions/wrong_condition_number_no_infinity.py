"""Divides by a smallest eigenvalue that is 0 up to rounding."""

QUESTION = "condition_number"
LOSES = {"infinite where singular, and only there"}
SAYS = "Return np.inf where it is at most 1e-12"


def condition_number(x):
    eigenvalues = np.linalg.eigvalsh(x.T @ x / len(x))
    return eigenvalues[-1] / eigenvalues[0]
