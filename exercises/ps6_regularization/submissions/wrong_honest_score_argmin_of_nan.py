"""np.argmin, which takes NaN for the smallest number."""

QUESTION = "honest_score"
LOSES = {"a training that diverged is not chosen"}
SAYS = "np.argmin takes NaN"


def honest_score(validation, test):
    mean = validation.mean(axis=1)
    rate, stop = np.unravel_index(mean.argmin(), mean.shape)
    return rate, stop, test[rate, :, stop]
