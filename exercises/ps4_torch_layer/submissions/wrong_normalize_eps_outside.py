"""Adds eps to the standard deviation."""

QUESTION = "normalize"
LOSES = {"eps inside the square root"}
SAYS = "outside the root"


def normalize(x, mean, var, gamma, beta, eps):
    shape = (-1, *[1] * (x.dim() - 2))
    y = (x - mean.view(shape)) / (torch.sqrt(var) + eps).view(shape)
    if gamma is not None:
        y = y * gamma.view(shape)
    if beta is not None:
        y = y + beta.view(shape)
    return y.to(x.dtype)
