"""Relatives of batch normalization: layers that take its statistics from elsewhere, for when the batch is too small.

=========================  ==========================================  =============================================
layer                      normalizes in training with                 what it is for
=========================  ==========================================  =============================================
`GhostBatchNorm1d`, `2d`   parts of the batch, each on its own         large batches that should stay noisy
`BatchRenorm1d`, `2d`      the batch, corrected toward running ones    small batches, or batches not drawn at random
`SyncBatchNorm`            the batches of all processes together       small batches on many devices
`FrozenBatchNorm2d`        numbers that never change                   fine-tuning with small batches
=========================  ==========================================  =============================================

In evaluation all of them are batch normalization: an affine map per channel, given by running statistics. Their
state_dict has the keys of a `torch.nn.BatchNorm2d` (the frozen layer lacks the counter and ignores one), so a
checkpoint loads in either direction. All but the frozen layer are batch normalization layers by type, too, so what
folds those folds them; load a frozen layer's state into a `BatchNorm2d` first.

What this isn't: the relatives that don't look at the batch at all. `torch.nn` has them, as `GroupNorm`, `LayerNorm`
and `InstanceNorm2d`; `bnlab.reference` has them in NumPy.

Shapes: N examples, C channels, m values per channel. "momentum" is torch's, the weight of the new batch.
"""

from bnlab.functional import _check_tensors, _values_per_channel, batch_norm  # noqa: I001  first, as in bnlab.modules
from dataclasses import dataclass
from operator import index

import torch
from torch import distributed
from torch.nn.modules.batchnorm import _BatchNorm

from bnlab import backends, modules

__all__ = [
    "BatchRenorm1d",
    "BatchRenorm2d",
    "FrozenBatchNorm2d",
    "GhostBatchNorm1d",
    "GhostBatchNorm2d",
    "RenormSchedule",
    "SyncBatchNorm",
    "batch_renorm",
    "convert_sync_batch_norm",
    "freeze_batch_norm",
    "ghost_batches",
    "sync_batch_norm",
]


# Ghost batch normalization


def ghost_batches(input, ghost_size):
    """Cut a batch into ghost batches: as many as fit, as even as can be, in order.

    There are ``N // ghost_size`` of them (at least one), and their sizes differ by one at most. So every ghost batch
    has `ghost_size` examples or, where N is no multiple of it, a few more, but never fewer, unless the batch itself
    has. A last ghost batch of what is left over could be a single example, which has no variance.

    Parameters
    ----------
    input : torch.Tensor, shape (N, ...)
    ghost_size : int
        Examples in a ghost batch, at least 1.

    Returns
    -------
    tuple of torch.Tensor
        Views of `input`.

    Raises
    ------
    ValueError
        If `ghost_size` is not a positive integer.

    Examples
    --------
    >>> [len(part) for part in ghost_batches(torch.zeros(12, 3), 4)]
    [4, 4, 4]
    >>> [len(part) for part in ghost_batches(torch.zeros(11, 3), 4)]
    [6, 5]
    """
    return input.tensor_split(max(1, len(input) // _positive(ghost_size)))


def _positive(ghost_size):
    """Return it as a Python integer; NumPy's will do as well."""
    try:
        size = index(ghost_size)
    except TypeError:
        size = 0
    if size < 1:
        raise ValueError(f"ghost_size is {ghost_size!r}: give the number of examples in a ghost batch, such as 32")
    return size


class _Ghost:
    """What `GhostBatchNorm1d` and `GhostBatchNorm2d` add to batch normalization."""

    def __init__(self, num_features, *args, ghost_size, **kwargs):
        ghost_size = _positive(ghost_size)  # before anything is made
        super().__init__(num_features, *args, **kwargs)
        self.ghost_size = ghost_size

    def forward(self, input):
        """Normalize each ghost batch by its own statistics (training), or all by the running ones (evaluation)."""
        if not self.training or input.dim() == 0:  # the second is an error, which super() states
            return super().forward(input)
        return torch.cat([super(_Ghost, self).forward(part) for part in ghost_batches(input, self.ghost_size)])

    def extra_repr(self):
        return f"{super().extra_repr()}, ghost_size={self.ghost_size}"


class GhostBatchNorm1d(_Ghost, modules.BatchNorm1d):
    """Ghost batch normalization of features (N, C) or signals (N, C, L).

    In training, the batch is cut into ghost batches (`ghost_batches`) and each is normalized by its own mean and
    variance, as if it had come alone (Hoffer et al. 2017, Algorithm 1)::

        y = gamma * (x - mu_l) / sqrt(var_l + eps) + beta       for x in ghost batch l

    So a batch of 4096 carries the noise of batches of 32, which regularizes. The running statistics take in one
    ghost batch after the other. With momentum eta and G ghost batches, a step therefore keeps ``(1 - eta) ** G`` of the
    old value, and `num_batches_tracked` counts ghost batches. (The paper averages standard deviations, this layer
    variances, as `torch.nn` does.) Evaluation is that of `BatchNorm1d`.

    A step costs one call of batch normalization per ghost batch and a copy of the output.

    Parameters
    ----------
    num_features, eps, momentum, affine, track_running_stats, device, dtype, bias
        As in `bnlab.BatchNorm1d`.
    ghost_size : int
        Examples in a ghost batch. Keyword only, so that ``functools.partial(GhostBatchNorm1d, ghost_size=32)`` goes
        wherever a network asks for its normalization layer.

    Raises
    ------
    ValueError
        If `ghost_size` is not a positive integer. When called: as `bnlab.BatchNorm1d`, for a ghost batch with one
        value per channel.

    References
    ----------
    Hoffer, Hubara & Soudry (2017), Algorithm 1. https://arxiv.org/abs/1705.08741

    Examples
    --------
    >>> layer = GhostBatchNorm1d(1, ghost_size=2)
    >>> layer(torch.tensor([[0.0], [2.0], [100.0], [102.0]])).round().flatten().tolist()
    [-1.0, 1.0, -1.0, 1.0]
    """


class GhostBatchNorm2d(_Ghost, modules.BatchNorm2d):
    """Ghost batch normalization of images (N, C, H, W): see `GhostBatchNorm1d`.

    Parameters
    ----------
    num_features, eps, momentum, affine, track_running_stats, device, dtype, bias
        As in `bnlab.BatchNorm2d`.
    ghost_size : int
        Examples in a ghost batch, keyword only. 1 is allowed: an image has many values per channel.

    Raises
    ------
    ValueError
        If `ghost_size` is not a positive integer. When called: as `bnlab.BatchNorm2d`.

    References
    ----------
    Hoffer, Hubara & Soudry (2017), Algorithm 1. https://arxiv.org/abs/1705.08741

    Examples
    --------
    >>> layer = GhostBatchNorm2d(3, ghost_size=4)
    >>> y = layer(torch.randn(8, 3, 16, 16))
    >>> layer.num_batches_tracked
    tensor(2)
    """


# Batch renormalization


@dataclass(frozen=True)
class RenormSchedule:
    """How far batch renormalization may correct the batch statistics, as training goes on.

    Up to step `start` not at all, ``(r_max, d_max) = (1, 0)``: that is batch normalization. From there both bounds grow
    linearly, r_max until step `r_end`, d_max until step `d_end`. The defaults are those of Ioffe (2017, section 4) for
    ImageNet; a short training needs its own.

    Parameters
    ----------
    r_max : float, default 3.0
        Final bound of the scale correction: r stays within [1 / r_max, r_max]. At least 1.
    d_max : float, default 5.0
        Final bound of the shift correction: d stays within [-d_max, d_max]. Not negative.
    start, r_end, d_end : int
        Steps. ``RenormSchedule(start=0, r_end=0, d_end=0)`` allows the final bounds at once.

    Raises
    ------
    ValueError
        If a bound or a step is out of range, or an end lies before the start.

    Examples
    --------
    >>> schedule = RenormSchedule()
    >>> schedule(5_000), schedule(15_000), schedule(40_000)
    ((1.0, 0.0), (1.5714285714285714, 2.5), (3.0, 5.0))
    """

    r_max: float = 3.0
    d_max: float = 5.0
    start: int = 5_000
    r_end: int = 40_000
    d_end: int = 25_000

    def __post_init__(self):
        _check_bounds(self.r_max, self.d_max)
        if not 0 <= self.start <= min(self.r_end, self.d_end):
            raise ValueError(
                f"start is {self.start}, r_end {self.r_end} and d_end {self.d_end}: give steps with "
                "0 <= start <= r_end and start <= d_end"
            )

    def __call__(self, step):
        """Return (r_max, d_max) for the step with this number, the first being 0."""

        def share(end):
            return min(1.0, max(0.0, (step - self.start) / (end - self.start))) if end > self.start else step >= end

        return 1.0 + share(self.r_end) * (self.r_max - 1.0), share(self.d_end) * self.d_max


def batch_renorm(
    input, running_mean, running_var, weight=None, bias=None, momentum=0.01, eps=1e-5, *, r_max=3.0, d_max=5.0
):
    """Batch renormalization in training: the transform and the update of Ioffe (2017), Algorithm 1.

    With sigma_B = sqrt(var_B + eps) of the batch and sigma = sqrt(running_var + eps)::

        r = clip(sigma_B / sigma,          1 / r_max, r_max)    constants: no gradient flows
        d = clip((mu_B - running_mean) / sigma, -d_max, d_max)  through r and d
        x_hat = (x - mu_B) / sigma_B * r + d
        y = weight * x_hat + bias

    That is batch normalization whose weight is ``r * weight`` and whose bias is ``bias + d * weight``, and it is
    computed so. As long as nothing is clipped, x_hat is ``(x - running_mean) / sigma``, what evaluation computes. The
    gradient is not that of evaluation: it flows through mu_B and sigma_B.

    Parameters
    ----------
    input : torch.Tensor, shape (N, C) or (N, C, ...)
    running_mean, running_var : torch.Tensor of shape (C,)
        Used, then updated in place: ``mean += momentum * (mu_B - mean)`` and ``sigma += momentum * (sigma_B - sigma)``.
        As in the paper it is the standard deviation that is averaged, and the biased one; ``running_var`` holds its
        square less eps, so that ``sqrt(running_var + eps)`` gives sigma back, here and in a batch normalization.
    weight, bias : torch.Tensor of shape (C,), or None
        gamma and beta.
    momentum : float, default 0.01
        Weight of the new batch.
    eps : float, default 1e-5
        Added to variances, inside the square root.
    r_max, d_max : float
        Bounds of the corrections. 1 and 0 make it batch normalization.

    Returns
    -------
    torch.Tensor, shape of `input`

    Raises
    ------
    ValueError, RuntimeError, NotImplementedError, TypeError
        As `bnlab.functional.batch_norm` in training, and if there are no running statistics or a bound is out of range.
        The running statistics are unchanged then.

    References
    ----------
    Ioffe (2017), Algorithm 1. https://arxiv.org/abs/1702.03275

    Examples
    --------
    >>> running_mean, running_var = torch.zeros(1), torch.ones(1)
    >>> x = torch.tensor([[0.5], [1.5]])  # mean 1, standard deviation 0.5
    >>> batch_renorm(x, running_mean, running_var).flatten()  # (x - 0) / 1: nothing was clipped
    tensor([0.5000, 1.5000])
    >>> running_mean
    tensor([0.0100])
    """
    _check_tensors(input, running_mean, running_var, weight, bias)
    missing = [name for name, v in (("running_mean", running_mean), ("running_var", running_var)) if v is None]
    if missing:
        raise ValueError(
            f"{' and '.join(missing)} not given, but batch renormalization corrects toward the running statistics: "
            f"give tensors of shape ({input.shape[1]},), or use bnlab.functional.batch_norm"
        )
    _check_bounds(r_max, d_max)
    with torch.no_grad():
        count, mu_batch, m2 = _moments(input)
        sigma_batch = torch.sqrt(m2 / max(count, 1) + eps)
        mu, sigma = running_mean.to(m2.dtype), torch.sqrt(running_var.to(m2.dtype) + eps)
        r = (sigma_batch / sigma).clamp(1 / r_max, r_max)
        d = ((mu_batch - mu) / sigma).clamp(-d_max, d_max)
    # In the wide dtype, which batch_norm takes beside a half-precision input: y is rounded once.
    gamma = r if weight is None else weight * r
    beta = d if weight is None else weight * d
    y = batch_norm(input, None, None, gamma, beta if bias is None else beta + bias, training=True, eps=eps)
    if count > 0:
        running_mean.copy_(mu + momentum * (mu_batch - mu))
        sigma = sigma + momentum * (sigma_batch - sigma)
        running_var.copy_((sigma.square() - eps).clamp(min=0))
    return y


def _check_bounds(r_max, d_max):
    if not (r_max >= 1 and d_max >= 0):
        raise ValueError(
            f"r_max is {r_max} and d_max is {d_max}: give r_max >= 1 and d_max >= 0 (1 and 0 are batch normalization)"
        )


class _Renorm:
    """What `BatchRenorm1d` and `BatchRenorm2d` add to batch normalization."""

    def __init__(self, num_features, eps=1e-5, momentum=0.01, affine=True, *, schedule=None, **kwargs):
        if not kwargs.get("track_running_stats", True):
            raise ValueError(
                "track_running_stats is False, but batch renormalization corrects toward the running statistics: "
                "leave it True, or use a batch normalization layer"
            )
        super().__init__(num_features, eps, momentum, affine, **kwargs)
        self.schedule = RenormSchedule() if schedule is None else schedule

    def forward(self, input):
        """Normalize by corrected batch statistics (training) or by the running ones (evaluation)."""
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        step = int(self.num_batches_tracked)
        r_max, d_max = self.schedule(step)
        momentum = 1 / (step + 1) if self.momentum is None else self.momentum
        y = batch_renorm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            momentum,
            self.eps,
            r_max=r_max,
            d_max=d_max,
        )
        self.num_batches_tracked.add_(1)  # only now: a batch that was refused is not counted
        return y

    def extra_repr(self):
        return f"{super().extra_repr()}, schedule={self.schedule}"


class BatchRenorm1d(_Renorm, modules.BatchNorm1d):
    """Batch renormalization of features (N, C) or signals (N, C, L): small batches that train as they are evaluated.

    In training, ``x_hat = (x - mu_B) / sigma_B * r + d``, where r and d correct the batch statistics toward the running
    ones, within bounds that a schedule widens: `batch_renorm` has the equations. Evaluation is that of `BatchNorm1d`.

    The running statistics take part in training, so they must be good: averaged over many batches (a small momentum)
    and, after training with another layer, over this data. The state_dict is that of a batch normalization, and its
    counter, `num_batches_tracked`, is the step that the schedule reads: an interrupted training goes on where it was.

    Parameters
    ----------
    num_features, eps, affine, device, dtype, bias
        As in `bnlab.BatchNorm1d`.
    momentum : float or None, default 0.01
        Weight of the new batch in the running statistics: that of the paper, a tenth of torch's.
    schedule : callable, optional
        From the number of the step to (r_max, d_max). By default `RenormSchedule`, with the paper's steps.

    Raises
    ------
    ValueError
        If ``track_running_stats=False`` is asked for. When called: as `bnlab.BatchNorm1d`.

    References
    ----------
    Ioffe (2017). https://arxiv.org/abs/1702.03275

    Examples
    --------
    >>> layer = BatchRenorm1d(3, schedule=RenormSchedule(start=100, r_end=800, d_end=500))
    >>> layer(torch.randn(4, 3)).shape
    torch.Size([4, 3])
    """


class BatchRenorm2d(_Renorm, modules.BatchNorm2d):
    """Batch renormalization of images (N, C, H, W): see `BatchRenorm1d`.

    Parameters
    ----------
    num_features, eps, affine, device, dtype, bias
        As in `bnlab.BatchNorm2d`.
    momentum : float or None, default 0.01
        Weight of the new batch in the running statistics.
    schedule : callable, optional
        From the number of the step to (r_max, d_max). By default `RenormSchedule`, with the paper's steps.

    Raises
    ------
    ValueError
        If ``track_running_stats=False`` is asked for. When called: as `bnlab.BatchNorm2d`.

    References
    ----------
    Ioffe (2017). https://arxiv.org/abs/1702.03275

    Examples
    --------
    >>> layer = BatchRenorm2d(3)
    >>> layer(torch.randn(2, 3, 8, 8)).shape
    torch.Size([2, 3, 8, 8])
    """


# Synchronized batch normalization


def sync_batch_norm(input, weight=None, bias=None, eps=1e-5, process_group=None):
    """Normalize by the statistics of the batches of all processes, as if they were one batch.

    Every process sends (count, mean, M2) of its own batch, M2 being the sum of squared deviations, and merges what all
    of them sent (Chan, Golub & LeVeque 1983)::

        m = sum(count_p);  mu = sum(count_p * mean_p) / m
        var = sum(M2_p + count_p * (mean_p - mu)**2) / m

    So batches of different sizes weigh what they should, an empty one nothing. The gradient adds up the two sums of
    the backward pass over the processes (Ioffe & Szegedy 2015, section 3)::

        dx = gamma / sqrt(var + eps) * (dy - sum(dy) / m - x_hat * sum(dy * x_hat) / m)

    The gradients of weight and bias are those of this process's examples, as everywhere in data-parallel training,
    where something else adds or averages them.

    Parameters
    ----------
    input : torch.Tensor, shape (N, C) or (N, C, ...)
        The batch of this process. N may differ between processes, and may be 0. C may not.
    weight, bias : torch.Tensor of shape (C,), or None
        gamma and beta, the same in all processes.
    eps : float, default 1e-5
        Added to the variance, inside the square root.
    process_group : torch.distributed.ProcessGroup, optional
        Whose batches to join; by default those of all processes.

    Returns
    -------
    y : torch.Tensor, shape of `input`
    mean, var : torch.Tensor, shape (C,)
        Of the joined batch; the variance is biased.
    count : int
        m, the values per channel in the joined batch.

    Raises
    ------
    ValueError
        In every process, if the joined batch has one value per channel.
    RuntimeError, NotImplementedError, TypeError
        As `bnlab.functional.batch_norm`.

    Notes
    -----
    Every process of the group has to make this call, and its backward pass. One that stops before, for example at an
    error of its own, leaves the others waiting until the group's timeout. 2C + 1 numbers travel forward and 2C
    backward, in float64, which counts exactly. There is no second derivative.

    References
    ----------
    Chan, Golub & LeVeque (1983), https://doi.org/10.1080/00031305.1983.10483115. Ioffe & Szegedy (2015),
    https://arxiv.org/abs/1502.03167.
    """
    _check_tensors(input, None, None, weight, bias)
    y, mean, var, count = _SyncBatchNorm.apply(input, weight, bias, eps, process_group)
    return y, mean, var, int(count)


class _SyncBatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, gamma, beta, eps, group):
        count, mean, m2 = _moments(x)
        mine = torch.cat([mean.new_tensor([count]), mean, m2]).double()
        everyone = [torch.empty_like(mine) for _ in range(distributed.get_world_size(group))]
        distributed.all_gather(everyone, mine, group)

        counts, means, m2s = torch.stack(everyone).split([1, len(mean), len(mean)], dim=1)
        ctx.count = int(counts.sum())
        if ctx.count == 1:
            raise ValueError(
                "Expected more than 1 value per channel when training, but the batches of all processes together "
                "have one: give larger batches, or call .eval() to use the running statistics"
            )
        mean = (counts * means).sum(0) / max(ctx.count, 1)
        var = (m2s + counts * (means - mean).square()).sum(0) / max(ctx.count, 1)
        mean, var = mean.to(m2.dtype), var.to(m2.dtype)
        ctx.eps, ctx.group = eps, group
        ctx.save_for_backward(x, gamma, mean, var)
        count = counts.sum()
        ctx.mark_non_differentiable(mean, var, count)
        return backends.choose(x, gamma, beta, mean, var).forward(x, gamma, beta, mean, var, eps)[0], mean, var, count

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dy, *_):
        x, gamma, mean, var = ctx.saved_tensors
        axes, dy = [0, *range(2, x.dim())], _at_least_float32(dy)
        inv_std = torch.rsqrt(var + ctx.eps)
        x_hat = (_at_least_float32(x) - _per_channel(mean, x)) * _per_channel(inv_std, x)
        dbeta, dgamma = dy.sum(axes), (dy * x_hat).sum(axes)
        sums = torch.stack([dbeta, dgamma]).double()
        distributed.all_reduce(sums, group=ctx.group)
        mean_dy, mean_dy_x_hat = (_per_channel(s, x) for s in (sums / max(ctx.count, 1)).to(dy.dtype))
        scale = inv_std if gamma is None else gamma * inv_std
        dx = _per_channel(scale, x) * (dy - mean_dy - x_hat * mean_dy_x_hat)
        grads = dx.to(x.dtype), dgamma, dbeta
        return *(g if needed else None for g, needed in zip(grads, ctx.needs_input_grad[:3], strict=True)), None, None


class SyncBatchNorm(_BatchNorm):
    """Batch normalization over the batches of all processes: what `torch.nn.SyncBatchNorm` is, on a CPU too.

    In training within an initialized `torch.distributed` process group, mean and variance are those of the joined batch
    (`sync_batch_norm`), and so are the running statistics, which stay equal in all processes. Without a group, with a
    group of one process, and in evaluation it is batch normalization of the batch at hand.

    torch's layer refuses CPU tensors, so it can't be tried without GPUs. This one works with any backend of
    `torch.distributed`. It isn't a subclass of torch's, because `DistributedDataParallel` refuses that type on CPUs.

    Parameters
    ----------
    num_features, eps, momentum, affine, track_running_stats, device, dtype, bias
        As in `bnlab.BatchNorm2d`.
    process_group : torch.distributed.ProcessGroup, optional
        Whose batches to join; by default those of all processes.

    Raises
    ------
    ValueError
        When called with an input of fewer than 2 dimensions, or in training with one value per channel in all.

    See Also
    --------
    convert_sync_batch_norm : for a whole network.

    References
    ----------
    Peng et al. (2018), https://arxiv.org/abs/1711.07240, under the name of cross-GPU batch normalization.

    Examples
    --------
    >>> layer = SyncBatchNorm(2)  # no process group here: plain batch normalization
    >>> layer(torch.tensor([[1.0, 10.0], [3.0, 30.0]])).round().tolist()
    [[-1.0, -1.0], [1.0, 1.0]]
    """

    def __init__(
        self,
        num_features,
        eps=1e-5,
        momentum=0.1,
        affine=True,
        track_running_stats=True,
        process_group=None,
        device=None,
        dtype=None,
        **bias,
    ):
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, **bias)
        self.process_group = process_group

    def _check_input_dim(self, input):
        if input.dim() < 2:
            raise ValueError(f"expected at least 2D input (got {input.dim()}D input): give (N, C) or (N, C, ...)")

    def forward(self, input):
        """Normalize by the statistics of all processes (training) or by the running ones (evaluation)."""
        joined = distributed.is_available() and distributed.is_initialized()
        if not (self.training and joined and distributed.get_world_size(self.process_group) > 1):
            return modules._forward(self, input)
        self._check_input_dim(input)
        y, mean, var, count = sync_batch_norm(input, self.weight, self.bias, self.eps, self.process_group)
        if self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            momentum = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
            if count > 0:
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
                self.running_var.lerp_((var * (count / (count - 1))).to(self.running_var.dtype), momentum)
        return y


def convert_sync_batch_norm(module, process_group=None):
    """Replace every batch normalization in a network by a `SyncBatchNorm` with the same parameters and buffers.

    Parameters
    ----------
    module : torch.nn.Module
        Changed in place, unless it is a batch normalization itself.
    process_group : torch.distributed.ProcessGroup, optional
        Whose batches to join; by default those of all processes.

    Returns
    -------
    torch.nn.Module
        `module`, or its replacement.

    Raises
    ------
    ValueError
        If a layer is lazy and has not seen its first batch. The network is unchanged then.

    Notes
    -----
    The new layers share parameters and buffers with the old ones, so an optimizer that was made before goes on working.
    A layer used in two places stays one layer. Ghost batch normalization and batch renormalization chose other
    statistics on purpose: they are left as they are. Hooks on the old layers are not carried over.
    """

    def synchronized(layer):
        new = SyncBatchNorm(
            layer.num_features,
            layer.eps,
            layer.momentum,
            affine=False,
            track_running_stats=layer.track_running_stats,
            process_group=process_group,
        )
        # The parameters and buffers themselves, whatever there is of them, not copies.
        new.affine, new._parameters, new._buffers = layer.affine, layer._parameters, layer._buffers
        return new.train(layer.training)

    return _replace(module, lambda m: isinstance(m, _BatchNorm) and not isinstance(m, _KEPT), synchronized)


# Frozen batch normalization


class FrozenBatchNorm2d(torch.nn.Module):
    """Batch normalization of images (N, C, H, W) that has stopped learning: one affine map per channel, for good.

    In training as in evaluation, ``y = weight * (x - running_mean) / sqrt(running_var + eps) + bias`` (Ioffe &
    Szegedy 2015, Algorithm 2, line 11). All four vectors are buffers: they are saved, moved and cast with the
    network, but no optimizer and no batch changes them. Gradient flows to x. Networks for detection fine-tune with
    it, since one or two large images per device make poor batches; and old results depend on it.

    Parameters
    ----------
    num_features : int
        C.
    eps : float, default 1e-5
        Added to the variance, inside the square root. That of the layer it replaces.
    device, dtype : optional
        Where the buffers are, and in which floating dtype.

    Raises
    ------
    ValueError
        When called with an input that is not 4D.
    RuntimeError
        When called with an input that has not C channels, or whose dtype does not go with that of the layer.

    See Also
    --------
    freeze_batch_norm : for a whole network.

    Notes
    -----
    It loads the state_dict of a batch normalization; the counter in it, `num_batches_tracked`, is ignored.

    Examples
    --------
    >>> trained = torch.nn.BatchNorm2d(3)
    >>> frozen = FrozenBatchNorm2d(3)
    >>> frozen.load_state_dict(trained.state_dict())
    <All keys matched successfully>
    >>> list(frozen.parameters())
    []
    """

    def __init__(self, num_features, eps=1e-5, device=None, dtype=None):
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((num_features,), value, device=device, dtype=dtype))

    def forward(self, input):
        """Normalize by the fixed statistics.

        Parameters
        ----------
        input : torch.Tensor, shape (N, C, H, W)

        Returns
        -------
        torch.Tensor, shape of `input`
        """
        if input.dim() != 4:
            raise ValueError(f"expected 4D input (got {input.dim()}D input): give (N, C, H, W)")
        return batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)

    def _load_from_state_dict(self, state_dict, prefix, *args):
        state_dict.pop(f"{prefix}num_batches_tracked", None)  # a copy, made by load_state_dict: nobody's is changed
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self):
        return f"{self.num_features}, eps={self.eps}"


def freeze_batch_norm(module):
    """Replace every batch normalization of images in a network by a `FrozenBatchNorm2d` with its present values.

    Parameters
    ----------
    module : torch.nn.Module
        Changed in place, unless it is a batch normalization itself.

    Returns
    -------
    torch.nn.Module
        `module`, or its replacement. In evaluation mode it computes what it computed before.

    Raises
    ------
    ValueError
        If a `BatchNorm2d` keeps no running statistics: there is nothing to freeze. The network is unchanged then.

    Notes
    -----
    The values are copied. An optimizer that was made before still holds the old weights and biases: make a new one.
    """

    def frozen(layer):
        if layer.running_mean is None or layer.running_var is None:
            raise ValueError(
                f"{layer} keeps no running statistics, so there is nothing to freeze it to: train it with "
                "track_running_stats=True, or leave it out"
            )
        new = FrozenBatchNorm2d(layer.num_features, layer.eps, layer.running_mean.device, layer.running_mean.dtype)
        for name, buffer in new.named_buffers():
            value = getattr(layer, name)
            if value is not None:  # without affine parameters: 1 and 0
                buffer.copy_(value.detach())
        return new.train(layer.training)

    return _replace(module, lambda m: isinstance(m, torch.nn.BatchNorm2d), frozen)


# What several of them need


_KEPT = (_Ghost, _Renorm, SyncBatchNorm)


def _replace(module, matches, make):
    """Replace each submodule that matches by make(submodule), a shared one by one replacement; all or nothing."""
    new = {}
    for name, layer in module.named_modules():  # each once, however often it is used
        if matches(layer):
            if any(isinstance(v, torch.nn.UninitializedBuffer) for v in layer.buffers()):
                raise ValueError(
                    f"{name or 'the module'} is {layer}, which knows its size only after a first batch: "
                    "run one through the network, then convert it"
                )
            new[layer] = make(layer)
    if module in new:
        return new[module]
    for parent in list(module.modules()):
        for name, child in parent._modules.items():
            if child in new:
                parent._modules[name] = new[child]
    return module


def _moments(x):
    """Count, mean and sum of squared deviations of each channel, the latter two in at least float32."""
    axes, count, x = [0, *range(2, x.dim())], _values_per_channel(x), _at_least_float32(x)
    mean = x.sum(axes) / max(count, 1)  # 0 for an empty batch
    return count, mean, (x - _per_channel(mean, x)).square().sum(axes)


def _per_channel(v, x):
    """View a vector of shape (C,) so that it broadcasts against x."""
    return v.view(*v.shape, *[1] * (x.dim() - 2))


def _at_least_float32(x):
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
