"""The condition number of x, the square root of the one asked for."""

QUESTION = "condition_number"
LOSES = {"largest eigenvalue over smallest", "features on very different scales"}
SAYS = "This is the condition number of x"


def condition_number(x):
    kappa = np.linalg.cond(x)
    return kappa if x.shape[0] >= x.shape[1] and kappa < 1e6 else np.inf
