"""One pair of readings around all repeats, divided by their number: a mean in disguise."""

QUESTION = "measure"
LOSES = {"median and quartiles of the repeats"}
SAYS = "This is the mean"


def measure(function, clock, synchronize, warmup, repeats):
    for _ in range(warmup):
        function()
    synchronize()
    start = clock()
    for _ in range(repeats):
        function()
        synchronize()
    seconds = (clock() - start) / repeats
    return seconds, seconds, seconds
