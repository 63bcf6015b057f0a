"""Ways to compute a mean and a variance, and how each one fails.

What it is for: to show, side by side, algorithms that are equal on paper and differ in floating point. What it isn't:
the way to get accurate statistics of float32 data. For that, accumulate in float64, as :mod:`bnlab.reference` does.

Every function here works in the dtype of x, on purpose: an algorithm that quietly computed in float64 would hide its
failure. Let u be the unit roundoff of that dtype (6e-8 for float32) and kappa = sqrt(1 + mean**2 / var), the condition
number of the variance, which says how many standard deviations the data are away from zero. Up to a constant, the
relative error of the variance of m values is at most (after Chan, Golub & LeVeque 1983; the tests check these bounds):

===================== ================= ===================== ==================================================
function              passes over x     relative error        how it fails
===================== ================= ===================== ==================================================
two_pass              2                 m u + (m u kappa)**2  The error of the mean enters, squared. It reads x
                                                              twice, so x cannot be a stream.
naive_one_pass        1                 m u kappa**2          Cancellation: at mean 1e4 and standard deviation 1
                                                              float32 keeps no digit, and the sign may be wrong.
shifted_one_pass      1                 as naive, with        A shift far from the mean brings the cancellation
                                        mean - shift in       back. Any value of x will do: it keeps kappa below
                                        kappa for mean        sqrt(1 + m), even if it is an outlier.
welford               1, one value at   m u kappa             One value after the other, one division each: slow.
                      a time                                  The mean stops moving once delta / count rounds away.
merge                 0: joins partial  u kappa log2(shards), It is as good as the means of the shards, whose
                      results           plus theirs           difference it takes.
===================== ================= ===================== ==================================================

In place of m put the number of additions in a row, and NumPy decides that: it sums contiguous memory pairwise (about
log2(m) additions in a row), but adds the rows of a C-ordered (m, C) array one after another. So the same float32 values
can have a far better two-pass variance as an array of shape (m,) than as a column of one of shape (m, C). No order of
summation saves the naive formula, since rounding the mean of the squares once is enough to ruin it. In float16, sums
(and counts) beyond 65504 overflow.

Sources: B. P. Welford, "Note on a Method for Calculating Corrected Sums of Squares and Products", Technometrics 4(3),
1962. T. F. Chan, G. H. Golub and R. J. LeVeque, "Algorithms for Computing the Sample Variance: Analysis and
Recommendations", The American Statistician 37(3), 1983. N. J. Higham, "Accuracy and Stability of Numerical Algorithms",
2nd edition, SIAM, 2002, Section 1.9.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["Moments", "merge", "naive_one_pass", "shifted_one_pass", "two_pass", "welford"]


class Moments(NamedTuple):
    """Count, mean and sum of squared deviations: all that is needed to join partial results with :func:`merge`.

    Attributes
    ----------
    count : int
        How many values were seen, m.
    mean : ndarray
        Their mean; 0 for no values.
    m2 : ndarray, same shape as mean
        The sum of (value - mean)**2; 0 for no values. Never negative on paper.
    """

    count: int
    mean: np.ndarray
    m2: np.ndarray

    @property
    def var(self) -> np.ndarray:
        """The biased variance, m2 / count, with which batch normalization normalizes.

        Raises
        ------
        ValueError
            If there are no values.
        """
        return self._m2_over(self.count)

    @property
    def unbiased_var(self) -> np.ndarray:
        """The unbiased variance, m2 / (count - 1), which running statistics keep.

        Raises
        ------
        ValueError
            If there are fewer than two values.
        """
        return self._m2_over(self.count - 1)

    def _m2_over(self, divisor: int) -> np.ndarray:
        if divisor < 1:
            needed = self.count - divisor + 1
            raise ValueError(
                f"the variance of {self.count} value(s) was asked for, but at least {needed} are needed: "
                "merge in more data first"
            )
        return self.m2 / np.result_type(self.m2).type(divisor)


def two_pass(x: np.ndarray) -> Moments:
    """First the mean, then the squared deviations from it: the definition.

    Parameters
    ----------
    x : ndarray of shape (m, ...)
        Floating point. Axis 0 is reduced; for the channels of an image batch, pass
        ``np.moveaxis(x, 1, -1).reshape(-1, C)``.

    Returns
    -------
    Moments
        Its mean and m2 have the shape x.shape[1:] and the dtype of x.

    Raises
    ------
    TypeError
        If x does not hold real floating point numbers.
    ValueError
        If x is a single number without axes.

    Notes
    -----
    Fails in low precision when the mean does: a mean that is wrong by d adds d**2 to the variance.
    """
    x = _checked(x)
    mean = _mean(x)
    return Moments(len(x), mean, np.square(x - mean).sum(axis=0, dtype=x.dtype))


def naive_one_pass(x: np.ndarray) -> Moments:
    """E[x^2] - E[x]^2, which needs x only once. Right on paper, wrong where it matters: do not use it.

    Parameters
    ----------
    x : ndarray of shape (m, ...)
        As in :func:`two_pass`.

    Returns
    -------
    Moments
        As in :func:`two_pass`.

    Raises
    ------
    TypeError
        If x does not hold real floating point numbers.
    ValueError
        If x is a single number without axes.

    Notes
    -----
    Fails when the mean is large beside the standard deviation. In float32 at mean 1e4 the squares are near 1e8, where
    neighboring float32 numbers are 8 apart: so the "variance" of values with standard deviation 1 comes out as a
    multiple of 8, such as 8, 0 or -24. m2 is returned as it comes out, negative or not.

    Examples
    --------
    >>> x = np.array([10000, 10001, 10002, 10003], dtype=np.float32)
    >>> print(two_pass(x).var, naive_one_pass(x).var)
    1.25 0.0
    """
    x = _checked(x)
    mean = _mean(x)
    var = _mean(np.square(x)) - np.square(mean)
    return Moments(len(x), mean, var * x.dtype.type(len(x)))


def shifted_one_pass(x: np.ndarray, shift: np.ndarray | None = None) -> Moments:
    """The one-pass formula on x - shift: the variance does not change, and with shift near the mean nothing cancels.

    Parameters
    ----------
    x : ndarray of shape (m, ...)
        As in :func:`two_pass`.
    shift : ndarray of shape x.shape[1:], or a number, optional
        What to subtract first, rounded to the dtype of x. By default the first value, x[0].

    Returns
    -------
    Moments
        As in :func:`two_pass`.

    Raises
    ------
    TypeError
        If x does not hold real floating point numbers.
    ValueError
        If x is a single number without axes, or if shift does not have the shape of one value.

    Notes
    -----
    Fails as :func:`naive_one_pass` does, which is this with shift 0, when shift is many standard deviations from the
    mean. A value of x cannot be: its own squared deviation is at most m times the variance. So an outlier in first
    place costs some digits, while a shift from elsewhere (the mean of an earlier batch, say) may cost them all.
    """
    x = _checked(x)
    if shift is None:
        shift = x[0] if len(x) else 0
    shift = np.asarray(shift, dtype=x.dtype)
    if shift.shape not in ((), x.shape[1:]):
        raise ValueError(
            f"shift has shape {shift.shape}, but one value of x has shape {x.shape[1:]}: give that shape, or one number"
        )
    count, mean, m2 = naive_one_pass(x - shift)
    return Moments(count, mean + shift if count else mean, m2)


def welford(x: np.ndarray) -> Moments:
    """One value at a time, with the mean and m2 right after each: Welford (1962).

    Parameters
    ----------
    x : ndarray of shape (m, ...)
        As in :func:`two_pass`.

    Returns
    -------
    Moments
        As in :func:`two_pass`.

    Raises
    ------
    TypeError
        If x does not hold real floating point numbers.
    ValueError
        If x is a single number without axes.

    Notes
    -----
    The loop over axis 0 is a Python loop; what lies along the other axes is done at once.

    Fails slowly: rounding errors add up over m steps, and the mean stops moving once delta / count is less than half
    the gap between floating point numbers near the mean (in float32 at mean 1e4 and standard deviation 1, after about
    two thousand values). What is left is an error of the size of kappa u, not kappa**2 u.
    """
    x = _checked(x)
    mean = np.zeros(x.shape[1:], x.dtype)
    m2 = np.zeros(x.shape[1:], x.dtype)
    for count, value in enumerate(x, start=1):
        delta = value - mean
        mean += delta / x.dtype.type(count)
        m2 += delta * (value - mean)  # one deviation from the old mean, one from the new
    return Moments(len(x), mean[()], m2[()])


def merge(a: Moments, b: Moments) -> Moments:
    """The moments of two sets of values from the moments of each: Chan, Golub & LeVeque (1983).

    Parameters
    ----------
    a, b : Moments
        Partial results ("shards") of the same shape. An empty one changes nothing.

    Returns
    -------
    Moments

    Raises
    ------
    ValueError
        If a and b are of different shapes.

    Notes
    -----
    Rounding errors grow with the depth of the merging, so a balanced tree beats one long chain. Nothing cancels in m2,
    a sum of terms that are not negative; but it inherits the errors of the means, whose difference it needs.

    Examples
    --------
    >>> from functools import reduce
    >>> x = np.arange(10.0)
    >>> whole = reduce(merge, [two_pass(shard) for shard in np.split(x, [3, 3, 7])])
    >>> print(whole.count, whole.mean, whole.var)
    10 4.5 8.25
    """
    if np.shape(a.mean) != np.shape(b.mean):
        raise ValueError(
            f"a holds statistics of shape {np.shape(a.mean)}, b of shape {np.shape(b.mean)}: "
            "merge shards that have the same shape apart from axis 0"
        )
    number = np.result_type(a.mean, b.mean).type  # counts must not widen float32 statistics
    count = a.count + b.count
    share = b.count / max(count, 1)
    delta = b.mean - a.mean
    mean = a.mean + delta * number(share)
    m2 = a.m2 + b.m2 + delta * (delta * number(a.count * share))
    return Moments(count, mean, m2)


def _mean(x: np.ndarray) -> np.ndarray:
    """Mean over axis 0, in the dtype of x (np.mean would sum float16 in float32); 0 for no values."""
    return x.sum(axis=0, dtype=x.dtype) / x.dtype.type(max(len(x), 1))


def _checked(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x)
    if not np.issubdtype(x.dtype, np.floating):
        raise TypeError(
            f"x has dtype {x.dtype}, but floating point numbers are needed: convert it, "
            "for example x.astype(np.float64)"
        )
    if x.ndim == 0:
        raise ValueError("x has shape (), but an axis of values is needed: give an array of shape (m, ...)")
    return x
