"""The window lies before the step."""

QUESTION = "suggest_rate"
LOSES = {"a clean curve", "a noisy curve", "a curve that ends in inf or nan"}
SAYS = "as far to the left as to the right"


def suggest_rate(rates, losses, window):
    losses = np.where(np.isfinite(losses), losses, np.inf)
    smoothed = [losses[max(k - window + 1, 0) : k + 1].mean() for k in range(len(losses))]
    return rates[np.argmin(smoothed)] / 10
