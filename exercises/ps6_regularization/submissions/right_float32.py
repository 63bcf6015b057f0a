"""Computes in float32 and returns float32."""


def predict_noise(x, m):
    x = x.astype(np.float32)
    x_hat = (x - x.mean(axis=0)) / x.std(axis=0)
    n, m = np.float32(len(x)), np.float32(m)
    kurtosis = np.mean(x_hat**4, axis=0)
    return np.sqrt(1 / m), np.sqrt((n - m) / (n - 1) / m), np.sqrt((kurtosis - 1) / m)


def noisy_views(example, x, mates, eps):
    example, x = example.astype(np.float32), x.astype(np.float32)
    x_hat = np.zeros((len(mates), len(example)), dtype=np.float32)
    for view, rows in zip(x_hat, mates, strict=True):
        batch = np.concatenate([example[None], x[rows]])
        view[:] = (example - batch.mean(axis=0)) / np.sqrt(batch.var(axis=0) + np.float32(eps))
    return x_hat


def ghost_batch_norm(x, gamma, beta, running_mean, running_var, ghost_size, training, momentum, eps):
    x, gamma, beta, mean, var = (a.astype("float32") for a in (x, gamma, beta, running_mean, running_var))
    momentum, eps = np.float32(momentum), np.float32(eps)
    if not training:
        return gamma * (x - mean) / np.sqrt(var + eps) + beta, mean, var
    y = np.zeros_like(x)
    for start in range(0, len(x), ghost_size):
        rows = slice(start, start + ghost_size)
        mu, spread = x[rows].mean(axis=0), x[rows].std(axis=0)
        y[rows] = gamma * (x[rows] - mu) / np.sqrt(spread**2 + eps) + beta
        mean = mean + momentum * (mu - mean)
        var = var + momentum * (x[rows].var(axis=0, ddof=1) - var)
    return y, mean, var


def dropout(x, p, training, rng):
    if not training:
        return x.astype(np.float32)
    kept = rng.random(x.shape, dtype=np.float32) > p
    return x.astype(np.float32) * (kept.astype(np.float32) / np.float32(1 - p))


def variance_shift(h, weight, p):
    h, weight = h.astype(np.float32), weight.astype(np.float32)
    eval_var = (h @ weight).var(axis=0)
    noise = np.square(h).mean(axis=0) @ np.square(weight)
    return eval_var + noise * np.float32(p / (1 - p)), eval_var


def follow_length(length, g, lr, decay, steps):
    length, g, lr, decay = np.float32([length, g, lr, decay])
    lengths = np.zeros(steps + 1, dtype=np.float32)
    lengths[0] = length
    for k in range(steps):
        lengths[k + 1] = np.hypot((1 - lr * decay) * lengths[k], lr * g / lengths[k])
    return lengths, lr / lengths**2, np.sqrt(np.sqrt((lr * g) ** 2 / (1 - (1 - lr * decay) ** 2)))
