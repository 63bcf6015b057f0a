"""Squares the condition number of x, which sees only min(m, D) singular values."""

QUESTION = "condition_number"
LOSES = {"infinite where singular, and only there"}
SAYS = "return np.inf where m < D"


def condition_number(x):
    kappa = np.linalg.cond(x) ** 2
    return kappa if kappa < 1e12 else np.inf
