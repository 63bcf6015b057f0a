"""1 - m/n: the correction for an unbiased sigma, where n - 1 belongs."""

QUESTION = "predict_noise"
LOSES = {"the mean, without replacement"}
SAYS = "not (n - m)/n"


def predict_noise(x, m):
    kurtosis = (((x - x.mean(axis=0)) / x.std(axis=0)) ** 4).mean(axis=0)
    return 1 / np.sqrt(m), np.sqrt((1 - m / len(x)) / m), np.sqrt((kurtosis - 1) / m)
