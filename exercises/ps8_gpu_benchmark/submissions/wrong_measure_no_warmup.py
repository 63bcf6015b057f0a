"""Measures from the first call on: compilation and cold caches are among the times."""

QUESTION = "measure"
LOSES = {"leaves the warm-up calls out", "calls the function warmup + repeats times"}
SAYS = "slow calls are among the times"


def measure(function, clock, synchronize, warmup, repeats):
    seconds = []
    for _ in range(repeats):
        synchronize()
        start = clock()
        function()
        synchronize()
        seconds.append(clock() - start)
    return tuple(np.quantile(seconds, [0.25, 0.5, 0.75]))
