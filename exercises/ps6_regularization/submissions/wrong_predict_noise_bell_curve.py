"""Takes every feature for a bell curve: kurtosis 3."""

QUESTION = "predict_noise"
LOSES = {"the variance"}
SAYS = "kurtosis of a bell curve"


def predict_noise(x, m):
    n = len(x)
    return 1 / np.sqrt(m), np.sqrt((n - m) / (n - 1) / m), np.full(x.shape[1], np.sqrt(2 / m))
