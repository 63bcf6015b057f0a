"""Uses the excess kurtosis, as SciPy gives it, in a formula for the kurtosis."""

QUESTION = "predict_noise"
LOSES = {"the variance"}
SAYS = "excess kurtosis"


def predict_noise(x, m):
    n = len(x)
    excess = (((x - x.mean(axis=0)) / x.std(axis=0)) ** 4).mean(axis=0) - 3
    return 1 / np.sqrt(m), np.sqrt((n - m) / (n - 1) / m), np.sqrt((excess - 1) / m)
