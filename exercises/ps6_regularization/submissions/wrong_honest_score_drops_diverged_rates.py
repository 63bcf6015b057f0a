"""Drops every learning rate that diverges at any time, also before it does."""

QUESTION = "honest_score"
LOSES = {"a training that diverged is not chosen"}
SAYS = "drops a learning rate altogether"


def honest_score(validation, test):
    mean = validation.mean(axis=1)
    mean[np.isnan(mean).any(axis=1)] = np.inf
    rate, stop = np.unravel_index(np.argmin(mean), mean.shape)
    return int(rate), int(stop), test[rate, :, stop]
