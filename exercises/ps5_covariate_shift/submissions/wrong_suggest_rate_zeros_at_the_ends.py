"""np.convolve with mode same: zeros beyond the ends."""

QUESTION = "suggest_rate"
LOSES = {"a clean curve", "a noisy curve", "a curve that ends in inf or nan"}
SAYS = "counts zeros"


def suggest_rate(rates, losses, window):
    losses = np.where(np.isfinite(losses), losses, 1e9)
    smoothed = np.convolve(losses, np.ones(window) / window, mode="same")
    return rates[np.argmin(smoothed)] / 10
