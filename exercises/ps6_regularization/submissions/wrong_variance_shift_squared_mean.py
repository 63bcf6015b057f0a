"""Squares the mean of the inputs instead of averaging their squares."""

QUESTION = "variance_shift"
LOSES = {"variance in training, inputs with a mean", "variance in training, inputs of mean zero"}
SAYS = "square first"


def variance_shift(h, weight, p):
    eval_var = (h @ weight).var(axis=0)
    return eval_var + p / (1 - p) * h.mean(axis=0) ** 2 @ weight**2, eval_var
