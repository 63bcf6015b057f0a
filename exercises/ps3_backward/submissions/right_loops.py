"""Plain Python loops and math: every sum written out, one number at a time."""

import math


def parameter_gradients(dy, x, mean, var, eps):
    n, d = x.shape
    dgamma, dbeta = np.zeros(d), np.zeros(d)
    for j in range(d):
        std = math.sqrt(var[j] + eps)
        for i in range(n):
            dgamma[j] += dy[i, j] * (x[i, j] - mean[j]) / std
            dbeta[j] += dy[i, j]
    return dgamma, dbeta


def numerical_gradient(f, x, dy, h):
    x = np.array(x, dtype=np.float64)  # an own copy, whose entries move and come back
    flat, result = x.reshape(-1), []
    for k in range(flat.size):
        before = flat[k]
        flat[k] = before + h
        above = np.sum(dy * f(x))
        flat[k] = before - h
        below = np.sum(dy * f(x))
        flat[k] = before
        result.append((above - below) / (2 * h))
    return np.reshape(result, x.shape)


def gradient_error(f, x, dy, dx):
    if np.shape(dx) != np.shape(x):
        return math.inf
    claim, point = [float(value) for value in dx.ravel()], x.copy()
    if not all(map(math.isfinite, claim)):
        return math.inf
    h = 1e-5 * float(np.std(x))
    worst = largest = 0.0
    for k, value in enumerate(claim):
        before = point.flat[k]
        point.flat[k] = before + h
        above = f(point)
        point.flat[k] = before - h
        slope = float(np.sum(dy * (above - f(point)))) / (2 * h)
        point.flat[k] = before
        worst, largest = max(worst, abs(slope - value)), max(largest, abs(slope), abs(value))
    return worst / largest if largest else 0


def backward_staged(dy, x, gamma, eps):
    m, d = x.shape
    dx_hat, dx, dvar, dmu = np.zeros((m, d)), np.zeros((m, d)), np.zeros(d), np.zeros(d)
    for j in range(d):
        mu = sum(x[:, j]) / m
        var = sum((value - mu) ** 2 for value in x[:, j]) / m
        s = var + eps
        for i in range(m):
            dx_hat[i, j] = dy[i, j] * gamma[j]
            dvar[j] += dx_hat[i, j] * (x[i, j] - mu) * -0.5 * s**-1.5
        for i in range(m):
            dmu[j] += -dx_hat[i, j] / math.sqrt(s) + dvar[j] * -2 * (x[i, j] - mu) / m
        for i in range(m):
            dx[i, j] = dx_hat[i, j] / math.sqrt(s) + dvar[j] * 2 * (x[i, j] - mu) / m + dmu[j] / m
    return dx_hat, dvar, dmu, dx


def split_gradient(dy, x_hat):
    m, d = dy.shape
    mean_part, x_hat_part, rest = np.empty((m, d)), np.empty((m, d)), np.empty((m, d))
    for j in range(d):
        level = sum(dy[i, j] for i in range(m)) / m
        slope = sum(dy[i, j] * x_hat[i, j] for i in range(m)) / m
        for i in range(m):
            mean_part[i, j], x_hat_part[i, j] = level, slope * x_hat[i, j]
            rest[i, j] = dy[i, j] - level - slope * x_hat[i, j]
    return mean_part, x_hat_part, rest


def backward(dy, x_hat, inv_std, gamma):
    m, d = dy.shape
    dx, dgamma, dbeta = np.zeros((m, d)), [0.0] * d, [0.0] * d
    for j in range(d):
        for i in range(m):
            dgamma[j] += dy[i, j] * x_hat[i, j]
            dbeta[j] += dy[i, j]
        for i in range(m):
            dx[i, j] = gamma[j] * inv_std[j] / m * (m * dy[i, j] - dbeta[j] - x_hat[i, j] * dgamma[j])
    return dx, dgamma, dbeta


def backward_channels(dy, x, gamma, eps):
    dx, dgamma, dbeta = np.empty(x.shape), [], []
    for c in range(x.shape[1]):  # one channel at a time: x[:, c] has one axis less
        values, gradient = x[:, c], dy[:, c]
        std = math.sqrt(values.var() + eps)
        x_hat = (values - values.mean()) / std
        dgamma.append((gradient * x_hat).sum())
        dbeta.append(gradient.sum())
        dx[:, c] = gamma[c] / std * (gradient - gradient.mean() - x_hat * (gradient * x_hat).mean())
    return dx, np.array(dgamma), np.array(dbeta)


def backward_eval(dy, x, gamma, running_mean, running_var, eps):
    n, d = x.shape
    dx, dgamma, dbeta = np.zeros(x.shape), np.zeros(d), np.zeros(d)
    for j in range(d):
        std = math.sqrt(running_var[j] + eps)
        for i in range(n):
            dx[i, j] = gamma[j] * dy[i, j] / std
            dgamma[j] += dy[i, j] * (x[i, j] - running_mean[j]) / std
            dbeta[j] += dy[i, j]
    return dx, dgamma, dbeta


def gradient_norms(x, weights, dh, use_bn, eps):
    layers = len(weights)
    inputs, outputs, stds = [x], [], []
    for W in weights:
        z = inputs[-1].dot(W)
        std = np.sqrt(z.var(axis=0) + eps) if use_bn else np.ones(z.shape[1])
        if use_bn:
            z = (z - z.mean(axis=0)) / std
        outputs.append(z)
        stds.append(std)
        inputs.append(np.where(z > 0, z, 0))
    norms = [0.0] * layers
    for layer in range(layers - 1, -1, -1):
        s, m = outputs[layer], len(x)
        dz = np.where(s > 0, dh, 0)
        if use_bn:
            dz = (dz - dz.sum(axis=0) / m - s * (dz * s).sum(axis=0) / m) / stds[layer]
        dW = inputs[layer].T.dot(dz)
        norms[layer] = math.sqrt(sum(value * value for value in dW.ravel()))
        dh = dz.dot(weights[layer].T)
    return norms
