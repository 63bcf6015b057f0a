"""All rounds of one implementation, then all of the next."""

QUESTION = "race"
LOSES = {"in every round, everyone once", "speedup: the median of the ratios within a round"}
SAYS = "came before the first of another one"


def race(functions, timer, rounds):
    times = {name: np.array([timer(function) for _ in range(rounds)]) for name, function in functions.items()}
    baseline = times[next(iter(functions))]
    seconds = {name: np.median(own) for name, own in times.items()}
    return seconds, {name: np.median(baseline / own) for name, own in times.items()}
