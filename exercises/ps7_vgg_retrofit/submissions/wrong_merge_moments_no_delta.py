"""Averages the variances: forgets the variance of the means."""

QUESTION = "merge_moments"
LOSES = {"the variance", "the variance of values with a large mean"}
SAYS = "lie around different means"


def merge_moments(mean_a, var_a, m_a, mean_b, var_b, m_b):
    m, delta = m_a + m_b, mean_b - mean_a
    mean = mean_a + delta * m_b / m
    var = (m_a * var_a + m_b * var_b) / m
    return mean, var, m
