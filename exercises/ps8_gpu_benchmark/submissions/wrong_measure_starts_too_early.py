"""Doesn't wait for the warm-up, or for what else is in the queue."""

QUESTION = "measure"
LOSES = {"waits for the device before it starts the clock"}
SAYS = "The queue wasn't empty"


def measure(function, clock, synchronize, warmup, repeats):
    for _ in range(warmup):
        function()
    seconds = []
    for _ in range(repeats):
        start = clock()
        function()
        synchronize()
        seconds.append(clock() - start)
    return tuple(np.quantile(seconds, [0.25, 0.5, 0.75]))
