"""Step by step, with loops and branches; quartiles by hand; BN over rows of one channel each."""


def bn_bytes(shape, itemsize, step, streaming):
    n, c, h, w = shape
    one_tensor = n * c * h * w * itemsize
    one_vector = 4 * c
    if step == "eval":
        return 2 * one_tensor, 4 * one_vector
    if step == "forward":
        return (3 if streaming else 2) * one_tensor, 8 * one_vector
    return (5 if streaming else 3) * one_tensor, 5 * one_vector


def bn_flops(shape, step):
    flops = 0
    elements = shape[0] * shape[1] * shape[2] * shape[3]
    if step in ("forward", "backward"):
        flops += elements  # the first sum
        flops += 3 * elements  # the second
    flops += 2 * elements if step != "backward" else 4 * elements
    return flops


def roofline(flops, nbytes, bandwidth, peak):
    moving = nbytes / bandwidth / 1e9
    computing = flops / peak / 1e9
    intensity = flops / nbytes
    if moving > computing:
        return intensity, intensity * bandwidth, moving
    return intensity, peak, computing


def measure(function, clock, synchronize, warmup, repeats):
    times = []
    for call in range(warmup + repeats):
        synchronize()
        before = clock()
        function()
        synchronize()
        after = clock()
        if call >= warmup:
            times.append(after - before)
    times.sort()

    def quantile(q):
        place = q * (len(times) - 1)
        below = int(place)
        above = min(below + 1, len(times) - 1)
        return times[below] + (place - below) * (times[above] - times[below])

    return [quantile(0.25), quantile(0.5), quantile(0.75)]


def copy_bandwidth(x, timer):
    source, destination = x.reshape(-1), torch.empty(x.numel(), dtype=x.dtype, device=x.device)

    def copy():
        destination.copy_(source, non_blocking=False)

    seconds = timer(copy)
    nbytes = len(source) * source.element_size()
    read, written = nbytes, nbytes
    return (read + written) / seconds * 1e-9


def batch_norm(x, gamma, beta, eps):
    n, c, h, w = x.shape
    channels = []
    for k, values in enumerate(x.permute(1, 0, 2, 3).reshape(c, -1)):
        mean = values.sum() / len(values)
        centered = values - mean
        var = (centered**2).sum() / len(values)
        channels.append(gamma[k] * centered / torch.sqrt(var + eps) + beta[k])
    return torch.stack(channels).reshape(c, n, h, w).permute(1, 0, 2, 3)


def why_not(run, expected, tolerance):
    try:
        results = run()
    except BaseException as error:
        return f"raises {error}"
    reasons = []
    if len(results) != len(expected):
        reasons.append("another number of results")
    for result, exact in zip(results, expected, strict=False):
        if tuple(result.shape) != tuple(exact.shape):
            reasons.append("a shape")
            continue
        if torch.isnan(result).any() or torch.isinf(result).any():
            reasons.append("not finite")
        if torch.max(torch.abs(result.double() - exact)) > tolerance * torch.max(torch.abs(exact)):
            reasons.append("off")
    return ", ".join(reasons)


def race(functions, timer, rounds):
    names = list(functions)
    every_round = []
    for number in range(rounds):
        turn = names[number % len(names) :] + names[: number % len(names)]  # someone else begins each time
        this_round = {}
        for name in turn:
            this_round[name] = timer(functions[name])
        every_round.append(this_round)
    middle = rounds // 2  # rounds may be even: then the mean of the two in the middle

    def median(values):
        values = sorted(values)
        return values[middle] if rounds % 2 else (values[middle - 1] + values[middle]) / 2

    seconds, speedup = {}, {}
    for name in names:
        seconds[name] = median(times[name] for times in every_round)
        speedup[name] = median(times[names[0]] / times[name] for times in every_round)
    return seconds, speedup


def time_to_target(errors, target, steps_per_epoch, seconds_per_step):
    seconds, epoch = 0.0, 0
    while epoch < len(errors):
        seconds += steps_per_epoch * seconds_per_step
        epoch += 1
        if errors[epoch - 1] <= target:
            return [epoch, seconds]
    return [np.inf, np.inf]
