"""The weights enter linearly."""

QUESTION = "variance_shift"
LOSES = {"variance in training, inputs of mean zero", "variance in training, inputs with a mean"}
SAYS = "weights enter squared"


def variance_shift(h, weight, p):
    eval_var = (h @ weight).var(axis=0)
    return eval_var + p / (1 - p) * (h**2).mean(axis=0) @ weight, eval_var
