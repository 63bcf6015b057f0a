"""Fills an array of the dtype of x: fractions are cut off where x holds integers."""

QUESTION = "min_max"
LOSES = {"whole numbers become fractions"}
SAYS = "np.zeros_like(x) copies the dtype of x"


def min_max(x, low, high, clip=False):
    x_scaled = np.zeros_like(x)
    for j in range(x.shape[1]):
        if high[j] > low[j]:
            x_scaled[:, j] = (x[:, j] - low[j]) / (high[j] - low[j])
    return np.clip(x_scaled, 0, 1) if clip else x_scaled
