"""Centers the caller's array."""

QUESTION = "fit_standardizer"
LOSES = {"leaves its inputs as they were"}
SAYS = "changed its input x in place"


def fit_standardizer(x):
    constant = np.ptp(x, axis=0) == 0
    mean = x.mean(axis=0)
    x -= mean
    return mean, np.where(constant, 0.0, np.sqrt((x**2).mean(axis=0)))
