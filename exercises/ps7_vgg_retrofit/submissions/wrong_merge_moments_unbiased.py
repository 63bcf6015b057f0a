"""Divides the sum of squares by m - 1."""

QUESTION = "merge_moments"
LOSES = {"the variance", "the variance of values with a large mean"}
SAYS = "divides by m - 1"


def merge_moments(mean_a, var_a, m_a, mean_b, var_b, m_b):
    m, delta = m_a + m_b, mean_b - mean_a
    mean = mean_a + delta * m_b / m
    var = ((m_a * var_a + m_b * var_b) / m + delta**2 * m_a * m_b / m**2) * m / (m - 1)
    return mean, var, m
