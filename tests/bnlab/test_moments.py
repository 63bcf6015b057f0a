"""bnlab.moments against exact arithmetic: each algorithm is as good as its docstring says, and fails as it says."""

import doctest
import math
import statistics
from fractions import Fraction
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnlab import moments
from bnlab.moments import Moments, merge, naive_one_pass, shifted_one_pass, two_pass, welford

ALGORITHMS = [two_pass, naive_one_pass, shifted_one_pass, welford]
# Every way to moments, with merging of single values as the longest possible chain.
WAYS = {f.__name__: f for f in ALGORITHMS} | {
    "merge": lambda x: reduce(merge, [two_pass(x[i : i + 1]) for i in range(len(x))])
}

properties = settings(max_examples=80, derandomize=True)


def exact(x):
    """Mean and m2 of a 1-D array in rational arithmetic."""
    values = [Fraction(float(v)) for v in x]
    mean = sum(values) / len(values)
    return mean, sum((v - mean) ** 2 for v in values)


def exact_columns(x):
    """Correctly rounded float64 mean and biased variance of each column, to within a few units in the last place."""
    mean = np.array([math.fsum(column) / len(column) for column in x.T.tolist()])
    var = [
        math.fsum((v - mu) ** 2 for v in column) / len(column) for column, mu in zip(x.T.tolist(), mean, strict=True)
    ]
    return mean, np.array(var)


# 0, or large enough for its square not to underflow.
samples = st.lists(st.integers(-(10**7), 10**7), min_size=1, max_size=40).map(lambda k: np.array(k) / 1e6)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@properties
@given(x=samples, offset=st.integers(0, 4000))
def test_variance_error_is_within_the_bound_of_the_module_docstring(way, dtype, x, offset):
    x = (x + offset).astype(dtype)
    mean, m2 = exact(x)
    m, u = len(x), np.finfo(dtype).eps / 2
    var, mean_square = float(m2 / m), float(m2 / m + mean**2)
    shifted_square = float(m2 / m + (mean - Fraction(float(x[0]))) ** 2)
    bound = {  # the table, multiplied by var: kappa**2 * var is mean_square
        "two_pass": m * u * var + (m * u) ** 2 * mean_square,
        "naive_one_pass": m * u * mean_square,
        "shifted_one_pass": m * u * shifted_square + u**2 * mean_square,
        "welford": m * u * math.sqrt(mean_square * var) + (m * u) ** 2 * mean_square,
        "merge": m * u * math.sqrt(mean_square * var) + (m * u) ** 2 * mean_square,
    }[way]
    result = WAYS[way](x)
    assert result.count == m
    assert abs(float(result.mean) - float(mean)) <= 4 * m * u * math.sqrt(mean_square)
    assert abs(float(result.var) - var) <= 4 * bound


@pytest.mark.parametrize("way", WAYS)
def test_float64_agrees_with_exact_columns(way):
    x = np.random.default_rng(0).normal([0, 5, -20], [1, 0.1, 30], (200, 3))
    mean, var = exact_columns(x)
    result = WAYS[way](x)
    np.testing.assert_allclose(result.mean, mean, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(result.var, var, rtol=1e-11)


@pytest.mark.parametrize("way", WAYS)
def test_both_variances_agree_with_the_standard_library(way):
    x = [1.5, 2.0, -3.25, 8.0, 0.5]
    result = WAYS[way](np.array(x))
    assert result.var == pytest.approx(statistics.pvariance(x), rel=1e-14)
    assert result.unbiased_var == pytest.approx(statistics.variance(x), rel=1e-14)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
@pytest.mark.parametrize("shape", [(5,), (5, 3), (5, 3, 2)])
def test_works_in_the_dtype_of_the_input_and_reduces_axis_0(way, dtype, shape):
    x = np.random.default_rng(1).normal(1, 1, shape).astype(dtype)
    before = x.copy()
    result = WAYS[way](x)
    for statistic in (result.mean, result.m2, result.var, result.unbiased_var):
        assert statistic.dtype == dtype
        assert np.shape(statistic) == shape[1:]
    np.testing.assert_allclose(
        result.var, x.astype(np.float64).var(axis=0), rtol=50 * float(np.finfo(dtype).eps) + 1e-14
    )
    np.testing.assert_array_equal(x, before)


# How each one fails


@pytest.fixture(scope="module")
def far_from_zero():
    """float32 values with mean 1e4 and standard deviation 1, and their variance in float64."""
    x = np.random.default_rng(0).normal(1e4, 1, 20_000).astype(np.float32)
    return x, x.astype(np.float64).var()


def test_naive_one_pass_is_garbage_at_a_large_mean(far_from_zero):
    x, var = far_from_zero
    naive = [float(naive_one_pass(part).var) for part in np.split(x, 20)]
    assert all(v % 8 == 0 for v in naive)  # float32 numbers near 1e8 are 8 apart
    assert min(naive) < 0
    assert abs(float(naive_one_pass(x).var) - var) > 0.5 * var


@pytest.mark.parametrize(("way", "error"), [("two_pass", 1e-6), ("shifted_one_pass", 1e-5), ("welford", 1e-3)])
def test_the_others_survive_a_large_mean(way, error, far_from_zero):
    x, var = far_from_zero
    assert abs(float(WAYS[way](x).var) / var - 1) < error


def test_merging_survives_a_large_mean(far_from_zero):
    x, var = far_from_zero
    merged = reduce(merge, [two_pass(part) for part in np.array_split(x, 7)])
    assert abs(float(merged.var) / var - 1) < 1e-5


def test_shift_is_the_first_value_unless_given(far_from_zero):
    x, _ = far_from_zero
    assert shifted_one_pass(x) == shifted_one_pass(x, x[0])
    assert shifted_one_pass(x) != shifted_one_pass(x, 9990)
    assert shifted_one_pass(x, 0) == naive_one_pass(x)


def test_a_first_value_that_is_an_outlier_costs_digits_and_a_shift_from_elsewhere_may_cost_all(far_from_zero):
    x, var = far_from_zero
    with_outlier = np.concatenate([np.float32([0]), x])
    var_with_outlier = with_outlier.astype(np.float64).var()
    by_outlier = abs(float(shifted_one_pass(with_outlier).var) / var_with_outlier - 1)
    by_mean = abs(float(shifted_one_pass(with_outlier, 1e4).var) / var_with_outlier - 1)
    assert by_mean < 1e-6 and by_mean < by_outlier < 1e-2
    assert abs(float(shifted_one_pass(x, 1e-3).var) / var - 1) > 0.5


def test_two_pass_depends_on_the_order_in_which_numpy_adds():
    x = np.random.default_rng(0).normal(1e4, 1, 200_000).astype(np.float32)
    var = x.astype(np.float64).var()
    in_a_row, in_columns = two_pass(x), two_pass(np.stack([x, x], axis=1))
    assert abs(float(in_a_row.var) / var - 1) < 1e-5
    assert abs(float(in_columns.var[0]) / var - 1) > 0.1
    # ... and why: the mean's error comes in squared.
    mean_error = float(in_columns.mean[0]) - x.astype(np.float64).mean()
    assert float(in_columns.var[0]) - var == pytest.approx(mean_error**2, rel=0.01)


def test_welford_mean_stops_moving():
    x = np.repeat(np.float32([10_000, 10_001]), 3000)
    assert welford(x).mean == 10_000  # 10 000.5 on paper; 1 / 3000 is below half a gap between float32 numbers
    assert two_pass(x).mean == 10_000.5


def test_float32_sums_lose_small_terms_rather_than_widen():
    column = np.float32([4096, -4096] + [1, -1] * 500)
    # Row by row, 2**25 + 1 is 2**25 again: the thousand small squares vanish.
    assert two_pass(np.stack([column, column], axis=1)).m2.tolist() == [2**25, 2**25]


def test_float16_sums_overflow_rather_than_widen():
    with np.errstate(over="ignore", invalid="ignore"):
        assert np.isinf(two_pass(np.full(1000, 100, np.float16)).mean)


@pytest.mark.parametrize("way", WAYS)
def test_nan_stays_in_its_column(way):
    x = np.random.default_rng(2).normal(size=(6, 3))
    clean = WAYS[way](x)
    x[0, 1] = np.nan
    result = WAYS[way](x)
    assert np.isnan(result.mean[1]) and np.isnan(result.var[1])
    for column in (0, 2):
        assert result.mean[column] == clean.mean[column]
        assert result.var[column] == clean.var[column]


# Merging


@properties
@given(
    seed=st.integers(0, 2**32 - 1),
    m=st.integers(1, 60),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    trailing=st.sampled_from([(), (3,), (2, 2)]),
)
def test_merging_any_partition_gives_the_moments_of_the_whole(seed, m, cuts, trailing):
    x = np.random.default_rng(seed).normal(3, 2, (m, *trailing))
    shards = np.split(x, sorted(min(cut, m) for cut in cuts))  # empty shards included
    merged = reduce(merge, [two_pass(shard) for shard in shards])
    assert merged.count == m
    np.testing.assert_allclose(merged.mean, x.mean(axis=0), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(merged.var, x.var(axis=0), rtol=1e-12, atol=1e-13)


def test_merge_of_shards_with_different_means_and_sizes_by_hand():
    merged = merge(two_pass(np.array([0.0, 0.0, 0.0])), two_pass(np.array([4.0])))
    assert merged == Moments(4, 1.0, 12.0)  # deviations -1, -1, -1, 3


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(("dtype", "value"), [(np.float16, 300), (np.float32, 1e25), (np.float64, 0.1)])
@pytest.mark.parametrize("trailing", [(), (2,)])
def test_an_empty_shard_changes_nothing_not_even_a_bit(algorithm, dtype, value, trailing):
    empty = algorithm(np.empty((0, *trailing), dtype))
    full = Moments(3, np.full(trailing, value, dtype), np.full(trailing, 0.7, dtype))  # value**2 may overflow
    for merged in (merge(empty, full), merge(full, empty)):
        assert merged.count == 3
        np.testing.assert_array_equal(merged.mean, full.mean)
        np.testing.assert_array_equal(merged.m2, full.m2)
    assert merge(empty, empty).count == 0
    assert not np.any(empty.mean) and not np.any(empty.m2)


def test_an_empty_shifted_shard_ignores_its_shift():
    assert shifted_one_pass(np.empty(0), shift=7.0) == Moments(0, 0.0, 0.0)


@pytest.mark.parametrize("trailing", [(), (2,)])
def test_merging_float32_stays_float32(trailing):
    x = np.ones((4, *trailing), np.float32)
    merged = merge(two_pass(x), two_pass(x))
    assert merged.mean.dtype == merged.m2.dtype == merged.var.dtype == np.float32


def test_merging_plain_numbers():
    assert merge(Moments(1, 1.0, 0.0), Moments(1, 3.0, 0.0)).var == 1.0


# Bad input


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_bad_input_is_refused(algorithm):
    with pytest.raises(TypeError, match=r"x has dtype int\d+, but floating point numbers are needed: convert it"):
        algorithm(np.arange(3))
    with pytest.raises(TypeError, match="x has dtype complex128"):
        algorithm(np.ones(3, complex))
    with pytest.raises(ValueError, match=r"x has shape \(\), but an axis of values is needed"):
        algorithm(np.float64(1.0))


def test_a_shift_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"shift has shape \(2,\), but one value of x has shape \(3,\)"):
        shifted_one_pass(np.ones((4, 3)), shift=[1.0, 2.0])


def test_merging_different_shapes_is_refused():
    with pytest.raises(ValueError, match=r"a holds statistics of shape \(3,\), b of shape \(2,\)"):
        merge(two_pass(np.ones((4, 3))), two_pass(np.ones((4, 2))))


def test_a_variance_of_too_few_values_is_refused():
    with pytest.raises(ValueError, match=r"variance of 0 value\(s\) .* at least 1 are needed"):
        _ = two_pass(np.empty((0, 2))).var
    for count in (0, 1):
        with pytest.raises(ValueError, match=rf"variance of {count} value\(s\) .* at least 2 are needed"):
            _ = two_pass(np.ones((count, 2))).unbiased_var
    assert two_pass(np.ones(1)).var == 0


def test_examples_in_the_docstrings():
    result = doctest.testmod(moments)
    assert result.attempted > 0
    assert result.failed == 0
