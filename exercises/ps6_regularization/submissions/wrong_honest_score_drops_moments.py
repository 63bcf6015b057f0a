"""Drops every moment at which any learning rate has diverged."""

QUESTION = "honest_score"
LOSES = {"a training that diverged is not chosen"}
SAYS = "drops a moment altogether"


def honest_score(validation, test):
    mean = validation.mean(axis=1)
    mean[:, np.isnan(mean).any(axis=0)] = np.inf
    rate, stop = np.unravel_index(np.argmin(mean), mean.shape)
    return int(rate), int(stop), test[rate, :, stop]
