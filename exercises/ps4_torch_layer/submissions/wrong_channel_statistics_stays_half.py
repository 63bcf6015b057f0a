"""Returns statistics in the half dtype of the input."""

QUESTION = "channel_statistics"
LOSES = {"half precision: computed and returned in float32"}
SAYS = "float32"


def channel_statistics(x):
    if x.dtype in (torch.float16, torch.bfloat16):
        return tuple(statistic.to(x.dtype) for statistic in channel_statistics(x.float()))
    axes = [0, *range(2, x.dim())]
    mean = x.mean(dim=axes)
    x_centered = x - mean.view(-1, *[1] * (x.dim() - 2))
    return mean, x_centered.square().mean(dim=axes)
