"""Helpers of one's own: a batch normalization for whole batches, an average, a wheel; generators used otherwise."""


def whole_batch(x, gamma, beta, eps):
    mean, var = x.mean(axis=0), x.var(axis=0)
    return gamma * (x - mean) / np.sqrt(var + eps) + beta


def average(old, new, momentum):
    return np.average([old, new], axis=0, weights=[1 - momentum, momentum])


def one_step(length, g, lr, decay):
    return abs(complex(length - lr * decay * length, lr * g / length))


def noisy_views(example, x, mates, eps):
    one, zero = np.ones_like(example), np.zeros_like(example)
    return np.stack([whole_batch(np.vstack([x[rows], example]), one, zero, eps)[-1] for rows in mates])


def ghost_batch_norm(x, gamma, beta, running_mean, running_var, ghost_size, training, momentum, eps):
    if not training:
        return (x - running_mean) * gamma * (running_var + eps) ** -0.5 + beta, running_mean, running_var
    y = []
    for group in np.split(x, range(ghost_size, len(x), ghost_size)):
        y.extend(whole_batch(group, gamma, beta, eps))
        running_mean = average(running_mean, group.mean(axis=0), momentum)
        running_var = average(running_var, group.var(axis=0, ddof=1), momentum)
    return np.array(y), running_mean, running_var


def dropout(x, p, training, rng):
    if training:
        x = x * rng.binomial(1, 1 - p, size=x.shape)
        x /= 1 - p
    return x


def scale_invariant(loss, parameters):
    parameters = [array.copy() for array in parameters]  # one's own, which may be changed
    before, answers = loss(parameters), []
    for array in parameters:
        array *= 4
        answers.append(abs(loss(parameters) / before - 1) < 1e-6)
        array /= 4
    return np.array(answers)


def follow_length(length, g, lr, decay, steps):
    lengths = [length]
    for _ in range(steps):
        lengths.append(one_step(lengths[-1], g, lr, decay))
    resting = lengths[-1]
    for _ in range(400):  # until nothing changes any more
        resting = one_step(resting, g, lr, decay)
    return np.array(lengths), lr * np.power(lengths, -2.0), resting


def corrupt_labels(y, classes, share, rng):
    corrupted = np.zeros(len(y), dtype=bool)
    corrupted[: round(share * len(y))] = True
    rng.shuffle(corrupted)
    labels = y.copy()
    while (again := corrupted & (labels == y)).any():  # draw until none is the old one
        labels[again] = rng.integers(classes, size=again.sum())
    return labels, corrupted


def honest_score(validation, test):
    scores = {
        (rate, stop): np.mean(validation[rate, :, stop])
        for rate in range(validation.shape[0])
        for stop in range(validation.shape[2])
        if np.isfinite(validation[rate, :, stop]).all()
    }
    rate, stop = min(scores, key=scores.get)
    return [rate, stop, list(test[rate, :, stop])]
