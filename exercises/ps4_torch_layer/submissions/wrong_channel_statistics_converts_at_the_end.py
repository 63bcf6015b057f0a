"""Computes in half precision and converts the results to float32."""

QUESTION = "channel_statistics"
LOSES = {"half precision: computed and returned in float32"}
SAYS = "before the conversion"


def channel_statistics(x):
    axes = [0, *range(2, x.dim())]
    mean = x.mean(dim=axes)
    x_centered = x - mean.view(-1, *[1] * (x.dim() - 2))
    var = x_centered.square().mean(dim=axes)
    if x.dtype in (torch.float16, torch.bfloat16):
        mean, var = mean.float(), var.float()
    return mean, var
