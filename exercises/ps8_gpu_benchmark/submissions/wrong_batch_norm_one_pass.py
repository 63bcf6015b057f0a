"""The mean of the squares minus the square of the mean: tempting where passes cost time."""

QUESTION = "batch_norm"
LOSES = {"a variance that survives a large mean"}
SAYS = "subtract the mean from x first"


def batch_norm(x, gamma, beta, eps):
    mean = x.mean((0, 2, 3), keepdim=True)
    var = (x * x).mean((0, 2, 3), keepdim=True) - mean * mean
    return gamma.reshape(1, -1, 1, 1) * (x - mean) * torch.rsqrt(var + eps) + beta.reshape(1, -1, 1, 1)
