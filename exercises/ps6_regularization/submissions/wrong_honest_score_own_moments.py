"""Chooses a rate, then stops every seed at its own best validation loss."""

QUESTION = "honest_score"
LOSES = {
    "leaves its inputs as they were",
    "chooses by the mean validation loss",
    "reports the test losses of that choice",
    "a training that diverged is not chosen",
}
SAYS = "Each seed stops at its own moment"


def honest_score(validation, test):
    best = np.nanmin(validation, axis=2).mean(axis=1)
    rate = int(np.argmin(best))
    stops = np.nanargmin(validation[rate], axis=1)
    return rate, stops, test[rate, np.arange(len(stops)), stops]
