"""Adds up the variances of the inputs, as if they were independent."""

QUESTION = "variance_shift"
LOSES = {
    "variance in evaluation",
    "variance in training, inputs of mean zero",
    "variance in training, inputs with a mean",
    "no shift without dropout",
    "leaves its inputs as they were",
}
SAYS = "independent of each other"


def variance_shift(h, weight, p):
    eval_var = h.var(axis=0) @ weight**2
    return eval_var + p / (1 - p) * (h**2).mean(axis=0) @ weight**2, eval_var
