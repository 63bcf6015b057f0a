"""Takes the covariance, so the mean is subtracted, for the Hessian."""

QUESTION = "best_learning_rate"
LOSES = {"several features", "one feature: a single step arrives"}
SAYS = "No mean is subtracted"


def best_learning_rate(x):
    eigenvalues = np.linalg.eigvalsh(np.atleast_2d(np.cov(x.T)))
    return 2 / (eigenvalues[0] + eigenvalues[-1])
