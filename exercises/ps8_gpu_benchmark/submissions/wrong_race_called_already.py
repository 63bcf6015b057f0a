"""Calls the function and gives the timer its result."""

QUESTION = "race"
LOSES = {
    "in every round, everyone once",
    "seconds: the median over the rounds",
    "speedup: the median of the ratios within a round",
}
SAYS = "a timer is given the function itself"


def race(functions, timer, rounds):
    table = np.array([[timer(function()) for function in functions.values()] for _ in range(rounds)])
    speedup = np.median(table[:, :1] / table, axis=0)
    return dict(zip(functions, np.median(table, axis=0), strict=True)), dict(zip(functions, speedup, strict=True))
