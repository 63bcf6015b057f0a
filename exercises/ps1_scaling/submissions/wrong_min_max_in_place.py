"""Subtracts in the caller's array."""

QUESTION = "min_max"
LOSES = {"leaves its inputs as they were"}
SAYS = "changed its input x in place"


def min_max(x, low, high, clip=False):
    width = high - low
    x -= low
    x_scaled = np.where(width == 0, 0.0, x / np.where(width == 0, 1.0, width))
    return np.clip(x_scaled, 0, 1) if clip else x_scaled
