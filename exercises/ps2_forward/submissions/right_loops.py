"""Plain Python loops and math, no NumPy function but array: the slow, explicit style."""

import math


def batch_moments(x):
    n, d = x.shape
    mean, var = [], []
    for j in range(d):
        column = [float(value) for value in x[:, j]]
        mu = math.fsum(column) / n
        mean.append(mu)
        var.append(math.fsum((value - mu) ** 2 for value in column) / n)
    return np.array(mean), np.array(var)


def normalize(x, mean, var, eps):
    x_hat = np.zeros_like(x)
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            x_hat[i, j] = (x[i, j] - mean[j]) / math.sqrt(var[j] + eps)
    return x_hat


def undo_with(mean, var, eps):
    gamma = np.array([math.sqrt(v + eps) for v in var])
    beta = np.array([mu for mu in mean])
    return gamma, beta


def update_running(running_mean, running_var, mean, var, m, momentum):
    new_mean, new_var = [], []
    for j in range(len(mean)):
        new_mean.append(running_mean[j] + momentum * (mean[j] - running_mean[j]))
        new_var.append(running_var[j] + momentum * (var[j] * m / (m - 1) - running_var[j]))
    return np.array(new_mean), np.array(new_var)


def batch_norm_eval(x, gamma, beta, running_mean, running_var, eps):
    y = np.empty(x.shape)
    for i, example in enumerate(x):
        for j, value in enumerate(example):
            y[i, j] = gamma[j] * (value - running_mean[j]) / math.sqrt(running_var[j] + eps) + beta[j]
    return y


def layer_sizes(shape):
    learned = remembered = 0
    for _ in range(shape[1]):
        learned += 2
        remembered += 2
    m = shape[0]
    for axis in range(2, len(shape)):
        m = m * shape[axis]
    return learned, remembered, m


def channel_moments(x):
    mean, var = [], []
    for c in range(x.shape[1]):
        values = [float(value) for value in x[:, c].flatten()]
        mu = sum(values) / len(values)
        mean.append(mu)
        var.append(sum((value - mu) ** 2 for value in values) / len(values))
    return np.array(mean), np.array(var)


def batch_norm(x, gamma, beta, running_mean, running_var, training, momentum, eps):
    y, new_mean, new_var = np.empty_like(x), running_mean.copy(), running_var.copy()
    for c in range(x.shape[1]):
        mu, var = running_mean[c], running_var[c]
        if training:
            values = x[:, c].ravel().tolist()
            m = len(values)
            mu = sum(values) / m
            squares = sum((value - mu) ** 2 for value in values)
            var = squares / m
            new_mean[c] = (1 - momentum) * running_mean[c] + momentum * mu
            new_var[c] = (1 - momentum) * running_var[c] + momentum * squares / (m - 1)
        y[:, c] = gamma[c] * (x[:, c] - mu) / math.sqrt(var + eps) + beta[c]
    return y, new_mean, new_var
