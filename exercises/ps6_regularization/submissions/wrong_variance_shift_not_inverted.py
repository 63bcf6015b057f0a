"""The variance of a coin, p(1 - p): dropout that doesn't divide by 1 - p."""

QUESTION = "variance_shift"
LOSES = {"variance in training, inputs of mean zero", "variance in training, inputs with a mean"}
SAYS = "this has p(1 - p)"


def variance_shift(h, weight, p):
    eval_var = (h @ weight).var(axis=0)
    return eval_var + p * (1 - p) * (h**2).mean(axis=0) @ weight**2, eval_var
