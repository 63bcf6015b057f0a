"""Chooses among the rates by the last moment only."""

QUESTION = "honest_score"
LOSES = {"chooses by the mean validation loss", "a training that diverged is not chosen"}
SAYS = "last moment only"


def honest_score(validation, test):
    rate = np.nanargmin(validation[:, :, -1].mean(axis=1))
    return rate, validation.shape[2] - 1, test[rate, :, -1]
