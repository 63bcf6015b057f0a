"""1/m: the variance of the mean where its standard deviation is asked."""

QUESTION = "predict_noise"
LOSES = {"the mean, with replacement"}
SAYS = "the variance of the mean"


def predict_noise(x, m):
    n = len(x)
    kurtosis = (((x - x.mean(axis=0)) / x.std(axis=0)) ** 4).mean(axis=0)
    return 1 / m, np.sqrt((n - m) / (n - 1) / m), np.sqrt((kurtosis - 1) / m)
