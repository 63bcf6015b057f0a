"""Divides by the largest value instead of the width of the range."""

QUESTION = "min_max"
LOSES = {
    "training data fill the range 0 to 1",
    "unseen values keep their place outside 0 to 1",
    "clips when asked",
    "a constant feature becomes 0",
}
SAYS = "You divide by high"


def min_max(x, low, high, clip=False):
    x_scaled = np.where(high == low, 0.0, (x - low) / high)
    return np.clip(x_scaled, 0, 1) if clip else x_scaled
