"""Adds into the caller's mean."""

QUESTION = "merge_moments"
LOSES = {"leaves its inputs as they were"}
SAYS = "in place"


def merge_moments(mean_a, var_a, m_a, mean_b, var_b, m_b):
    m, delta = m_a + m_b, mean_b - mean_a
    var = (m_a * var_a + m_b * var_b) / m + delta**2 * m_a * m_b / m**2
    mean_a += delta * m_b / m
    return mean_a, var, m
