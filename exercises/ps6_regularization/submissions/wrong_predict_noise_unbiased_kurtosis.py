"""Standardizes by the unbiased standard deviation before taking fourth powers."""

QUESTION = "predict_noise"
LOSES = {"the variance"}
SAYS = "unbiased standard deviation"


def predict_noise(x, m):
    n = len(x)
    kurtosis = (((x - x.mean(axis=0)) / x.std(axis=0, ddof=1)) ** 4).mean(axis=0)
    return 1 / np.sqrt(m), np.sqrt((n - m) / (n - 1) / m), np.sqrt((kurtosis - 1) / m)
