"""Standardizes by the mean and the standard deviation of all numbers."""

QUESTION = "predict_noise"
LOSES = {"the variance"}
SAYS = "lack axis=0"


def predict_noise(x, m):
    n = len(x)
    kurtosis = (((x - x.mean()) / x.std()) ** 4).mean(axis=0)
    return np.sqrt(1 / m), np.sqrt((n - m) / (n - 1) / m), np.sqrt((kurtosis - 1) / m)
