"""Plain Python loops and math: the slow, explicit style. Returns lists where arrays are asked."""

import math


def predict_noise(x, m):
    n, d = x.shape
    of_variance = []
    for j in range(d):
        column = [float(value) for value in x[:, j]]
        mu = math.fsum(column) / n
        var = math.fsum((value - mu) ** 2 for value in column) / n
        kurtosis = math.fsum((value - mu) ** 4 for value in column) / n / var**2
        of_variance.append(math.sqrt((kurtosis - 1) / m))
    return m**-0.5, math.sqrt((n - m) / ((n - 1) * m)), of_variance


def noisy_views(example, x, mates, eps):
    x_hat = np.empty((len(mates), len(example)))
    for b, rows in enumerate(mates):
        m = len(rows) + 1
        for j, value in enumerate(example):
            batch = [value] + [x[i, j] for i in rows]
            mu = sum(batch) / m
            var = sum((v - mu) ** 2 for v in batch) / m
            x_hat[b, j] = (value - mu) / math.sqrt(var + eps)
    return x_hat


def ghost_batch_norm(x, gamma, beta, running_mean, running_var, ghost_size, training, momentum, eps):
    n, d = x.shape
    y = np.empty((n, d))
    new_mean, new_var = [float(v) for v in running_mean], [float(v) for v in running_var]
    for j in range(d):
        if not training:
            for i in range(n):
                y[i, j] = gamma[j] * (x[i, j] - running_mean[j]) / math.sqrt(running_var[j] + eps) + beta[j]
            continue
        start = 0
        while start < n:
            stop = min(start + ghost_size, n)
            m = stop - start
            mu = sum(x[i, j] for i in range(start, stop)) / m
            squares = sum((x[i, j] - mu) ** 2 for i in range(start, stop))
            for i in range(start, stop):
                y[i, j] = gamma[j] * (x[i, j] - mu) / math.sqrt(squares / m + eps) + beta[j]
            new_mean[j] += momentum * (mu - new_mean[j])
            new_var[j] += momentum * (squares / (m - 1) - new_var[j])
            start = stop
    return y, new_mean, new_var


def dropout(x, p, training, rng):
    y = x.copy()
    if training:
        for i in range(x.shape[0]):
            for j in range(x.shape[1]):
                y[i, j] = 0.0 if rng.random() < p else x[i, j] / (1 - p)
    return y


def variance_shift(h, weight, p):
    n, d = h.shape
    train_var, eval_var = [], []
    for k in range(weight.shape[1]):
        z = [sum(h[i, j] * weight[j, k] for j in range(d)) for i in range(n)]
        mu = sum(z) / n
        var = sum((value - mu) ** 2 for value in z) / n
        added = 0.0
        for j in range(d):
            added += weight[j, k] ** 2 * sum(h[i, j] ** 2 for i in range(n)) / n
        eval_var.append(var)
        train_var.append(var + p / (1 - p) * added)
    return train_var, eval_var


def scale_invariant(loss, parameters):
    before = loss(parameters)
    answers = []
    for k in range(len(parameters)):
        scaled = list(parameters)
        scaled[k] = 10.0 * parameters[k]
        answers.append(math.isclose(loss(scaled), before, rel_tol=1e-6))
    return answers


def follow_length(length, g, lr, decay, steps):
    lengths = [length]
    while len(lengths) <= steps:
        kept, step = (1 - lr * decay) * lengths[-1], lr * g / lengths[-1]
        lengths.append(math.sqrt(kept * kept + step * step))
    rates = [lr / (ell * ell) for ell in lengths]
    x = lr * decay
    return lengths, rates, math.sqrt(g * math.sqrt(lr / (decay * (2 - x))))


def corrupt_labels(y, classes, share, rng):
    labels, corrupted = [int(label) for label in y], [False] * len(y)
    places = list(range(len(y)))
    for _ in range(round(share * len(y))):
        i = places.pop(int(rng.integers(len(places))))
        others = [c for c in range(classes) if c != y[i]]
        labels[i] = others[int(rng.integers(len(others)))]
        corrupted[i] = True
    return np.array(labels), np.array(corrupted)


def honest_score(validation, test):
    rates, seeds, moments = validation.shape
    lowest, choice = math.inf, None
    for r in range(rates):
        for t in range(moments):
            mean = sum(validation[r, s, t] for s in range(seeds)) / seeds
            if mean < lowest:  # never true of NaN
                lowest, choice = mean, (r, t)
    return choice[0], choice[1], [test[choice[0], s, choice[1]] for s in range(seeds)]
