"""Warms up, and takes the times of the warm-up into the quantiles."""

QUESTION = "measure"
LOSES = {"leaves the warm-up calls out"}
SAYS = "slow calls are among the times"


def measure(function, clock, synchronize, warmup, repeats):
    seconds = []
    for _ in range(warmup + repeats):
        synchronize()
        start = clock()
        function()
        synchronize()
        seconds.append(clock() - start)
    return tuple(np.quantile(seconds, [0.25, 0.5, 0.75]))
