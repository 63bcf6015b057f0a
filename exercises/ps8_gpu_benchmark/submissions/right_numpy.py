"""NumPy where it can: np.prod in int64, arrays of times, index arithmetic; a destination written by assignment."""


def bn_bytes(shape, itemsize, step, streaming):
    elements = np.prod(shape, dtype=np.int64)
    column = ["eval", "forward", "backward"].index(step)
    passes = np.array([[2, 2, 3], [2, 3, 5]])[int(streaming), column]
    vectors = np.array([4, 8, 5])[column]
    return passes * elements * itemsize, vectors * np.int64(shape[1]) * np.dtype(np.float32).itemsize


def bn_flops(shape, step):
    return np.prod(np.array(shape, dtype=np.float64)) * dict(eval=2, forward=6, backward=8)[step]


def roofline(flops, nbytes, bandwidth, peak):
    intensity = np.divide(flops, nbytes)
    attainable = np.minimum(peak, intensity * bandwidth)
    return [intensity, attainable, flops / (attainable * 1e9)]


def measure(function, clock, synchronize, warmup, repeats):
    times = np.empty(repeats)
    for _ in range(warmup):
        function()
    synchronize()
    for i in range(repeats):
        start = clock()
        function()
        synchronize()  # this is also the wait before the next start
        times[i] = clock() - start
    return np.percentile(times, 25), np.median(times), np.percentile(times, 75)


def copy_bandwidth(x, timer):
    destination = x.clone()

    def copy():
        destination[:] = x

    return 2 * x.nbytes / (1e9 * timer(copy))


def batch_norm(x, gamma, beta, eps):
    var, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0, keepdim=True)
    k = gamma[:, None, None] / torch.sqrt(var + eps)
    return torch.addcmul(beta[:, None, None], x - mean, k)


def why_not(run, expected, tolerance):
    try:
        results = list(run())
    except Exception as error:
        return repr(error)
    if [r.shape for r in results] != [e.shape for e in expected]:
        return f"shapes {[tuple(r.shape) for r in results]}"
    errors = []
    for r, e in zip(results, expected, strict=True):
        r, e = r.to(torch.float64).numpy(), e.numpy()
        errors.append(np.abs(r - e).max() / np.abs(e).max())
    fine = np.all(np.array(errors) <= tolerance)  # NaN and inf aren't
    return "" if fine else f"errors {errors}"


def race(functions, timer, rounds):
    table = np.array([[timer(f) for f in functions.values()] for _ in range(rounds)])
    seconds = np.median(table, axis=0)
    speedup = np.median(table[:, :1] / table, axis=0)
    return dict(zip(functions, seconds, strict=True)), dict(zip(functions, speedup, strict=True))


def time_to_target(errors, target, steps_per_epoch, seconds_per_step):
    hits = np.flatnonzero(np.asarray(errors) <= target)
    epochs = hits[0] + 1 if hits.size else np.inf
    return epochs, epochs * steps_per_epoch * seconds_per_step
