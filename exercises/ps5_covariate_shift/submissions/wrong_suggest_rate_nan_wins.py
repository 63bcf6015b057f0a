"""np.argmin takes the first nan for the smallest."""

QUESTION = "suggest_rate"
LOSES = {"a curve that ends in inf or nan"}
SAYS = "nan won"


def suggest_rate(rates, losses, window):
    half = window // 2
    smoothed = [losses[max(k - half, 0) : k + half + 1].mean() for k in range(len(losses))]
    return rates[np.argmin(smoothed)] / 10
