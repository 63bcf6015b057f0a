"""Times the baseline once, before the rounds, and compares everything with that."""

QUESTION = "race"
LOSES = {
    "in every round, everyone once",
    "seconds: the median over the rounds",
    "speedup: the median of the ratios within a round",
}
SAYS = "never outside the rounds"


def race(functions, timer, rounds):
    baseline = timer(functions[next(iter(functions))])
    table = np.array([[timer(function) for function in functions.values()] for _ in range(rounds)])
    speedup = np.median(baseline / table, axis=0)
    return dict(zip(functions, np.median(table, axis=0), strict=True)), dict(zip(functions, speedup, strict=True))
