"""Takes the covariance: subtracts the mean first."""

QUESTION = "condition_number"
LOSES = {"largest eigenvalue over smallest", "features on very different scales"}
SAYS = "Do not subtract the mean"


def condition_number(x):
    eigenvalues = np.linalg.eigvalsh(np.cov(x.T))
    return eigenvalues[-1] / eigenvalues[0] if eigenvalues[0] > 1e-12 * eigenvalues[-1] else np.inf
