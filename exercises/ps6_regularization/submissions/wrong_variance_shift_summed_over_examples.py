"""Sums the squares over the examples instead of averaging them."""

QUESTION = "variance_shift"
LOSES = {"variance in training, inputs with a mean", "variance in training, inputs of mean zero"}
SAYS = "sums over the examples"


def variance_shift(h, weight, p):
    eval_var = (h @ weight).var(axis=0)
    return eval_var + p / (1 - p) * (h**2).sum(axis=0) @ weight**2, eval_var
