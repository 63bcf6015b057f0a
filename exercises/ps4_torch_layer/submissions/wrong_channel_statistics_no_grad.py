"""Computes the statistics under no_grad: backward takes them for constants."""

QUESTION = "channel_statistics"
LOSES = {"gradient flows through both"}
SAYS = "No gradient gets from mean"


def channel_statistics(x):
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    axes = [0, *range(2, x.dim())]
    with torch.no_grad():
        return x.mean(dim=axes), x.var(dim=axes, correction=0)
