"""Takes the smallest single loss."""

QUESTION = "suggest_rate"
LOSES = {"a noisy curve", "a curve that ends in inf or nan"}
SAYS = "the losses were not smoothed"


def suggest_rate(rates, losses, window):
    return rates[np.nanargmin(losses)] / 10
