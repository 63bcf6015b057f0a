"""Through the mean of the squares: loses the digits of a large mean."""

QUESTION = "merge_moments"
LOSES = {"the variance of values with a large mean"}
SAYS = "Rounding"


def merge_moments(mean_a, var_a, m_a, mean_b, var_b, m_b):
    m, delta = m_a + m_b, mean_b - mean_a
    mean = mean_a + delta * m_b / m
    var = (m_a * (var_a + mean_a**2) + m_b * (var_b + mean_b**2)) / m - mean**2
    return mean, var, m
