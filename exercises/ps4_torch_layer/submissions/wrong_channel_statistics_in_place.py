"""Subtracts the mean from x in place."""

QUESTION = "channel_statistics"
LOSES = {"leaves its inputs as they were"}
SAYS = "in place"


def channel_statistics(x):
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    axes = [0, *range(2, x.dim())]
    mean = x.mean(dim=axes)
    x.detach().sub_(mean.detach().view(-1, *[1] * (x.dim() - 2)))  # so that autograd does not complain
    return mean, x.var(dim=axes, correction=0)
