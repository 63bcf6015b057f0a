"""Mean and standard deviation instead of median and quartiles."""

QUESTION = "measure"
LOSES = {"median and quartiles of the repeats"}
SAYS = "spoiled by one disturbed repeat"


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
    mean, std = np.mean(seconds), np.std(seconds)
    return mean - std, mean, mean + std
