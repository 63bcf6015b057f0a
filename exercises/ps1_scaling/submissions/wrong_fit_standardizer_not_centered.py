"""Takes the root of the mean square without subtracting the mean."""

QUESTION = "fit_standardizer"
LOSES = {
    "mean and standard deviation of each feature",
    "a small spread on a large mean",
    "the std of a constant feature is exactly 0",
    "leaves its inputs as they were",
}
SAYS = "Subtract the mean before you square"


def fit_standardizer(x):
    return x.mean(axis=0), np.sqrt((x**2).mean(axis=0))
