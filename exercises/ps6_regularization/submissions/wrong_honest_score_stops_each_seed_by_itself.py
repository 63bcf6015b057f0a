"""Chooses a rate and lets every seed stop at its own best test loss."""

QUESTION = "honest_score"
LOSES = {"reports the test losses of that choice"}
SAYS = "All seeds stop at the same moment"


def honest_score(validation, test):
    mean = validation.mean(axis=1)
    rate, stop = np.unravel_index(np.nanargmin(mean), mean.shape)
    return rate, stop, test[rate].min(axis=1)
