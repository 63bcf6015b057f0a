"""Normalizes x in place."""

QUESTION = "normalize"
LOSES = {"leaves its inputs as they were"}
SAYS = "in place"


def normalize(x, mean, var, gamma, beta, eps):
    shape = (-1, *[1] * (x.dim() - 2))
    y = x.to(mean.dtype)
    y -= mean.view(shape)
    y = y / torch.sqrt(var + eps).view(shape)
    if gamma is not None:
        y = y * gamma.view(shape)
    if beta is not None:
        y = y + beta.view(shape)
    return y.to(x.dtype)
