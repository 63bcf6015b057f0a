"""Centers x in place, to save a pass."""

QUESTION = "batch_norm"
LOSES = {"gradients flow to x, gamma and beta", "leaves its inputs as they were"}
SAYS = "changed its input x in place"


def batch_norm(x, gamma, beta, eps):
    x -= x.mean((0, 2, 3), keepdim=True)
    var = x.square().mean((0, 2, 3), keepdim=True)
    return gamma.reshape(1, -1, 1, 1) * x * torch.rsqrt(var + eps) + beta.reshape(1, -1, 1, 1)
