"""Multiplies, and forgets to add up over the examples."""

QUESTION = "parameter_gradients"
LOSES = {
    "dgamma",
    "dbeta",
    "eps inside the square root",
    "leaves its inputs as they were",
}
SAYS = "This is dy * x_hat itself"


def parameter_gradients(dy, x, mean, var, eps):
    x_hat = (x - mean) / np.sqrt(var + eps)
    return dy * x_hat, dy
