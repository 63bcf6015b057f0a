"""Takes the diagonal of the Hessian for its eigenvalues."""

QUESTION = "condition_number"
LOSES = {"largest eigenvalue over smallest", "infinite where singular, and only there"}
SAYS = "This is the ratio of the diagonal entries"


def condition_number(x):
    curvatures = (x**2).mean(axis=0)
    return curvatures.max() / curvatures.min()
