"""Takes the variance of the inputs where their mean square belongs."""

QUESTION = "variance_shift"
LOSES = {"variance in training, inputs with a mean"}
SAYS = "where their mean square belongs"


def variance_shift(h, weight, p):
    eval_var = (h @ weight).var(axis=0)
    return eval_var + p / (1 - p) * h.var(axis=0) @ weight**2, eval_var
