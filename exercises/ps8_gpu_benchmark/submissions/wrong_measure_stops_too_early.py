"""Reads the clock when the call returns: the time to place the order."""

QUESTION = "measure"
LOSES = {"waits for the device before it stops the clock", "waits for the device before it starts the clock"}
SAYS = "time to place the order"


def measure(function, clock, synchronize, warmup, repeats):
    for _ in range(warmup):
        function()
    seconds = []
    for _ in range(repeats):
        synchronize()
        start = clock()
        function()
        seconds.append(clock() - start)
    synchronize()
    return tuple(np.quantile(seconds, [0.25, 0.5, 0.75]))
