"""Calls the functions of the questions above; in-place work on own copies; tables for images."""


def parameter_gradients(dy, x, mean, var, eps):
    x_hat = x.copy()  # a copy may be changed in place
    x_hat -= mean
    x_hat /= np.sqrt(var + eps)
    dbeta = np.add.reduce(dy)
    x_hat *= dy
    return np.add.reduce(x_hat), dbeta


def gradient_error(f, x, dy, dx):
    if dx.shape != x.shape or np.isnan(dx).any() or np.isinf(dx).any():
        return np.inf
    numeric = numerical_gradient(f, x, dy, 1e-5 * x.std())
    both = np.abs([dx, numeric]).max()
    if both == 0:
        return 0.0
    return np.linalg.norm((dx - numeric).ravel(), ord=np.inf) / both


def backward_staged(dy, x, gamma, eps):
    mean, var = x.mean(axis=0), x.var(axis=0)
    dgamma, dbeta = parameter_gradients(dy, x, mean, var, eps)
    inv_std = (var + eps) ** -0.5
    x_hat = (x - mean) * inv_std
    dvar = -0.5 * gamma * dgamma * inv_std**2  # one inv_std of the three is in x_hat
    dmu = -gamma * inv_std * dbeta
    return dy * gamma, dvar, dmu, gamma * inv_std * (dy - (dbeta + x_hat * dgamma) / len(x))


def split_gradient(dy, x_hat):
    m = len(dy)
    ones, zeros = np.ones(dy.shape[1]), np.zeros(dy.shape[1])
    dgamma, dbeta = parameter_gradients(dy, x_hat, zeros, ones, 0.0)
    mean_part = np.tile(dbeta / m, (m, 1))
    x_hat_part = x_hat * dgamma / m
    return mean_part, x_hat_part, np.subtract(dy, np.add(mean_part, x_hat_part))


def backward(dy, x_hat, inv_std, gamma):
    *_, rest = split_gradient(dy, x_hat)
    return gamma * inv_std * rest, (dy * x_hat).sum(0), dy.sum(0)


def backward_channels(dy, x, gamma, eps):
    channels = x.shape[1]
    # every position is one more example of a table
    table, upstream = (np.moveaxis(a, 1, -1).reshape(-1, channels) for a in (x, dy))
    *_, dx = backward_staged(upstream, table, gamma, eps)
    dgamma, dbeta = parameter_gradients(upstream, table, table.mean(axis=0), table.var(axis=0), eps)
    shape = (x.shape[0], *x.shape[2:], channels)
    return np.moveaxis(dx.reshape(shape), -1, 1), dgamma, dbeta


def backward_eval(dy, x, gamma, running_mean, running_var, eps):
    dx = dy.copy()
    dx *= gamma
    dx /= np.sqrt(running_var + eps)
    return (dx, *parameter_gradients(dy, x, running_mean, running_var, eps))


def gradient_norms(x, weights, dh, use_bn, eps):
    below, steps = x, []
    for W in weights:
        z = below @ W
        s = (z - z.mean(axis=0)) / np.sqrt(z.var(axis=0) + eps) if use_bn else z
        steps.append((W, below, z, s))
        below = s.clip(min=0)
    norms = []
    while steps:
        W, below, z, s = steps.pop()
        dz = np.where(s > 0, dh, 0.0)
        if use_bn:
            dz = backward_channels(dz, z, np.ones(z.shape[1]), eps)[0]
        norms.insert(0, np.linalg.norm(np.transpose(below) @ dz))
        dh = dz @ np.transpose(W)
    return np.asarray(norms)
