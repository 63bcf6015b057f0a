"""Flattens the positions with view, which needs them in one order in memory."""

QUESTION = "channel_statistics"
LOSES = {"any order in memory"}
SAYS = "use `.reshape`"


def channel_statistics(x):
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    flat = x.view(x.shape[0], x.shape[1], -1)
    return flat.mean(dim=(0, 2)), flat.var(dim=(0, 2), correction=0)
