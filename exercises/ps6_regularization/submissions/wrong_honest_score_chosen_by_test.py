"""Chooses by the test loss, and so reports its luck."""

QUESTION = "honest_score"
LOSES = {"chooses by the mean validation loss", "a training that diverged is not chosen"}
SAYS = "chooses by the test loss"


def honest_score(validation, test):
    mean = test.mean(axis=1)
    rate, stop = np.unravel_index(np.nanargmin(mean), mean.shape)
    return rate, stop, test[rate, :, stop]
