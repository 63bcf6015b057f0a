"""Takes the variance over all numbers of z, examples and neurons."""

QUESTION = "variance_shift"
LOSES = {
    "no shift without dropout",
    "leaves its inputs as they were",
    "variance in training, inputs with a mean",
    "variance in evaluation",
    "variance in training, inputs of mean zero",
}
SAYS = "axis=0 is forgotten"


def variance_shift(h, weight, p):
    eval_var = (h @ weight).var()
    return eval_var + p / (1 - p) * (h**2).mean(axis=0) @ weight**2, eval_var
