"""Squares once too often: the condition number of the Hessian times itself."""

QUESTION = "condition_number"
LOSES = {"largest eigenvalue over smallest", "features on very different scales"}
SAYS = "This is the square of the condition number"


def condition_number(x):
    kappa = np.linalg.cond(x.T @ x)
    return kappa**2 if kappa < 1e12 else np.inf
