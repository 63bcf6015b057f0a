"""Does not expect gamma or beta to be None."""

QUESTION = "normalize"
LOSES = {"gamma or beta may be None"}
SAYS = "may be None"


def normalize(x, mean, var, gamma, beta, eps):
    shape = (-1, *[1] * (x.dim() - 2))
    y = (x - mean.view(shape)) / torch.sqrt(var + eps).view(shape)
    y = y * gamma.view(shape) + beta.view(shape)
    return y.to(x.dtype)
