"""Uses torch's default: the variance with correction, divided by m - 1."""

QUESTION = "channel_statistics"
LOSES = {"mean and variance of images", "any rank", "gradient flows through both"}
SAYS = "divides by m - 1"


def channel_statistics(x):
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    axes = [0, *range(2, x.dim())]
    return x.mean(dim=axes), x.var(dim=axes)
