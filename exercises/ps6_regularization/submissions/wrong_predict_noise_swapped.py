"""Returns the noise without replacement first."""

QUESTION = "predict_noise"
LOSES = {"the mean, with replacement", "the mean, without replacement", "no noise in a batch of everything"}
SAYS = "swap their places"


def predict_noise(x, m):
    n = len(x)
    kurtosis = (((x - x.mean(axis=0)) / x.std(axis=0)) ** 4).mean(axis=0)
    return np.sqrt((n - m) / (n - 1) / m), 1 / np.sqrt(m), np.sqrt((kurtosis - 1) / m)
