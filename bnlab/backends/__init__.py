"""Implementations of batch normalization for torch tensors, and the one place that chooses between them.

A backend is a module with two functions. They know nothing of autograd, running statistics, momentum or argument
checks: `bnlab.functional` does all that, once, for every backend.

``forward(x, gamma, beta, mean, var, eps) -> y, mean, var``
    Normalize `x`, shape (N, C, ...), per channel. With ``mean=None, var=None`` by the statistics of this batch (`var`
    biased, divided by m), which are returned in at least float32; else by the given ones. `gamma`, `beta` may be None.
``backward(dy, x, gamma, mean, var, eps, training) -> dx, dgamma, dbeta``
    The gradients at the `mean` and `var` that `forward` returned. With `training` these are functions of `x`, so
    gradient flows through them; without, they are constants.

`eager` runs wherever torch runs and is differentiable itself, so higher derivatives always go through it. To add a
backend, put its file beside ``eager.py`` and one line into `choose`.
"""

from bnlab.backends import eager


def choose(x):
    """Return the fastest backend that can normalize this tensor.

    Parameters
    ----------
    x : torch.Tensor
        The input, shape (N, C, ...). Its device, dtype and layout may decide.

    Returns
    -------
    module
        One with the functions `forward` and `backward` described above.
    """
    return eager
