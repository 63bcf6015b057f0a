"""Returns the two in the other order."""

QUESTION = "variance_shift"
LOSES = {
    "variance in evaluation",
    "variance in training, inputs of mean zero",
    "variance in training, inputs with a mean",
}
SAYS = "in this order"


def variance_shift(h, weight, p):
    eval_var = (h @ weight).var(axis=0)
    return eval_var, eval_var + p / (1 - p) * (h**2).mean(axis=0) @ weight**2
