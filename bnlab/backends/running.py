"""How running statistics follow those of the batches."""

import torch


def follow(running, mean, var, m):
    """Let running statistics follow a batch, in place: ``running = (1 - momentum) * running + momentum * batch``.

    Parameters
    ----------
    running : (torch.Tensor of shape (C,), torch.Tensor of shape (C,), float), or None
        Running mean, running variance and momentum, the weight of the batch; None where nothing follows.
    mean, var : torch.Tensor, shape (C,)
        Of the batch; `var` is divided by m, and what follows it is divided by m - 1.
    m : int
        Values per channel. Of an empty batch there is nothing to follow.
    """
    if running is None or m == 0:
        return
    running_mean, running_var, momentum = running
    for v, batch in ((running_mean, mean), (running_var, var * (m / (m - 1)))):
        if v.dtype == batch.dtype:
            v.lerp_(batch, momentum)
        else:  # of half precision: rounded once
            v.copy_(torch.lerp(v.to(batch.dtype), batch, momentum))
