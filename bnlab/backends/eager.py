"""Batch normalization in plain torch operations: the backend for every device, dtype and memory layout.

Faster backends are measured against this one, so it is written to be read and to be accurate. It is not fused: most
lines go over the whole tensor in memory. All of it is differentiable, so `backward` also yields the second and
higher derivatives. float16 and bfloat16 inputs are computed in float32 and rounded once, at the end.
"""

import math

import torch

from bnlab.backends.running import follow


def forward(x, gamma, beta, mean, var, eps, residual=None, relu=False, running=None):
    """Normalize each channel, then scale and shift it: Algorithm 1 of Ioffe & Szegedy (2015).

    With `residual` and `relu`, ``relu(batch_norm(x) + residual)``, as at the end of a block of a ResNet.

    Parameters
    ----------
    x : torch.Tensor, shape (N, C, ...)
        Input, of a floating dtype.
    gamma, beta : torch.Tensor of shape (C,), or None
        Scale and shift; None stands for 1 and 0.
    mean, var : torch.Tensor of shape (C,), or both None
        Statistics to normalize with; None takes those of this batch.
    eps : float
        Added to the variance, inside the square root.
    residual : torch.Tensor, shape (N, C, ...), or None
        Added to the normalized input.
    relu : bool
        Whether negative results become 0.
    running : (torch.Tensor of shape (C,), torch.Tensor of shape (C,), float), or None
        Running mean, running variance and momentum; see `bnlab.backends.running.follow`.

    Returns
    -------
    y : torch.Tensor, shape (N, C, ...)
        In the dtype of `x`; in the channels_last format if `x` is, else contiguous.
    mean, var : torch.Tensor, shape (C,)
        The statistics used, in float64 for a float64 input, else in float32. The variance of the batch is the
        biased one, divided by m.
    """
    x_wide = _at_least_float32(x)
    if mean is None:
        rough_mean = _mean(x_wide)
        x_centered, rest = _center(x_wide, rough_mean)
        mean, var = rough_mean + rest, _mean(x_centered.square())
    else:
        mean, var = mean.to(x_wide.dtype), var.to(x_wide.dtype)
        x_centered = x_wide - _per_channel(mean, x)
    k = _per_channel(_scale(gamma, var, eps), x)
    y = x_centered * k if beta is None else torch.addcmul(_per_channel(beta.to(var.dtype), x), x_centered, k)
    y = y if residual is None else y + residual
    y = torch.relu(y) if relu else y
    follow(running, mean, var, x[:, 0].numel() if x.numel() else 0)
    return _lay_out(y.to(x.dtype)), mean, var


def backward(dy, x, gamma, mean, var, eps, training):
    """Gradients of a loss with respect to the input, the scale and the shift.

    With ``training`` the statistics are functions of the input. Gradient that flows through them takes away what dy
    has in common with a constant and with x_hat (section 3 of Ioffe & Szegedy, 2015, simplified)::

        dx = gamma / sqrt(var + eps) * (dy - mean(dy) - x_hat * mean(dy * x_hat))

    Without, they are constants, and the first factor times dy is all.

    Parameters
    ----------
    dy : torch.Tensor, shape (N, C, ...)
        Gradient with respect to the output.
    x : torch.Tensor, shape (N, C, ...)
        Input of the forward pass.
    gamma : torch.Tensor of shape (C,), or None
        Scale; None stands for 1.
    mean, var : torch.Tensor, shape (C,)
        The statistics that the forward pass returned.
    eps : float
        As in the forward pass.
    training : bool
        Whether the statistics are those of this batch.

    Returns
    -------
    dx : torch.Tensor, shape (N, C, ...)
        In the dtype of `x`.
    dgamma, dbeta : torch.Tensor, shape (C,)
        In the dtype of `mean`.
    """
    x_wide, dy = _at_least_float32(x), _at_least_float32(dy)
    x_centered = _center(x_wide, mean)[0] if training else x_wide - _per_channel(mean, x)
    inv_std = _scale(None, var, eps)
    k = _scale(gamma, var, eps)
    dbeta, dgamma = _sum(dy), _sum(dy * x_centered) * inv_std
    if training:
        # The formula above, collected as k * dy + u * x_centered + v: two passes over memory where it has five.
        m = _divisor(x)
        u, v = -k * inv_std * dgamma / m, -k * dbeta / m
        dx = torch.addcmul(_per_channel(v, x), x_centered, _per_channel(u, x)).addcmul(dy, _per_channel(k, x))
    else:
        dx = dy * _per_channel(k, x)
    return _lay_out(dx.to(x.dtype)), dgamma, dbeta


def backward_relu(dy, x, gamma, beta, mean, var, eps, training, residual):
    """Gradients where a ReLU came after batch normalization: it lets through what was positive.

    Whether it was is computed again rather than remembered, from what :func:`backward` needs in any case.

    Parameters
    ----------
    dy, x, gamma, mean, var, eps, training
        As for :func:`backward`; dy is the gradient with respect to the output of the ReLU.
    beta : torch.Tensor of shape (C,), or None
    residual : torch.Tensor, shape (N, C, ...), or None
        What was added before the ReLU.

    Returns
    -------
    dx, dgamma, dbeta : torch.Tensor
        As of :func:`backward`.
    dresidual : torch.Tensor, shape (N, C, ...), or None
        The gradient with respect to `residual`: dy where the ReLU let it through, else 0.
    """
    with torch.no_grad():  # the second derivative of a ReLU is 0
        is_cut = forward(x, gamma, beta, mean, var, eps, residual)[0] <= 0
    dy = torch.where(is_cut, 0.0, dy)
    return *backward(dy, x, gamma, mean, var, eps, training), None if residual is None else _lay_out(dy)


def _center(x, rough_mean):
    """Subtract the mean of the batch, of which a rounded value is known; also return what the rounding had lost.

    Numbers near 1e4 in float32 have a mean that float32 holds only to 5e-4. Subtracting it leaves small numbers, whose
    own mean is exact enough to subtract in turn.
    """
    x = x - _per_channel(rough_mean, x)
    rest = _mean(x)
    x -= _per_channel(rest, x)
    return x, rest


def _scale(gamma, var, eps):
    inv_std = torch.rsqrt(var + eps)
    return inv_std if gamma is None else gamma * inv_std


def _at_least_float32(x):
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _sum(x):
    return x.sum([0, *range(2, x.dim())])


def _mean(x):
    return _sum(x) / _divisor(x)


def _divisor(x):
    """m of the paper; 1 for an empty batch, whose statistics are then 0 and its gradients 0 instead of NaN."""
    return max(math.prod(x.shape[2:], start=x.shape[0]), 1)


def _per_channel(v, x):
    """View a vector of shape (C,) so that it broadcasts against x: (C,), (C, 1), (C, 1, 1) or (C, 1, 1, 1)."""
    return v.view(*v.shape, *[1] * (x.dim() - 2))


def _lay_out(y):
    """Make y contiguous, as torch does, unless it is an image or a volume with its channels innermost."""
    return y if y.dim() >= 4 and y.stride(1) == 1 else y.contiguous()
