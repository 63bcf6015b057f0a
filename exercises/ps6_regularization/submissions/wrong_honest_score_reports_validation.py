"""Reports the validation losses that it chose by."""

QUESTION = "honest_score"
LOSES = {"reports the test losses of that choice"}
SAYS = "these are validation losses"


def honest_score(validation, test):
    mean = validation.mean(axis=1)
    rate, stop = np.unravel_index(np.nanargmin(mean), mean.shape)
    return rate, stop, validation[rate, :, stop]
