"""Averages over the batch only: a statistic for every pixel."""

QUESTION = "batch_norm"
LOSES = {
    "y, in float64 and float32",
    "gradients flow to x, gamma and beta",
    "a variance that survives a large mean",
    "leaves its inputs as they were",
}
SAYS = "statistics of each pixel"


def batch_norm(x, gamma, beta, eps):
    mean, var = x.mean(0, keepdim=True), x.var(0, keepdim=True, correction=0)
    return gamma.reshape(1, -1, 1, 1) * (x - mean) * torch.rsqrt(var + eps) + beta.reshape(1, -1, 1, 1)
