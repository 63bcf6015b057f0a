"""Takes fourth powers without subtracting the mean."""

QUESTION = "predict_noise"
LOSES = {"the variance"}
SAYS = "subtract the mean of each feature"


def predict_noise(x, m):
    n = len(x)
    kurtosis = (x**4).mean(axis=0) / x.var(axis=0) ** 2
    return 1 / np.sqrt(m), np.sqrt((n - m) / (n - 1) / m), np.sqrt((kurtosis - 1) / m)
