"""Batch normalization layers: `BatchNorm1d`, `BatchNorm2d` and `BatchNorm3d`, drop-ins for those of `torch.nn`.

Each is a subclass of its namesake that replaces `forward` alone. So the constructor, the parameters and buffers, the
state_dict and its versions, the repr and the check of the input's rank are those of the installed torch, and whatever
asks ``isinstance(layer, torch.nn.BatchNorm2d)`` (initialization recipes, weight-decay lists, folding,
`torch.nn.SyncBatchNorm.convert_sync_batchnorm`) treats these layers as it should. What they compute is
`bnlab.functional.batch_norm`.
"""

import bnlab.functional  # noqa: I001  before torch: it says what to install where torch is absent
import torch

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d"]


def _forward(self, input, *, residual=None, relu=False):
    """Normalize by the statistics of this batch (training) or by the running ones (evaluation).

    Parameters
    ----------
    input : torch.Tensor, shape (N, C) or (N, C, ...)
        Batch with C = `num_features` channels, of a rank that the class accepts.
    residual : torch.Tensor, shape of `input`, or None
        Added to the result in the same pass over memory.
    relu : bool
        Whether negative results become 0, in the same pass.

    Returns
    -------
    torch.Tensor, shape of `input`
    """
    self._check_input_dim(input)
    counts = self.training and self.track_running_stats and self.num_batches_tracked is not None
    momentum = self.momentum
    if momentum is None:  # the average over all batches so far, this one included
        momentum = 1.0 / (float(self.num_batches_tracked) + 1.0) if counts else 0.0
    uses_running = not self.training or self.track_running_stats  # to normalize with them, or to update them
    y = bnlab.functional.batch_norm(
        input,
        self.running_mean if uses_running else None,
        self.running_var if uses_running else None,
        self.weight,
        self.bias,
        self.training or (self.running_mean is None and self.running_var is None),
        momentum,
        self.eps,
        residual=residual,
        relu=relu,
    )
    if counts:  # only now: a batch that was refused is not counted
        self.num_batches_tracked.add_(1)
    return y


class BatchNorm1d(torch.nn.BatchNorm1d):
    """Batch normalization of features (N, C) or signals (N, C, L): drop-in for `torch.nn.BatchNorm1d`.

    In training, each channel is normalized by the mean and the biased variance of its N (or N * L) values in the
    batch, and the running statistics follow: ``running = (1 - momentum) * running + momentum * batch``, with the
    unbiased variance. In evaluation the running statistics normalize, and no output depends on the other examples.

    Parameters
    ----------
    num_features : int
        C, the number of channels or features. Each has its own weight (gamma) and bias (beta).
    eps : float, default 1e-5
        Added to the variance, inside the square root.
    momentum : float or None, default 0.1
        Weight of the new batch in the running statistics (Keras and Flax mean the complement). None averages over all
        batches seen, each counting the same.
    affine : bool, default True
        Whether to learn weight and bias, which start as 1 and 0.
    track_running_stats : bool, default True
        Whether to keep running statistics. Without them, evaluation too uses the statistics of the batch.
    device, dtype : optional
        Where the parameters and buffers are, and in which floating dtype.
    bias : bool, default True
        Keyword only, and only where the installed torch has it. False learns a weight but no bias.

    Attributes
    ----------
    weight, bias : torch.nn.Parameter of shape (C,), or None
        gamma and beta.
    running_mean, running_var : torch.Tensor of shape (C,), or None
        What evaluation normalizes with.
    num_batches_tracked : torch.Tensor of shape (), int64, or None
        How many batches the running statistics have seen.

    Raises
    ------
    ValueError
        When called with an input that is not 2D or 3D, or in training with one value per channel.
    RuntimeError
        When called with an input that has not C channels, or whose dtype does not go with that of the layer.

    References
    ----------
    Ioffe & Szegedy (2015), Algorithms 1 and 2. https://arxiv.org/abs/1502.03167

    Examples
    --------
    >>> layer = BatchNorm1d(2)
    >>> layer(torch.tensor([[1.0, 10.0], [3.0, 30.0]])).tolist()  # a little less than 1, because of eps
    [[-0.9999949932098389, -1.0], [0.9999949932098389, 1.0]]
    >>> layer.running_mean
    tensor([0.2000, 2.0000])
    """

    forward = _forward


class BatchNorm2d(torch.nn.BatchNorm2d):
    """Batch normalization of images (N, C, H, W): drop-in for `torch.nn.BatchNorm2d`.

    In training, each channel is normalized by the mean and the biased variance of its N * H * W values in the
    batch, and the running statistics follow: ``running = (1 - momentum) * running + momentum * batch``, with the
    unbiased variance. In evaluation the running statistics normalize, and no output depends on the other examples.

    Parameters
    ----------
    num_features : int
        C, the number of channels. Each has its own weight (gamma) and bias (beta).
    eps : float, default 1e-5
        Added to the variance, inside the square root.
    momentum : float or None, default 0.1
        Weight of the new batch in the running statistics (Keras and Flax mean the complement). None averages over all
        batches seen, each counting the same.
    affine : bool, default True
        Whether to learn weight and bias, which start as 1 and 0.
    track_running_stats : bool, default True
        Whether to keep running statistics. Without them, evaluation too uses the statistics of the batch.
    device, dtype : optional
        Where the parameters and buffers are, and in which floating dtype.
    bias : bool, default True
        Keyword only, and only where the installed torch has it. False learns a weight but no bias.

    Attributes
    ----------
    weight, bias : torch.nn.Parameter of shape (C,), or None
        gamma and beta.
    running_mean, running_var : torch.Tensor of shape (C,), or None
        What evaluation normalizes with.
    num_batches_tracked : torch.Tensor of shape (), int64, or None
        How many batches the running statistics have seen.

    Raises
    ------
    ValueError
        When called with an input that is not 4D, or in training with one value per channel.
    RuntimeError
        When called with an input that has not C channels, or whose dtype does not go with that of the layer.

    References
    ----------
    Ioffe & Szegedy (2015), Algorithms 1 and 2. https://arxiv.org/abs/1502.03167

    Examples
    --------
    >>> layer = BatchNorm2d(3)
    >>> y = layer(5 + torch.randn(8, 3, 16, 16))  # each channel now has mean 0 and variance 1
    >>> torch.allclose(y.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-6)
    True
    """

    forward = _forward


class BatchNorm3d(torch.nn.BatchNorm3d):
    """Batch normalization of volumes or videos (N, C, D, H, W): drop-in for `torch.nn.BatchNorm3d`.

    In training, each channel is normalized by the mean and the biased variance of its N * D * H * W values in the
    batch, and the running statistics follow: ``running = (1 - momentum) * running + momentum * batch``, with the
    unbiased variance. In evaluation the running statistics normalize, and no output depends on the other examples.

    Parameters
    ----------
    num_features : int
        C, the number of channels. Each has its own weight (gamma) and bias (beta).
    eps : float, default 1e-5
        Added to the variance, inside the square root.
    momentum : float or None, default 0.1
        Weight of the new batch in the running statistics (Keras and Flax mean the complement). None averages over all
        batches seen, each counting the same.
    affine : bool, default True
        Whether to learn weight and bias, which start as 1 and 0.
    track_running_stats : bool, default True
        Whether to keep running statistics. Without them, evaluation too uses the statistics of the batch.
    device, dtype : optional
        Where the parameters and buffers are, and in which floating dtype.
    bias : bool, default True
        Keyword only, and only where the installed torch has it. False learns a weight but no bias.

    Attributes
    ----------
    weight, bias : torch.nn.Parameter of shape (C,), or None
        gamma and beta.
    running_mean, running_var : torch.Tensor of shape (C,), or None
        What evaluation normalizes with.
    num_batches_tracked : torch.Tensor of shape (), int64, or None
        How many batches the running statistics have seen.

    Raises
    ------
    ValueError
        When called with an input that is not 5D, or in training with one value per channel.
    RuntimeError
        When called with an input that has not C channels, or whose dtype does not go with that of the layer.

    References
    ----------
    Ioffe & Szegedy (2015), Algorithms 1 and 2. https://arxiv.org/abs/1502.03167

    Examples
    --------
    >>> layer = BatchNorm3d(3)
    >>> y = layer(5 + torch.randn(8, 3, 4, 16, 16))  # each channel now has mean 0 and variance 1
    >>> torch.allclose(y.mean(dim=(0, 2, 3, 4)), torch.zeros(3), atol=1e-6)
    True
    """

    forward = _forward
