"""Trusts broadcasting: right for dense inputs, and silently wrong where W = C."""

QUESTION = "normalize"
LOSES = {
    "normalizes, scales and shifts images",
    "any rank",
    "eps inside the square root",
    "the memory format of x",
    "gamma or beta may be None",
    "leaves its inputs as they were",
}
SAYS = "shapes up from the right"


def normalize(x, mean, var, gamma, beta, eps):
    y = (x - mean) / torch.sqrt(var + eps)
    if gamma is not None:
        y = y * gamma
    if beta is not None:
        y = y + beta
    return y.to(x.dtype)
