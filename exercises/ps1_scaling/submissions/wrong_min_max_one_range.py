"""Takes one range for the whole table instead of one per feature."""

QUESTION = "min_max"
LOSES = {
    "training data fill the range 0 to 1",
    "unseen values keep their place outside 0 to 1",
    "clips when asked",
    "a constant feature becomes 0",
}
SAYS = "You use one range for the whole table"


def min_max(x, low, high, clip=False):
    x_scaled = np.where(high == low, 0.0, (x - low.min()) / (high.max() - low.min()))
    return np.clip(x_scaled, 0, 1) if clip else x_scaled
