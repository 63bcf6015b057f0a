"""Forgets to convert back: a half input gives a float32 output."""

QUESTION = "normalize"
LOSES = {"the dtype of x; half precision computed in float32"}
SAYS = "end with .to(x.dtype)"


def normalize(x, mean, var, gamma, beta, eps):
    shape = (-1, *[1] * (x.dim() - 2))
    y = (x - mean.view(shape)) / torch.sqrt(var + eps).view(shape)
    if gamma is not None:
        y = y * gamma.view(shape)
    if beta is not None:
        y = y + beta.view(shape)
    return y
