"""Converts the vectors to the half dtype of x, and computes in it."""

QUESTION = "normalize"
LOSES = {"the dtype of x; half precision computed in float32"}
SAYS = "too early"


def normalize(x, mean, var, gamma, beta, eps):
    shape = (-1, *[1] * (x.dim() - 2))
    mean, var = mean.to(x.dtype), var.to(x.dtype)
    y = (x - mean.view(shape)) / torch.sqrt(var + eps).view(shape)
    if gamma is not None:
        y = y * gamma.view(shape)
    if beta is not None:
        y = y + beta.view(shape)
    return y.to(x.dtype)
