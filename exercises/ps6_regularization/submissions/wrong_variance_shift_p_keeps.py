"""Takes p for the probability of being kept."""

QUESTION = "variance_shift"
LOSES = {
    "variance in training, inputs of mean zero",
    "variance in training, inputs with a mean",
    "no shift without dropout",
}
SAYS = "changed places"


def variance_shift(h, weight, p):
    eval_var = (h @ weight).var(axis=0)
    return eval_var + np.float64(1 - p) / p * (h**2).mean(axis=0) @ weight**2, eval_var
