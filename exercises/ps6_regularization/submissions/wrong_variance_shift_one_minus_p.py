"""The rule of thumb for a single input of mean zero: the variance divided by 1 - p."""

QUESTION = "variance_shift"
LOSES = {"variance in training, inputs of mean zero", "variance in training, inputs with a mean"}
SAYS = "right for a single input"


def variance_shift(h, weight, p):
    eval_var = (h @ weight).var(axis=0)
    return eval_var / (1 - p), eval_var
