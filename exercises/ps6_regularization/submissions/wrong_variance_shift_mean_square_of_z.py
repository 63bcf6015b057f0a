"""Scales the mean square of z, as if dropout came after the linear layer."""

QUESTION = "variance_shift"
LOSES = {"variance in training, inputs of mean zero", "variance in training, inputs with a mean"}
SAYS = "masks fall on the inputs"


def variance_shift(h, weight, p):
    z = h @ weight
    return z.var(axis=0) + p / (1 - p) * (z**2).mean(axis=0), z.var(axis=0)
