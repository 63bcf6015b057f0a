"""One pass of data through a model, and the moments of what passes by: a mean and a variance per channel.

What this isn't: a public interface. `bnlab.moments` explains the arithmetic, `bnlab.observe` watches a training run.
"""

import numpy as np
import torch

CHUNK = 2**20  # values looked at together: a few megabytes, whatever the size of a batch


class ChannelMoments:
    """Count, mean and sum of squared deviations of each channel, for values that come batch by batch.

    Each batch is centered on its own mean before anything is squared, and batches are joined in float64 by the formula
    of Chan, Golub & LeVeque (1983), so a large mean costs no digits of the variance.

    Attributes
    ----------
    count : int
        Values per channel so far, m.
    batches : int
        Batches so far.
    mean, m2 : torch.Tensor of shape (C,), float64, or None
        Their mean, and the sum of (value - mean)**2. None before the first batch.
    """

    def __init__(self):
        self.count, self.batches, self.mean, self.m2 = 0, 0, None, None

    @torch.no_grad()
    def add(self, x):
        """Take in a batch, shape (N, C) or (N, C, ...). An empty one says nothing, and isn't counted."""
        if not x.numel():
            return
        axes = (0, *range(2, x.dim()))
        m = x.numel() // x.shape[1]
        wide = torch.promote_types(x.dtype, torch.float32)
        rough = x.mean(axes, dtype=wide)  # the mean, but for rounding
        shift = rough.view(-1, *[1] * (x.dim() - 2))
        total = squares = 0.0
        for part in x.split(max(1, CHUNK // max(1, x[0].numel()))):  # no second tensor of the size of x
            d = part.to(wide) - shift
            total = total + d.sum(axes, dtype=wide).double()
            squares = squares + d.square_().sum(axes).double()
        rest = total / m
        self._join(m, rough.double() + rest, squares - rest * total)

    def _join(self, m, mean, m2):
        self.batches += 1
        if self.mean is None:
            self.count, self.mean, self.m2 = m, mean, m2.clamp_(min=0)
            return
        count = self.count + m
        delta = mean - self.mean
        self.mean = self.mean + delta * (m / count)
        self.m2 = self.m2 + m2.clamp_(min=0) + delta.square() * (self.count * m / count)
        self.count = count

    @property
    def unbiased_var(self):
        """m2 / (count - 1), which running statistics keep."""
        return self.m2 / (self.count - 1)


def stream(model, data, forward, each_batch):
    """Run `model` on one batch after the other, without gradients, and call ``each_batch(number)`` after each.

    Parameters
    ----------
    model : torch.nn.Module
    data : iterable of batches, or one batch
        A batch is a tensor or NumPy array x, or a tuple or list (x, ...), of which x alone is used. A tensor or array
        in the place of the iterable is one batch.
    forward : callable or None
        ``forward(model, batch)`` runs the model on a batch of another form. None: ``model(x)``.
    each_batch : callable

    Raises
    ------
    ValueError
        If there is no batch, an empty one, or one that holds NaN or inf.
    TypeError
        If the data, or a batch, has another form.
    """
    if isinstance(data, torch.Tensor | np.ndarray):
        data = [data]
    try:
        batches = iter(data)
    except TypeError:
        raise TypeError(
            f"the data is {type(data).__name__}, which can't be iterated over: give batches, such as a list of tensors "
            "or a DataLoader"
        ) from None
    device = next((t.device for t in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    number = -1
    with torch.no_grad():
        for number, batch in enumerate(batches):
            if forward is None:
                model(_input(batch, number).to(device))
            else:
                forward(model, batch)
            each_batch(number)
    if number < 0:
        raise ValueError("the data holds no batch: give at least one (a generator that was used up gives none)")


def _input(batch, number):
    """The checked input of a batch."""
    x = batch[0] if isinstance(batch, tuple | list) and batch else batch
    if isinstance(x, np.ndarray):
        x = torch.from_numpy(x)
    if not isinstance(x, torch.Tensor):
        raise TypeError(
            f"batch {number} is {type(batch).__name__}, expected a tensor x or a pair (x, y): for other forms give "
            "forward=lambda model, batch: ..."
        )
    if x.numel() == 0:
        raise ValueError(f"batch {number} is empty, of shape {tuple(x.shape)}: leave it out")
    if x.is_floating_point() and not torch.isfinite(x).all():
        raise ValueError(f"batch {number} holds NaN or inf, from which no statistics can be made: clean the data")
    return x


def check_finite(moments, name, number):
    """Refuse moments that overflowed or took in NaN, with the layer's name and the number of the batch."""
    if not (torch.isfinite(moments.mean).all() and torch.isfinite(moments.m2).all()):
        raise ValueError(
            f"{name} has values that are NaN or inf, or too large for their dtype, on batch {number}: look at its "
            "weights, at the data's scale and at the dtype"
        )
