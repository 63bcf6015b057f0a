"""`recalibrate`: running statistics measured again, on data of one's choice."""

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from bnlab.retrofit.calibration import ChannelMoments, check_finite, stream
from bnlab.retrofit.structure import check_model, twin


def recalibrate(model, data, *, forward=None):
    """Replace the running statistics of every BN layer by the mean and variance over all of `data` ("precise BN").

    During training, running statistics are an exponential average over the last batches, while the weights move on. So
    they lag behind the weights, and they know nothing of new data. This takes the final weights and one pass over the
    data. Over data from another domain it is AdaBN (Li et al. 2016).

    Parameters
    ----------
    model : torch.nn.Module
        Changed in place: the running statistics of its BN layers (torch's, and subclasses of them), nothing else.
    data : iterable of batches, or one batch
        As for `insert_batch_norm`. Use batches as large as in training: each layer sees what the batches before it
        made of their own statistics. Labels are not needed.
    forward : callable or None
        ``forward(model, batch)`` for a model that isn't called as ``model(x)``.

    Returns
    -------
    torch.nn.Module
        The same model.

    Raises
    ------
    ValueError
        No BN layer with running statistics, none that the data reach, no data, NaN or inf in them or on the way, a
        batch with one value per channel, statistics too large for their dtype, or a layer that waits for its first
        input. The model is then as it was.
    TypeError
        Data or batches of an unknown form; a model that is none, was made by torch.jit or can't be copied.

    Notes
    -----
    One pass. BN layers normalize by the batch, as in training; all other layers are in evaluation mode, so dropout is
    off. Each BN layer's mean and variance are those of all its inputs over all batches, joined exactly (not averaged
    over batches), the variance unbiased. A layer that is called several times gets the statistics of all calls. One
    that is never called keeps what it has. The pass runs on a copy that shares the parameters, so modes, momentum,
    hooks and other buffers of the model are not touched.

    References
    ----------
    Wu & Johnson (2021), "Rethinking 'Batch' in BatchNorm", section 3. https://arxiv.org/abs/2105.07576
    Li et al. (2016), "Revisiting batch normalization for practical domain adaptation". https://arxiv.org/abs/1603.04779

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.BatchNorm1d(1)).eval()
    >>> _ = recalibrate(model, [torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [6.0]])])
    >>> model[0].running_mean, model[0].running_var
    (tensor([3.]), tensor([4.6667]))
    """
    check_model(model)
    run = twin(model).eval()
    pairs = {
        name: (layer, run.get_submodule(name))
        for name, layer in model.named_modules()
        if isinstance(layer, _BatchNorm) and layer.running_mean is not None
    }
    if not pairs:
        raise ValueError(
            f"this {type(model).__name__} has no batch normalization with running statistics to re-estimate"
        )
    moments = {name: ChannelMoments() for name in pairs}

    def observe(name):
        def hook(layer, args, kwargs):
            moments[name].add(args[0] if args else kwargs["input"])

        return hook

    for name, (_, layer) in pairs.items():
        layer.train()
        layer.track_running_stats = False  # normalize by the batch and leave the running statistics
        layer.register_forward_pre_hook(observe(name), with_kwargs=True)

    def check(number):
        for name, seen in moments.items():
            if seen.batches:
                check_finite(seen, f"the input of {name!r}", number)

    stream(run, data, forward, check)
    seen = {name: m for name, m in moments.items() if m.batches}
    if not seen:
        raise ValueError("the data reach no batch normalization layer: is forward the function that runs the model?")
    for name, m in seen.items():
        dtype = pairs[name][0].running_var.dtype
        if not torch.isfinite(torch.stack([m.mean, m.unbiased_var]).to(dtype)).all():
            raise ValueError(f"the mean or variance of the input of {name!r} is too large for {dtype}: scale the data")
    with torch.no_grad():
        for name, m in seen.items():
            layer = pairs[name][0]
            layer.running_mean.copy_(m.mean)
            layer.running_var.copy_(m.unbiased_var)
            if layer.num_batches_tracked is not None:
                layer.num_batches_tracked.fill_(m.batches)
    return model
