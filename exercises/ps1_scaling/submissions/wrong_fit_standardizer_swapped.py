"""Returns std and mean in the wrong order."""

QUESTION = "fit_standardizer"
LOSES = {
    "mean and standard deviation of each feature",
    "a small spread on a large mean",
    "the std of a constant feature is exactly 0",
    "leaves its inputs as they were",
}
SAYS = "the order is mean, std"


def fit_standardizer(x):
    return np.where(np.ptp(x, axis=0) == 0, 0.0, x.std(axis=0)), x.mean(axis=0)
