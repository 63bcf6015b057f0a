"""Mean of the squares minus square of the mean: loses all digits at a large mean."""

QUESTION = "channel_statistics"
LOSES = {"variance of a channel with a large mean"}
SAYS = "Subtract the mean from x first"


def channel_statistics(x):
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    axes = [0, *range(2, x.dim())]
    mean = x.mean(dim=axes)
    return mean, x.square().mean(dim=axes) - mean.square()
