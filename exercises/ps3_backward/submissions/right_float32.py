"""Computes in float32 wherever the question does not ask for float64, and returns float32."""


def parameter_gradients(dy, x, mean, var, eps):
    dy, x, mean, var = (np.asarray(a, dtype=np.float32) for a in (dy, x, mean, var))
    x_hat = (x - mean) / np.sqrt(var + np.float32(eps))
    return np.sum(dy * x_hat, axis=0), np.sum(dy, axis=0)


def backward_staged(dy, x, gamma, eps):
    dy, x, gamma = dy.astype("f4"), x.astype("f4"), gamma.astype("f4")
    m, centered = np.float32(len(x)), x - x.mean(axis=0, keepdims=True)
    std = np.sqrt(np.mean(centered**2, axis=0) + np.float32(eps))
    dx_hat = gamma * dy
    dvar = np.sum(dx_hat * centered, axis=0) / (-2 * std**3)
    dmu = np.sum(-dx_hat / std, axis=0) + dvar * np.mean(-2 * centered, axis=0)
    return dx_hat, dvar, dmu, dx_hat / std + dvar * 2 * centered / m + dmu / m


def split_gradient(dy, x_hat):
    dy, x_hat = dy.astype(np.float32), x_hat.astype(np.float32)
    mean_part = np.broadcast_to(dy.mean(axis=0), dy.shape)
    x_hat_part = np.mean(dy * x_hat, axis=0, keepdims=True) * x_hat
    return mean_part, x_hat_part, dy - mean_part - x_hat_part


def backward(dy, x_hat, inv_std, gamma):
    dy, x_hat, inv_std, gamma = (a.astype(np.float32) for a in (dy, x_hat, inv_std, gamma))
    dx_hat = dy * gamma
    dx = inv_std / len(dy) * (len(dy) * dx_hat - dx_hat.sum(axis=0) - x_hat * (dx_hat * x_hat).sum(axis=0))
    return [dx, (dy * x_hat).sum(axis=0), dy.sum(axis=0)]


def backward_channels(dy, x, gamma, eps):
    dy, x = dy.astype(np.float32), x.astype(np.float32)  # gamma stays in float64
    axes = tuple(axis for axis in range(x.ndim) if axis != 1)
    along = [np.newaxis if axis in axes else slice(None) for axis in range(x.ndim)]
    scale = gamma / np.sqrt(x.var(axis=axes) + eps)
    x_hat = (x - x.mean(axis=axes, keepdims=True)) / np.sqrt(x.var(axis=axes, keepdims=True) + np.float32(eps))
    level, slope = dy.mean(axis=axes, keepdims=True), (dy * x_hat).mean(axis=axes, keepdims=True)
    m = x[:, 0].size
    return scale[tuple(along)] * (dy - level - x_hat * slope), slope.ravel() * m, level.ravel() * m


def backward_eval(dy, x, gamma, running_mean, running_var, eps):
    dy, x, gamma, mean, var = (a.astype(np.float32) for a in (dy, x, gamma, running_mean, running_var))
    inv_std = 1 / np.sqrt(var + np.float32(eps))
    return dy * gamma * inv_std, np.sum(dy * (x - mean) * inv_std, axis=0), np.sum(dy, axis=0)


def gradient_norms(x, weights, dh, use_bn, eps):
    h, dh, kept = np.float32(x), np.float32(dh), []
    weights = [np.float32(W) for W in weights]
    for W in weights:
        s, inv_std = h @ W, np.float32(1)
        if use_bn:
            inv_std = 1 / np.sqrt(s.var(axis=0) + np.float32(eps))
            s = (s - s.mean(axis=0)) * inv_std
        kept.append((W, h, s, inv_std))
        h = np.maximum(s, 0)
    norms = np.zeros(len(weights), dtype=np.float32)
    for number, (W, h, s, inv_std) in reversed(list(enumerate(kept))):
        dz = dh * np.float32(s > 0)
        if use_bn:
            dz = inv_std * (dz - dz.mean(axis=0) - s * (dz * s).mean(axis=0))
        norms[number] = np.sqrt(np.sum((h.T @ dz) ** 2))
        dh = dz @ W.T
    return norms
