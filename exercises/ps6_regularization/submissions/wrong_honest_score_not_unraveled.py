"""Takes the position in the whole table for the index of the learning rate."""

QUESTION = "honest_score"
LOSES = {
    "leaves its inputs as they were",
    "chooses by the mean validation loss",
    "reports the test losses of that choice",
    "a training that diverged is not chosen",
}
SAYS = "np.unravel_index(position, mean.shape)"


def honest_score(validation, test):
    mean = validation.mean(axis=1)
    rate = np.nanargmin(mean)
    stop = np.nanargmin(mean[rate])
    return rate, stop, test[rate, :, stop]
