"""Plain loops over images, features, examples and steps; optimizers and backward() instead of autograd.grad."""

import copy
import math


def tint(images, colors):
    colored = torch.empty(len(images), 3, *images.shape[2:])
    for n in range(len(images)):
        for channel in range(3):
            colored[n, channel] = images[n, 0] * colors[n, channel]
    return colored


def shift_size(source, target):
    d, r = torch.zeros(source.shape[1]), torch.ones(source.shape[1])
    for j in range(source.shape[1]):
        a, b = source[:, j].tolist(), target[:, j].tolist()
        mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
        var_a = sum((v - mean_a) ** 2 for v in a) / (len(a) - 1)
        var_b = sum((v - mean_b) ** 2 for v in b) / (len(b) - 1)
        if var_a > 0 or var_b > 0:
            d[j] = (mean_b - mean_a) / math.sqrt(0.5 * var_a + 0.5 * var_b)
            r[j] = math.sqrt(var_b / var_a)
    return d, r


def accuracy(model, batches):
    answers = []
    modes = [(module, module.training) for module in model.modules()]
    for module, _ in modes:
        module.training = False
    for x, y in batches:
        with torch.inference_mode():
            scores = model(x)
        for row, label in zip(scores.tolist(), y.tolist(), strict=True):
            answers.append(row.index(max(row)) == label)
    for module, mode in modes:
        module.training = mode
    return sum(answers) / len(answers)


def adapt(model, batches):
    # Batch by batch: count, mean and sum of squared distances, joined as Chan et al. (1979) do.
    bns = [module for module in model.modules() if hasattr(module, "running_mean")]
    sums = {}

    def listen(layer, inputs):
        x = inputs[0]
        axes = [axis for axis in range(x.dim()) if axis != 1]
        m = x.numel() // x.shape[1]
        mean = x.mean(dim=axes)
        shape = [1, -1] + [1] * (x.dim() - 2)
        squares = ((x - mean.reshape(shape)) ** 2).sum(dim=axes)
        if layer not in sums:
            sums[layer] = m, mean, squares
            return
        m_old, mean_old, squares_old = sums[layer]
        delta, total = mean - mean_old, m + m_old
        sums[layer] = (
            total,
            mean_old + delta * m / total,
            squares + squares_old + delta**2 * (m * m_old / total),
        )

    before = [(module, module.training) for module in model.modules()]
    model.eval()
    handles = []
    for bn in bns:
        bn.train()
        handles.append(bn.register_forward_pre_hook(listen))
    with torch.no_grad():
        for x in batches:
            model(x)
    for handle in handles:
        handle.remove()
    for bn in bns:
        m, mean, squares = sums[bn]
        bn.running_mean.data[:] = mean
        bn.running_var.data[:] = squares / (m - 1)
    for module, mode in before:
        module.training = mode
    return model


def gradient_change(model, layer, x, y, lr):
    keep = copy.deepcopy(model.state_dict())
    model.zero_grad()
    F.cross_entropy(model(x), y).backward()
    before = model[layer].weight.grad.clone()
    torch.optim.SGD([p for module in list(model)[:layer] for p in module.parameters()] or [x], lr=lr).step()
    model.zero_grad()
    F.cross_entropy(model(x), y).backward()
    after = model[layer].weight.grad.clone()
    model.zero_grad()
    model.load_state_dict(keep)
    dot = size = size_after = moved = 0.0
    for g, h in zip(before.flatten().tolist(), after.flatten().tolist(), strict=True):
        dot, size, size_after, moved = dot + g * h, size + g * g, size_after + h * h, moved + (h - g) ** 2
    return dot / math.sqrt(size * size_after), math.sqrt(moved / size)


def scale_test(loss, weight, a):
    def measure(point):
        leaf = torch.nn.Parameter(point.clone())
        value = loss(leaf)
        value.backward()
        return value.item(), math.sqrt(sum(g * g for g in leaf.grad.flatten().tolist()))

    value, norm = measure(weight)
    value_a, norm_a = measure(a * weight)
    return value_a - value, norm_a / norm


def range_test(model, batches, low, high):
    work = copy.deepcopy(model).train()  # the model itself is never touched
    optimizer = torch.optim.SGD(work.parameters(), lr=low)
    factor = (high / low) ** (1 / (len(batches) - 1))
    rates, losses, rate = [], [], low
    for x, y in batches:
        optimizer.param_groups[0]["lr"] = rate
        loss = F.cross_entropy(work(x), y)
        rates.append(rate)
        losses.append(float(loss))
        if math.isnan(losses[-1]) or math.isinf(losses[-1]) or losses[-1] > 4 * min(losses):
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate *= factor
    return rates, losses


def suggest_rate(rates, losses, window):
    best, best_rate = math.inf, None
    for k in range(len(losses)):
        near = [losses[i] for i in range(len(losses)) if abs(i - k) <= (window - 1) // 2]
        if all(math.isfinite(loss) for loss in near) and sum(near) / len(near) < best:
            best, best_rate = sum(near) / len(near), rates[k]
    return 0.1 * best_rate


def compare(rates, plain, bn):
    def best(steps):
        middles = []
        for row in steps:
            ordered = sorted(row)
            half = len(ordered) // 2
            middles.append(ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2)
        k = middles.index(min(middles))
        return k, middles[k]

    (k, middle_plain), (j, middle_bn) = best(plain), best(bn)
    inside = k != 0 and j != 0 and k != len(rates) - 1 and j != len(rates) - 1
    return rates[k], rates[j], middle_plain / middle_bn, inside
