"""No loop over examples, batches or features: broadcasting, einsum, fancy indexing, reduceat."""


def predict_noise(x, m):
    centered = x - x.mean(axis=0, keepdims=True)
    second = np.einsum("ij,ij->j", centered, centered) / len(x)
    fourth = np.einsum("ij,ij,ij,ij->j", centered, centered, centered, centered) / len(x)
    with_replacement = 1 / np.sqrt(m)
    correction = np.sqrt(1 - (m - 1) / (len(x) - 1))
    return with_replacement, with_replacement * correction, np.sqrt((fourth / second**2 - 1) / m)


def noisy_views(example, x, mates, eps):
    company = x[mates]  # (B, m - 1, D)
    itself = np.broadcast_to(example, (len(mates), 1, len(example)))
    batches = np.concatenate([company, itself], axis=1)
    x_hat = (batches - batches.mean(axis=1, keepdims=True)) / np.sqrt(batches.var(axis=1, keepdims=True) + eps)
    return x_hat[:, -1]


def ghost_batch_norm(x, gamma, beta, running_mean, running_var, ghost_size, training, momentum, eps):
    if not training:
        scale = gamma / np.sqrt(running_var + eps)
        return x * scale + (beta - running_mean * scale), running_mean.copy(), running_var.copy()
    starts = np.arange(0, len(x), ghost_size)
    owner = np.arange(len(x)) // ghost_size
    size = np.bincount(owner)[:, None]
    mean = np.add.reduceat(x, starts) / size
    squares = np.add.reduceat((x - mean[owner]) ** 2, starts)
    y = gamma * (x - mean[owner]) / np.sqrt((squares / size)[owner] + eps) + beta
    # Weight of each group after all groups: momentum, faded by those that came later.
    fade = momentum * (1 - momentum) ** np.arange(len(starts))[::-1]
    left = (1 - momentum) ** len(starts)
    return y, left * running_mean + fade @ mean, left * running_var + fade @ (squares / (size - 1))


def dropout(x, p, training, rng):
    return np.where(rng.uniform(size=x.shape) < 1 - p, x / (1 - p), 0) if training else x


def variance_shift(h, weight, p):
    covariance = np.cov(h.T, bias=True)
    eval_var = np.einsum("jk,jl,lk->k", weight, covariance, weight)
    mean_square = np.diag(covariance) + h.mean(axis=0) ** 2
    return eval_var + np.einsum("j,jk,jk->k", mean_square, weight, weight) * p / (1 - p), eval_var


def scale_invariant(loss, parameters):
    factors = 1 + 2 * np.eye(len(parameters))
    losses = [loss([a * array for a, array in zip(row, parameters, strict=True)]) for row in factors]
    return np.isclose(losses, loss(parameters), rtol=1e-6, atol=0).tolist()


def follow_length(length, g, lr, decay, steps):
    squared = np.full(steps + 1, length**2, dtype=float)
    for k in range(steps):
        squared[k + 1] = (1 - lr * decay) ** 2 * squared[k] + (lr * g) ** 2 / squared[k]
    resting = np.sqrt(lr * g / np.sqrt(lr * decay * (2 - lr * decay)))
    return np.sqrt(squared), lr / squared, resting


def corrupt_labels(y, classes, share, rng):
    chosen = rng.choice(len(y), size=round(share * len(y)), replace=False)
    corrupted = np.isin(np.arange(len(y)), chosen)
    drawn = rng.integers(0, classes - 1, size=len(y))
    drawn = drawn + (drawn >= y)  # skips the label itself
    return np.where(corrupted, drawn, y), corrupted


def honest_score(validation, test):
    mean = np.nan_to_num(np.einsum("rst->rt", validation), nan=np.inf)
    rate, stop = divmod(mean.argmin(), mean.shape[1])
    return rate, stop, test[rate, :, stop]
