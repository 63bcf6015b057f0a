"""Works in the caller's array."""

QUESTION = "normalize"
LOSES = {"leaves its inputs as they were"}
SAYS = "changed its input x in place"


def normalize(x, mean, var, eps):
    x -= mean
    x /= np.sqrt(var + eps)
    return x
