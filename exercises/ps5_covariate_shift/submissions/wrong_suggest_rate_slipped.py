"""Smooths to a shorter curve and uses its positions for the longer one."""

QUESTION = "suggest_rate"
LOSES = {"a clean curve", "a noisy curve", "a curve that ends in inf or nan"}
SAYS = "the positions have slipped"


def suggest_rate(rates, losses, window):
    losses = np.where(np.isfinite(losses), losses, 1e9)
    smoothed = np.convolve(losses, np.ones(window) / window, mode="valid")
    return rates[np.argmin(smoothed)] / 10
