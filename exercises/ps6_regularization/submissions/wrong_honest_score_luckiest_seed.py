"""Chooses by the lowest loss of any single seed."""

QUESTION = "honest_score"
LOSES = {"chooses by the mean validation loss", "a training that diverged is not chosen"}
SAYS = "luckiest single seed"


def honest_score(validation, test):
    rate, _, stop = np.unravel_index(np.nanargmin(validation), validation.shape)
    return rate, stop, test[rate, :, stop]
