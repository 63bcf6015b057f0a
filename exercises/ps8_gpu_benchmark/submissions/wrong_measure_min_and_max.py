"""The shortest and the longest time in the place of the quartiles."""

QUESTION = "measure"
LOSES = {"median and quartiles of the repeats"}
SAYS = "the shortest and the longest time"


def measure(function, clock, synchronize, warmup, repeats):
    for _ in range(warmup):
        function()
    seconds = []
    for _ in range(repeats):
        synchronize()
        start = clock()
        function()
        synchronize()
        seconds.append(clock() - start)
    return min(seconds), np.median(seconds), max(seconds)
