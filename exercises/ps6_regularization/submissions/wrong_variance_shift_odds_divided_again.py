"""The variance of a coin divided by one factor too many: p/(1 - p)**2."""

QUESTION = "variance_shift"
LOSES = {"variance in training, inputs with a mean", "variance in training, inputs of mean zero"}
SAYS = "one factor cancels"


def variance_shift(h, weight, p):
    eval_var = (h @ weight).var(axis=0)
    return eval_var + p / (1 - p) ** 2 * (h**2).mean(axis=0) @ weight**2, eval_var
