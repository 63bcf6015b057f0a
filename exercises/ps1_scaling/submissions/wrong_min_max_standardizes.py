"""Standardizes: the two scalings are mixed up."""

QUESTION = "min_max"
LOSES = {
    "training data fill the range 0 to 1",
    "unseen values keep their place outside 0 to 1",
    "clips when asked",
    "a constant feature becomes 0",
    "whole numbers become fractions",
    "leaves its inputs as they were",
}
SAYS = "This is standardization"


def min_max(x, low, high, clip=False):
    std = x.std(axis=0)
    x_scaled = (x - x.mean(axis=0)) / np.where(std == 0, 1.0, std)
    return np.clip(x_scaled, 0, 1) if clip else x_scaled
