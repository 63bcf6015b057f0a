"""Batch normalization in NumPy: the executable specification.

What it is for: to say, in code that reads like Ioffe & Szegedy (2015), what batch normalization computes, forward and
backward, in training and in evaluation. The other implementations, the chapters and the exercise checks are compared
with it. What it isn't: a layer (it holds no parameters) or a fast kernel.

**Axes.** Axis 0 is the batch (N), axis 1 the channels (C), the others are positions: x is (N, C), (N, C, L),
(N, C, H, W), (N, C, D, H, W), and so on. Each channel is normalized over its m = N * (number of positions) values.

**Variance.** mu and var are the mean and the *biased* variance (divide by m). Running statistics keep the unbiased
variance (divide by m - 1). The variance takes two passes: :mod:`bnlab.moments` shows what one pass can do.

**Momentum** is torch's: running = (1 - momentum) * running + momentum * batch.

**Precision.** All arithmetic is done in float64 (or in x's own dtype, if that is wider), and each result is rounded
once, to the dtype of what it belongs to: y and dx to x's, dgamma to gamma's, dbeta to beta's. So float32 or float16
data at a mean of 1e4 lose nothing but that last rounding; a float32 sum could not promise it. The price is memory: the
cache of a float32 batch is twice as large as the batch.

**NaN.** A NaN or an infinity in x makes its own channel NaN, and no other.

**Relatives.** Group, layer and instance normalization average over parts of one example instead of over the batch. They
are here to be compared with, and they are the same code: one example with a channel for each of its groups.

Source: S. Ioffe and C. Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
Shift", ICML 2015, https://arxiv.org/abs/1502.03167. Algorithm 1 is the transform, Section 3 has its gradients,
Algorithm 2 the statistics for inference.
"""

import math
from typing import NamedTuple

import numpy as np

__all__ = [
    "Cache",
    "Gradients",
    "GroupCache",
    "RunningStatistics",
    "StagedGradients",
    "batch_norm_backward",
    "batch_norm_backward_staged",
    "batch_norm_forward",
    "group_norm_backward",
    "group_norm_forward",
    "instance_norm_forward",
    "layer_norm_forward",
]


class Cache(NamedTuple):
    """What :func:`batch_norm_forward` hands to the backward pass.

    Attributes
    ----------
    x_hat : ndarray, same shape as x
        The normalized values, before gamma and beta, in float64 (see "Precision" in :mod:`bnlab.reference`).
    mu, var : ndarray of shape (C,)
        The statistics that normalized x: the batch's in training, the running ones in evaluation. var is biased.
    inv_std : ndarray of shape (C,)
        1 / sqrt(var + eps).
    gamma, beta : ndarray of shape (C,), or None
        Copies of the parameters as they were.
    m : int
        Values per channel: N times the number of positions.
    training : bool
        Whether mu and var came from x, so that gradients flow through them.
    dtype : numpy.dtype
        The dtype of x, y and dx.
    """

    x_hat: np.ndarray
    mu: np.ndarray
    var: np.ndarray
    inv_std: np.ndarray
    gamma: np.ndarray | None
    beta: np.ndarray | None
    m: int
    training: bool
    dtype: np.dtype


class Gradients(NamedTuple):
    """The gradients of a loss with respect to the inputs of :func:`batch_norm_forward`.

    Attributes
    ----------
    dx : ndarray, same shape and dtype as x
    dgamma, dbeta : ndarray of shape (C,), or None where there was no such parameter
    """

    dx: np.ndarray
    dgamma: np.ndarray | None
    dbeta: np.ndarray | None


class StagedGradients(NamedTuple):
    """The gradient of a loss with respect to every node of the computational graph.

    Attributes
    ----------
    dx, dgamma, dbeta
        As in :class:`Gradients`.
    dx_hat : ndarray, same shape as x
        With respect to the normalized values.
    dinv_std : ndarray of shape (C,)
        With respect to 1 / sqrt(var + eps).
    dvar : ndarray of shape (C,)
        With respect to the variance.
    dcentered : ndarray, same shape as x
        With respect to x - mu.
    dmu : ndarray of shape (C,)
        With respect to the mean.
    """

    dx: np.ndarray
    dgamma: np.ndarray | None
    dbeta: np.ndarray | None
    dx_hat: np.ndarray
    dinv_std: np.ndarray
    dvar: np.ndarray
    dcentered: np.ndarray
    dmu: np.ndarray


class RunningStatistics:
    """The statistics that evaluation uses: averages over the training batches.

    With a momentum they are exponential moving averages, which start at mean 0 and variance 1. With ``momentum=None``
    they are plain averages over the batches so far, which is Algorithm 2 of Ioffe & Szegedy (2015).

    Parameters
    ----------
    num_channels : int
        C.
    momentum : float in [0, 1], or None
        The weight of the newest batch, as in torch. In Keras and Flax "momentum" is the weight of the past: one minus
        this.

    Attributes
    ----------
    mean, var : ndarray of shape (C,)
        float64. Replaced, never changed in place, by :meth:`update`; assign to them to set them by hand.
    momentum : float or None
    num_batches_tracked : int
        How many times :meth:`update` was called.

    Raises
    ------
    ValueError
        If momentum is outside [0, 1]. torch takes any number; outside, a running variance can turn negative.

    Examples
    --------
    >>> running = RunningStatistics(2, momentum=0.1)
    >>> running.update(mu=np.array([1.0, 2.0]), var=np.array([3.0, 0.0]), m=4)
    >>> running
    RunningStatistics(mean=[0.1, 0.2], var=[1.3, 0.9], momentum=0.1, num_batches_tracked=1)
    """

    def __init__(self, num_channels: int, momentum: float | None = 0.1):
        if momentum is not None and not 0 <= momentum <= 1:
            raise ValueError(
                f"momentum is {momentum}, but it is the weight of the newest batch: give a number from 0 to 1, "
                "or None for a plain average over the batches"
            )
        self.mean = np.zeros(num_channels)
        self.var = np.ones(num_channels)
        self.momentum = momentum
        self.num_batches_tracked = 0

    def update(self, mu: np.ndarray, var: np.ndarray, m: int) -> None:
        """Take in the statistics of one training batch.

        After ``y, cache = batch_norm_forward(...)`` in training, this is
        ``running.update(cache.mu, cache.var, cache.m)``.

        Parameters
        ----------
        mu, var : ndarray of shape (C,)
            Mean and biased variance of the batch.
        m : int
            Values per channel. The unbiased variance, var * m / (m - 1), is what goes into the average.

        Raises
        ------
        ValueError
            If mu or var has another shape than (C,), or if m is 1: one value has no unbiased variance.

        Notes
        -----
        An empty batch (m = 0) leaves mean and var as they are but is counted, as in torch. With ``momentum=None`` it
        therefore gives the past one share too many in the average.

        A NaN stays: after one bad batch the running statistics of that channel are NaN for good.
        """
        mu = _checked_channels("mu", mu, len(self.mean), "the running statistics have")
        var = _checked_channels("var", var, len(self.mean), "the running statistics have")
        if m == 1:
            raise ValueError(
                "the batch has m = 1 value per channel, whose unbiased variance, var * m / (m - 1), does not exist: "
                "update the running statistics from batches with m > 1"
            )
        self.num_batches_tracked += 1
        if m == 0:
            return
        weight = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
        self.mean = (1 - weight) * self.mean + weight * mu
        self.var = (1 - weight) * self.var + weight * var * m / (m - 1)

    def __repr__(self) -> str:
        return (
            f"RunningStatistics(mean={self.mean.tolist()}, var={self.var.tolist()}, momentum={self.momentum}, "
            f"num_batches_tracked={self.num_batches_tracked})"
        )


def batch_norm_forward(
    x: np.ndarray,
    gamma: np.ndarray | None = None,
    beta: np.ndarray | None = None,
    *,
    running: RunningStatistics | None = None,
    training: bool = True,
    eps: float = 1e-5,
) -> tuple[np.ndarray, Cache]:
    """Normalize each channel of x, then scale it by gamma and shift it by beta: Ioffe & Szegedy (2015), Algorithm 1.

    A pure function: it changes none of its arguments. In training the caller updates the running statistics, in one
    line of its own, as in the example.

    Parameters
    ----------
    x : ndarray of shape (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W)
        Floating point, in any memory layout; y has the same layout.
    gamma, beta : ndarray of shape (C,), optional
        Scale and shift of each channel, floating point. Without them, 1 and 0.
    running : RunningStatistics, optional
        Where evaluation finds its ``mean`` and ``var``, both of shape (C,); anything with these two attributes does,
        such as :class:`bnlab.moments.Moments`. Training does not look at it.
    training : bool
        True normalizes x with its own statistics; False uses those of ``running``, so each example is treated alike
        whatever else is in the batch.
    eps : float
        Added to the variance, inside the square root. Positive; in evaluation 0 is allowed.

    Returns
    -------
    y : ndarray, same shape and dtype as x
    cache : Cache
        What the backward pass needs. In training its ``mu``, ``var`` and ``m`` are the statistics of the batch.

    Raises
    ------
    TypeError
        If x, gamma or beta does not hold real floating point numbers.
    ValueError
        If x has fewer than two axes; if gamma, beta or a running statistic has another shape than (C,); if eps is not
        positive (in evaluation: negative); if training meets a single value per channel; if evaluation has no
        ``running``.

    Notes
    -----
    An empty batch gives an empty y, as in torch. Its cache has m = 0, and mu = var = 0 by convention.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> gamma, beta = np.array([1.0, 2.0]), np.array([0.0, -1.0])
    >>> running = RunningStatistics(2)
    >>> y, cache = batch_norm_forward(rng.normal(5, 3, (64, 2)), gamma, beta)
    >>> running.update(cache.mu, cache.var, cache.m)
    >>> print(y.mean(axis=0).round(6) + 0.0, y.std(axis=0).round(3))
    [ 0. -1.] [1. 2.]
    >>> y, _ = batch_norm_forward(rng.normal(5, 3, (1, 2)), gamma, beta, running=running, training=False)
    >>> y.shape
    (1, 2)
    """
    x = _checked_floating("x", x)
    if x.ndim < 2:
        raise ValueError(
            f"x has shape {x.shape}, but a batch and a channel axis are needed: give (N, C), (N, C, L), (N, C, H, W) "
            "or (N, C, D, H, W); one example x becomes a batch of one as x[None]"
        )
    channels = x.shape[1]
    gamma = None if gamma is None else _checked_channels("gamma", gamma, channels).copy()
    beta = None if beta is None else _checked_channels("beta", beta, channels).copy()
    wide = np.result_type(x.dtype, np.float64)

    values = _channels_last(x)  # so that statistics of shape (C,) broadcast; a view, nothing is copied
    m = math.prod(values.shape[:-1])
    if training:
        if m == 1:
            raise ValueError(
                f"expected more than 1 value per channel when training, but x has shape {x.shape}: one value has no "
                "variance, and y would be beta whatever x is. Use a larger batch, or training=False"
            )
        if not eps > 0:
            raise ValueError(f"eps is {eps}, but training needs a positive one, such as 1e-5, since x may be constant")
        mu = _mean(values, wide)
        centered = values - mu
        var = _mean(np.square(centered), wide)
    else:
        if running is None:
            raise ValueError(
                "evaluation (training=False) needs running statistics: pass running=RunningStatistics(...), "
                "or training=True to use those of x"
            )
        if not eps >= 0:
            raise ValueError(f"eps is {eps}, but it is added to a variance: give 0 or a positive number, such as 1e-5")
        mu = _checked_channels("running.mean", running.mean, channels).astype(wide)
        var = _checked_channels("running.var", running.var, channels).astype(wide)
        centered = values - mu

    inv_std = 1 / np.sqrt(var + eps)
    x_hat = np.multiply(centered, inv_std, out=centered)  # in place: large temporaries cost more than the arithmetic
    y = x_hat * (np.ones(channels) if gamma is None else gamma)
    y += np.zeros(channels) if beta is None else beta

    cache = Cache(_channels_second(x_hat), mu, var, inv_std, gamma, beta, m, training, x.dtype)
    return _channels_second(y).astype(x.dtype, copy=False), cache


def batch_norm_backward(dy: np.ndarray, cache: Cache) -> Gradients:
    """The gradients of batch normalization, in the simplified form.

    In training each x reaches the loss in three ways: directly, through mu and through var. Collecting the terms of
    :func:`batch_norm_backward_staged` leaves, per channel::

        dx = gamma * inv_std * (dy - dbeta / m - x_hat * dgamma / m)

    with dbeta = sum(dy) and dgamma = sum(dy * x_hat). So dx sums to zero over the batch and is orthogonal to x_hat (but
    for eps): the loss does not change when a channel is shifted or scaled. In evaluation mu and var are constants, and
    ``dx = gamma * inv_std * dy``.

    Parameters
    ----------
    dy : ndarray, same shape as x
        Gradient of the loss with respect to y, floating point.
    cache : Cache
        From :func:`batch_norm_forward`.

    Returns
    -------
    Gradients
        dx, dgamma, dbeta; dgamma or dbeta is None where there was no such parameter.

    Raises
    ------
    TypeError
        If dy does not hold real floating point numbers.
    ValueError
        If dy has another shape than x.
    """
    dy, x_hat, gamma = _backward_inputs(dy, cache)
    m = max(cache.m, 1)  # an empty batch has nothing to divide

    dbeta = _sum(dy, x_hat.dtype)
    dgamma = _sum(dy * x_hat, x_hat.dtype)
    scale = gamma * cache.inv_std
    if cache.training:
        dx = scale * (dy - dbeta / m - x_hat * (dgamma / m))
    else:
        dx = scale * dy
    return _rounded(cache, dx, dgamma, dbeta)


def batch_norm_backward_staged(dy: np.ndarray, cache: Cache) -> StagedGradients:
    """The gradients of batch normalization, one node of the computational graph at a time.

    The forward graph is ``mu -> centered = x - mu -> var -> inv_std -> x_hat -> y``. This walks it backwards, as
    Section 3 of Ioffe & Szegedy (2015) does, and returns what it finds at each node: the same values as automatic
    differentiation would.

    Parameters
    ----------
    dy : ndarray, same shape as x
        Gradient of the loss with respect to y, floating point.
    cache : Cache
        From :func:`batch_norm_forward`.

    Returns
    -------
    StagedGradients
        dx, dgamma, dbeta as :func:`batch_norm_backward` returns them, then the intermediates, in float64.

    Raises
    ------
    TypeError
        If dy does not hold real floating point numbers.
    ValueError
        If dy has another shape than x.

    Notes
    -----
    In evaluation, dvar and dmu are the derivatives with respect to the running variance and mean. Nothing flows from
    there to x, since x had no part in them.
    """
    dy, x_hat, gamma = _backward_inputs(dy, cache)
    inv_std = cache.inv_std
    centered = x_hat / inv_std
    m = max(cache.m, 1)  # an empty batch has nothing to divide

    # y = gamma * x_hat + beta
    dbeta = _sum(dy, x_hat.dtype)
    dgamma = _sum(dy * x_hat, x_hat.dtype)
    dx_hat = dy * gamma
    # x_hat = centered * inv_std
    dinv_std = _sum(dx_hat * centered, x_hat.dtype)
    dcentered = dx_hat * inv_std
    # inv_std = (var + eps) ** (-1 / 2)
    dvar = -1 / 2 * inv_std**3 * dinv_std
    # var = mean(centered ** 2): the second way by which centered matters, if var came from x
    if cache.training:
        dcentered = dcentered + dvar * 2 / m * centered
    # centered = x - mu
    dmu = -_sum(dcentered, x_hat.dtype)
    dx = dcentered
    # mu = mean(x): the second way by which x matters, if mu came from x
    if cache.training:
        dx = dx + dmu / m

    return StagedGradients(
        *_rounded(cache, dx, dgamma, dbeta),
        dx_hat=_channels_second(dx_hat),
        dinv_std=dinv_std,
        dvar=dvar,
        dcentered=_channels_second(dcentered),
        dmu=dmu,
    )


class GroupCache(NamedTuple):
    """What :func:`group_norm_forward` hands to the backward pass.

    Attributes
    ----------
    groups : Cache
        That of the batch normalization by which it was computed, of an array of shape (1, N * G, values per group).
        So ``groups.mu.reshape(N, G)`` are the means, and ``groups.m`` is the number of values behind each.
    x_hat : ndarray, same shape as x
        The normalized values, before gamma and beta, in float64.
    gamma, beta : ndarray of shape (C,), or None
        Copies of the parameters as they were.
    dtype : numpy.dtype
        The dtype of x, y and dx.
    """

    groups: Cache
    x_hat: np.ndarray
    gamma: np.ndarray | None
    beta: np.ndarray | None
    dtype: np.dtype


def group_norm_forward(
    x: np.ndarray,
    num_groups: int,
    gamma: np.ndarray | None = None,
    beta: np.ndarray | None = None,
    *,
    eps: float = 1e-5,
) -> tuple[np.ndarray, GroupCache]:
    """Normalize each group of channels of each example, then scale and shift each channel: Wu & He (2018), section 3.

    Channel c belongs to group ``c // (C // num_groups)``. mu and the biased var are taken over the channels of a group
    and all positions of one example. No example takes part in the output for another, so there are no running
    statistics, and evaluation is training.

    Parameters
    ----------
    x : ndarray of shape (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W)
        Floating point.
    num_groups : int
        G. It divides C. 1 is layer normalization, C is instance normalization.
    gamma, beta : ndarray of shape (C,), optional
        Scale and shift of each channel. Without them, 1 and 0.
    eps : float
        Added to the variance, inside the square root. Positive.

    Returns
    -------
    y : ndarray, same shape and dtype as x
    cache : GroupCache
        What the backward pass needs.

    Raises
    ------
    TypeError
        If x, gamma or beta does not hold real floating point numbers.
    ValueError
        If x has fewer than two axes; if num_groups does not divide C; if gamma or beta has another shape than (C,); if
        a group has a single value; if eps is not positive.

    References
    ----------
    Y. Wu and K. He, "Group Normalization", ECCV 2018, https://arxiv.org/abs/1803.08494, equations 1, 2, 3 and 7.

    Examples
    --------
    >>> y, _ = group_norm_forward(np.array([[1.0, 3.0, 10.0, 30.0]]), num_groups=2)
    >>> y.round(3).tolist()
    [[-1.0, 1.0, -1.0, 1.0]]
    """
    x = _checked_floating("x", x)
    if x.ndim < 2:
        raise ValueError(
            f"x has shape {x.shape}, but a batch and a channel axis are needed: give (N, C) or (N, C, ...)"
        )
    batch, channels = x.shape[:2]
    if num_groups < 1 or channels % num_groups:
        raise ValueError(
            f"num_groups is {num_groups}, but x has {channels} channels: give a number that divides {channels}"
        )
    gamma = None if gamma is None else _checked_channels("gamma", gamma, channels).copy()
    beta = None if beta is None else _checked_channels("beta", beta, channels).copy()
    per_group = math.prod(x.shape[1:]) // num_groups
    if per_group == 1:
        raise ValueError(
            f"x has shape {x.shape}, so that each of {num_groups} groups has a single value, which has no variance: "
            "give fewer groups"
        )
    _, groups = batch_norm_forward(x.reshape(1, batch * num_groups, per_group), eps=eps)
    x_hat = groups.x_hat.reshape(x.shape)
    values = _channels_last(x_hat)
    y = values * (1.0 if gamma is None else gamma) + (0.0 if beta is None else beta)
    return _channels_second(y).astype(x.dtype, copy=False), GroupCache(groups, x_hat, gamma, beta, x.dtype)


def group_norm_backward(dy: np.ndarray, cache: GroupCache) -> Gradients:
    """The gradients of group, layer or instance normalization.

    ::

        dx_hat = gamma * dy
        dx = inv_std * (dx_hat - mean(dx_hat) - x_hat * mean(dx_hat * x_hat))

    with means over the group. That is :func:`batch_norm_backward`, but gamma stands inside the means, because the
    channels of a group differ in it.

    Parameters
    ----------
    dy : ndarray, same shape as x
        Gradient of the loss with respect to y, floating point.
    cache : GroupCache
        From :func:`group_norm_forward`, :func:`layer_norm_forward` or :func:`instance_norm_forward`.

    Returns
    -------
    Gradients
        dx, dgamma, dbeta; dgamma or dbeta is None where there was no such parameter.

    Raises
    ------
    TypeError
        If dy does not hold real floating point numbers.
    ValueError
        If dy has another shape than x.
    """
    dy, x_hat, gamma = _backward_inputs(dy, cache)
    dx_hat = _channels_second(dy * gamma)
    dx = batch_norm_backward(dx_hat.reshape(cache.groups.x_hat.shape), cache.groups).dx.reshape(dx_hat.shape)
    dgamma, dbeta = _sum(dy * x_hat, x_hat.dtype), _sum(dy, x_hat.dtype)
    return _rounded(cache, _channels_last(dx), dgamma, dbeta)


def layer_norm_forward(
    x: np.ndarray, gamma: np.ndarray | None = None, beta: np.ndarray | None = None, *, eps: float = 1e-5
) -> tuple[np.ndarray, GroupCache]:
    """Normalize each example over all its channels and positions: group normalization with one group.

    For dense layers, (N, C), this is layer normalization as Ba, Kiros & Hinton (2016) define it, equation 3. For
    images the name is used in two ways: here, as in Wu & He (2018), positions are averaged over and gamma and beta
    belong to channels. A transformer normalizes each position (token) on its own: hand it over as an example, that is
    x of shape (N, T, C) as ``x.reshape(-1, C)``.

    Parameters, results and errors are those of :func:`group_norm_forward`.

    References
    ----------
    J. L. Ba, J. R. Kiros and G. E. Hinton, "Layer Normalization", 2016, https://arxiv.org/abs/1607.06450.

    Examples
    --------
    >>> y, _ = layer_norm_forward(np.array([[1.0, 3.0], [10.0, 30.0]]))
    >>> y.round(3).tolist()
    [[-1.0, 1.0], [-1.0, 1.0]]
    """
    return group_norm_forward(x, 1, gamma, beta, eps=eps)


def instance_norm_forward(
    x: np.ndarray, gamma: np.ndarray | None = None, beta: np.ndarray | None = None, *, eps: float = 1e-5
) -> tuple[np.ndarray, GroupCache]:
    """Normalize each channel of each example over its positions: group normalization with a group for each channel.

    Parameters, results and errors are those of :func:`group_norm_forward`. x needs positions: the single value that a
    channel of (N, C) has for an example can't be normalized.

    References
    ----------
    D. Ulyanov, A. Vedaldi and V. Lempitsky, "Instance Normalization: The Missing Ingredient for Fast Stylization",
    2016, https://arxiv.org/abs/1607.08022.

    Examples
    --------
    >>> y, _ = instance_norm_forward(np.array([[[1.0, 3.0], [10.0, 30.0]]]))
    >>> y.round(3).tolist()
    [[[-1.0, 1.0], [-1.0, 1.0]]]
    """
    return group_norm_forward(x, np.shape(x)[1] if np.ndim(x) > 1 else 1, gamma, beta, eps=eps)


def _channels_last(a: np.ndarray) -> np.ndarray:
    return np.moveaxis(a, 1, -1)


def _channels_second(a: np.ndarray) -> np.ndarray:
    return np.moveaxis(a, -1, 1)


def _sum(a: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Sum over every axis but the last, which holds the channels, accumulated in dtype."""
    return a.sum(axis=tuple(range(a.ndim - 1)), dtype=dtype)


def _mean(a: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Mean over every axis but the last; 0 for an empty batch, whose sum is 0 and whose m is 0."""
    return _sum(a, dtype) / max(math.prod(a.shape[:-1]), 1)


def _backward_inputs(dy: np.ndarray, cache: Cache | GroupCache) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dy and x_hat with the channels last, and gamma (ones, if there was none)."""
    dy = _checked_floating("dy", dy)
    if dy.shape != cache.x_hat.shape:
        raise ValueError(
            f"dy has shape {dy.shape}, but x and y had {cache.x_hat.shape}: give one gradient for each value of y"
        )
    x_hat = _channels_last(cache.x_hat)
    gamma = np.ones(x_hat.shape[-1]) if cache.gamma is None else cache.gamma
    return _channels_last(dy), x_hat, gamma.astype(x_hat.dtype)


def _rounded(cache: Cache | GroupCache, dx: np.ndarray, dgamma: np.ndarray, dbeta: np.ndarray) -> Gradients:
    """Each gradient in the dtype of what it is the gradient of."""
    return Gradients(
        _channels_second(dx).astype(cache.dtype, copy=False),
        None if cache.gamma is None else dgamma.astype(cache.gamma.dtype, copy=False),
        None if cache.beta is None else dbeta.astype(cache.beta.dtype, copy=False),
    )


def _checked_floating(name: str, a: np.ndarray) -> np.ndarray:
    a = np.asarray(a)
    if not np.issubdtype(a.dtype, np.floating):
        raise TypeError(
            f"{name} has dtype {a.dtype}, but floating point numbers are needed: convert it, "
            f"for example {name}.astype(np.float64)"
        )
    return a


def _checked_channels(name: str, a: np.ndarray, channels: int, owner: str = "x has") -> np.ndarray:
    a = _checked_floating(name, a)
    if a.shape != (channels,):
        raise ValueError(
            f"{name} has shape {a.shape}, but {owner} {channels} channels: give one {name} per channel, "
            f"shape ({channels},)"
        )
    return a
