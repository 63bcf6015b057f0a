"""First the medians, then one ratio, whose two times may come from different rounds."""

QUESTION = "race"
LOSES = {"speedup: the median of the ratios within a round"}
SAYS = "ratio of two medians"


def race(functions, timer, rounds):
    table = np.array([[timer(function) for function in functions.values()] for _ in range(rounds)])
    seconds = np.median(table, axis=0)
    return dict(zip(functions, seconds, strict=True)), dict(zip(functions, seconds[0] / seconds, strict=True))
