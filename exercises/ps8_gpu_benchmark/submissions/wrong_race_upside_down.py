"""Divides by the baseline: how many times slower."""

QUESTION = "race"
LOSES = {"speedup: the median of the ratios within a round"}
SAYS = "The baseline's time stands on top"


def race(functions, timer, rounds):
    table = np.array([[timer(function) for function in functions.values()] for _ in range(rounds)])
    speedup = np.median(table / table[:, :1], axis=0)
    return dict(zip(functions, np.median(table, axis=0), strict=True)), dict(zip(functions, speedup, strict=True))
