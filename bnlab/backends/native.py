"""torch's own kernels, for large tensors where nothing of ours is faster, or is not installed.

They are right where torch's are right. On a CPU torch sums channels_last input in float32, and loses the variance once
the mean is thousands of standard deviations from 0: such tensors are not taken.
"""

import torch

from bnlab.backends.running import follow


def takes(x):
    """Whether torch's kernels are right for this tensor, and made for it."""
    if not x.numel() or x.device.type not in ("cpu", "cuda"):
        return False
    return x.device.type == "cuda" or x.is_contiguous()


def forward(x, gamma, beta, mean, var, eps, residual=None, relu=False, running=None):
    """Normalize each channel, then scale and shift it; see `bnlab.backends.eager.forward`.

    Parameters
    ----------
    x : torch.Tensor, shape (N, C, ...)
    gamma, beta : torch.Tensor of shape (C,), or None
    mean, var : torch.Tensor of shape (C,), or both None
    eps : float
    residual : torch.Tensor, shape (N, C, ...), or None
    relu : bool
    running : (torch.Tensor of shape (C,), torch.Tensor of shape (C,), float), or None

    Returns
    -------
    y : torch.Tensor, shape (N, C, ...)
    mean, var : torch.Tensor, shape (C,)
        In float64 for a float64 input, else in float32.
    """
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    training = mean is None
    if training:
        # By momentum 1 the running statistics become those of the batch, the variance divided by m - 1.
        mean, var = (torch.zeros(x.shape[1], dtype=wide, device=x.device) for _ in range(2))
    mean, var = mean.to(wide), var.to(wide)
    y = torch.batch_norm(x, _to(wide, gamma), _to(wide, beta), mean, var, training, 1.0, eps, True)
    if training:
        m = x.numel() // x.shape[1]
        var *= (m - 1) / m
        follow(running, mean, var, m)
    y = y if residual is None else y.add_(residual)
    return (y.relu_() if relu else y), mean, var


def backward(dy, x, gamma, mean, var, eps, training):
    """Gradients with respect to the input, the scale and the shift; see `bnlab.backends.eager.backward`.

    Parameters
    ----------
    dy, x : torch.Tensor, shape (N, C, ...)
    gamma : torch.Tensor of shape (C,), or None
    mean, var : torch.Tensor, shape (C,)
        As the forward pass returned them.
    eps : float
    training : bool

    Returns
    -------
    dx : torch.Tensor, shape (N, C, ...)
    dgamma, dbeta : torch.Tensor, shape (C,)
    """
    gamma = torch.ones_like(mean) if gamma is None else gamma.to(mean.dtype)
    # The statistics stand twice in torch's signature: those of the batch, and the running ones.
    return torch.ops.aten.native_batch_norm_backward(
        dy, x, gamma, mean, var, mean, torch.rsqrt(var + eps), training, eps, [True, True, True]
    )


def backward_relu(dy, x, gamma, beta, mean, var, eps, training, residual):
    """Gradients where a ReLU came after batch normalization; see `bnlab.backends.eager.backward_relu`."""
    is_cut = forward(x, gamma, beta, mean, var, eps, residual)[0] <= 0
    dy = dy.masked_fill(is_cut, 0.0)
    return *backward(dy, x, gamma, mean, var, eps, training), None if residual is None else dy


def _to(dtype, v):
    return None if v is None else v.to(dtype)
