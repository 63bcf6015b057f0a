"""Both sets count the same."""

QUESTION = "merge_moments"
LOSES = {"the mean", "the variance", "the variance of values with a large mean"}
SAYS = "Both sets count the same here"


def merge_moments(mean_a, var_a, m_a, mean_b, var_b, m_b):
    m, delta = m_a + m_b, mean_b - mean_a
    mean = (mean_a + mean_b) / 2
    var = (var_a + var_b) / 2 + delta**2 / 4
    return mean, var, m
