"""The standard library: math.prod, statistics.quantiles, timeit with a clock of its own, a shuffled order per round."""

import math
import random
import statistics


def bn_bytes(shape, itemsize, step, streaming):
    moved = {"eval": ["x", "y"], "forward": ["x", "y"], "backward": ["x", "dy", "dx"]}[step]
    if streaming:
        moved = moved + {"eval": [], "forward": ["x"], "backward": ["x", "dy"]}[step]
    vectors = {
        "eval": "gamma beta running_mean running_var",
        "forward": "gamma beta running_mean running_var new_running_mean new_running_var mu var",
        "backward": "gamma mu var dgamma dbeta",
    }[step].split()
    return float(len(moved) * math.prod(shape) * itemsize), len(vectors) * shape[1] * 4


def bn_flops(shape, step):
    formulas = {"eval": "k*x+t", "forward": "s+x d=x-mu q+d*d k*x+t", "backward": "s+dy q+dy*(x-mu) k*dy+u*x+v"}
    return sum(formulas[step].count(sign) for sign in "+-*") * math.prod(shape)


def roofline(flops, nbytes, bandwidth, peak):
    seconds = max(nbytes / bandwidth, flops / peak) / 1e9
    return flops / nbytes, flops / seconds / 1e9, seconds


def measure(function, clock, synchronize, warmup, repeats):
    for _ in range(warmup):
        function()

    def call_and_wait():
        function()
        synchronize()

    times = timeit.repeat(call_and_wait, setup=synchronize, timer=clock, number=1, repeat=repeats)
    return tuple(statistics.quantiles(times, n=4, method="inclusive"))


def copy_bandwidth(x, timer):
    destination = torch.zeros(x.shape, dtype=x.dtype, device=x.device)
    gigabytes = math.prod(x.shape) * x.dtype.itemsize / 1e9
    return (gigabytes + gigabytes) / timer(lambda: torch.Tensor.copy_(destination, x))


def batch_norm(x, gamma, beta, eps):
    m = x.numel() // x.shape[1]
    mean = torch.einsum("nchw->c", x) / m
    centered = x - mean[None, :, None, None]
    var = torch.einsum("nchw,nchw->c", centered, centered) / m
    return torch.einsum("nchw,c->nchw", centered, gamma * (var + eps) ** -0.5) + beta.view(1, -1, 1, 1)


def why_not(run, expected, tolerance):
    try:
        results = run()
        for result, exact in zip(results, expected, strict=True):
            assert result.shape == exact.shape, "another shape"
            bound = tolerance * exact.abs().max().item()
            for r, e in zip(result.flatten().tolist(), exact.flatten().tolist(), strict=True):
                assert math.isfinite(r) and abs(r - e) <= bound, f"{r} for {e}"
    except Exception as error:
        return f"{type(error).__name__} {error}"
    return ""


def race(functions, timer, rounds):
    names = list(functions)
    times = {name: [] for name in names}
    for number in range(rounds):
        for name in random.Random(number).sample(names, len(names)):  # another order in every round
            times[name].append(timer(lambda name=name: functions[name]()))
    seconds, speedup = {}, {}
    for name in names:
        seconds[name] = statistics.median(times[name])
        speedup[name] = statistics.median([b / t for b, t in zip(times[names[0]], times[name], strict=True)])
    return seconds, speedup


def time_to_target(errors, target, steps_per_epoch, seconds_per_step):
    epochs = next((k + 1 for k, error in enumerate(errors) if not error > target), math.inf)
    return epochs, seconds_per_step * steps_per_epoch * epochs
