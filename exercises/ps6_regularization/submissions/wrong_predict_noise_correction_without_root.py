"""Multiplies the standard deviation by the correction that belongs to the variance."""

QUESTION = "predict_noise"
LOSES = {"the mean, without replacement"}
SAYS = "correction lacks its square root"


def predict_noise(x, m):
    n = len(x)
    kurtosis = (((x - x.mean(axis=0)) / x.std(axis=0)) ** 4).mean(axis=0)
    noise = 1 / np.sqrt(m)
    return noise, noise * (n - m) / (n - 1), np.sqrt((kurtosis - 1) / m)
