"""Ignores low and high and takes the range of the rows that it is given."""

QUESTION = "min_max"
LOSES = {"unseen values keep their place outside 0 to 1", "clips when asked", "a constant feature becomes 0"}
SAYS = "You use the range of this x instead of low and high"


def min_max(x, low, high, clip=False):
    low, width = x.min(axis=0), np.ptp(x, axis=0)
    x_scaled = (x - low) / np.where(width == 0, 1.0, width)
    return np.clip(x_scaled, 0, 1) if clip else x_scaled
