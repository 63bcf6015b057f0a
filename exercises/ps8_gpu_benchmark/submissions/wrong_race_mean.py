"""Means, which a disturbed round drags along."""

QUESTION = "race"
LOSES = {"seconds: the median over the rounds", "speedup: the median of the ratios within a round"}
SAYS = "This is the mean"


def race(functions, timer, rounds):
    table = np.array([[timer(function) for function in functions.values()] for _ in range(rounds)])
    speedup = np.mean(table[:, :1] / table, axis=0)
    return dict(zip(functions, np.mean(table, axis=0), strict=True)), dict(zip(functions, speedup, strict=True))
