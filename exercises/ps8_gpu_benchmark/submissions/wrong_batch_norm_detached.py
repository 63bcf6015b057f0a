"""Computes the statistics without gradients: backward takes them for constants."""

QUESTION = "batch_norm"
LOSES = {"gradients flow to x, gamma and beta"}
SAYS = "count as constants"


def batch_norm(x, gamma, beta, eps):
    with torch.no_grad():
        var, mean = torch.var_mean(x, (0, 2, 3), correction=0, keepdim=True)
    return gamma.reshape(1, -1, 1, 1) * (x - mean) * torch.rsqrt(var + eps) + beta.reshape(1, -1, 1, 1)
