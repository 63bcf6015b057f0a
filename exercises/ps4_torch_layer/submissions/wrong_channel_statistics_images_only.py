"""Averages over the axes 0, 2, 3, whatever the rank."""

QUESTION = "channel_statistics"
LOSES = {"any rank"}
SAYS = "find them from x.dim()"


def channel_statistics(x):
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    axes = [0, 2, 3]
    mean = x.mean(dim=axes)
    x_centered = x - mean.view(-1, *[1] * (x.dim() - 2))
    return mean, x_centered.square().mean(dim=axes)
