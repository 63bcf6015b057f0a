"""Averages over the seeds that haven't diverged."""

QUESTION = "honest_score"
LOSES = {"a training that diverged is not chosen"}
SAYS = "np.nanmean averages over those that are left"


def honest_score(validation, test):
    mean = np.nanmean(validation, axis=1)
    rate, stop = np.unravel_index(np.nanargmin(mean), mean.shape)
    return rate, stop, test[rate, :, stop]
