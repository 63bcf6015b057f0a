"""Einstein sums, the features (or channels) in front, projections as matrices."""


def parameter_gradients(dy, x, mean, var, eps):
    x_hat = (x - mean) * (var + eps) ** -0.5
    return np.einsum("ij,ij->j", dy, x_hat), np.einsum("ij->j", dy)


def numerical_gradient(f, x, dy, h):
    # the Jacobian first, all of it, then its product with dy
    start = np.asarray(x, dtype=np.float64)
    moves = h * np.eye(start.size).reshape(-1, *start.shape)
    jacobian = np.stack([(f(start + move) - f(start - move)) / (2 * h) for move in moves])
    return np.tensordot(jacobian, dy, axes=np.ndim(dy)).reshape(start.shape)


def gradient_error(f, x, dy, dx):
    if dx.shape != x.shape or not np.all(np.isfinite(dx)):
        return float("inf")
    h = x.std() / 100_000
    moves = h * np.eye(x.size).reshape(-1, *x.shape)
    losses = np.array([[np.vdot(dy, f(x + sign * move)) for sign in (1, -1)] for move in moves])
    numeric = (losses[:, 0] - losses[:, 1]) / (2 * h)
    largest = np.abs(np.concatenate([numeric, dx.ravel()])).max()
    if largest == 0:
        return 0.0
    return np.abs(numeric - dx.ravel()).max() / largest


def backward_staged(dy, x, gamma, eps):
    m = x.shape[0]
    rows, upstream = x.T, dy.T  # one row per feature
    centered = rows - np.einsum("ji->j", rows)[:, None] / m
    s = np.einsum("ji,ji->j", centered, centered) / m + eps
    dx_hat = np.einsum("ji,j->ji", upstream, gamma)
    dvar = -0.5 * np.einsum("ji,ji,j->j", dx_hat, centered, s**-1.5)
    dmu = -np.einsum("ji,j->j", dx_hat, s**-0.5) - 2 * dvar * np.einsum("ji->j", centered) / m
    dx = dx_hat / np.sqrt(s)[:, None] + (2 / m) * dvar[:, None] * centered + dmu[:, None] / m
    return dx_hat.T, dvar, dmu, dx.T


def split_gradient(dy, x_hat):
    m, d = dy.shape
    onto_ones = np.full((m, m), 1 / m)
    mean_part = onto_ones @ dy
    x_hat_part = np.stack([np.outer(x_hat[:, j], x_hat[:, j]) / m @ dy[:, j] for j in range(d)], axis=1)
    return mean_part, x_hat_part, dy - (mean_part + x_hat_part)


def backward(dy, x_hat, inv_std, gamma):
    m = len(dy)
    dgamma, dbeta = np.einsum("ij,ij->j", dy, x_hat), np.einsum("ij->j", dy)
    jacobians = np.eye(m)[None] - 1 / m - np.einsum("ij,kj->jik", x_hat, x_hat) / m  # (D, m, m): one per feature
    return np.einsum("j,j,jik,kj->ij", gamma, inv_std, jacobians, dy), dgamma, dbeta


def backward_channels(dy, x, gamma, eps):
    shape = np.moveaxis(x, 1, 0).shape
    values, upstream = (np.moveaxis(a, 1, 0).reshape(shape[0], -1) for a in (x, dy))  # (C, m)
    m = values.shape[1]
    values = values - values.mean(axis=1, keepdims=True)
    inv_std = (np.einsum("cm,cm->c", values, values) / m + eps) ** -0.5
    x_hat = values * inv_std[:, None]
    dgamma, dbeta = np.einsum("cm,cm->c", upstream, x_hat), np.einsum("cm->c", upstream)
    inside = upstream - (dbeta[:, None] + dgamma[:, None] * x_hat) / m
    dx = (gamma * inv_std)[:, None] * inside
    return np.moveaxis(dx.reshape(shape), 0, 1), dgamma, dbeta


def backward_eval(dy, x, gamma, running_mean, running_var, eps):
    inv_std = (running_var + eps) ** -0.5
    dx = np.einsum("ij,j,j->ij", dy, gamma, inv_std)
    dgamma = inv_std * (np.einsum("ij,ij->j", dy, x) - running_mean * dy.sum(axis=0))
    return dx, dgamma, np.einsum("ij->j", dy)


def gradient_norms(x, weights, dh, use_bn, eps):
    # Recursive: the way back of a layer begins where the layers above it return.
    def through(h, rest):
        if not rest:
            return dh, []
        z = np.einsum("ij,jk->ik", h, rest[0])
        inv_std = (z.var(axis=0) + eps) ** -0.5
        s = (z - z.mean(axis=0)) * inv_std if use_bn else z
        gradient, norms = through(s * (s > 0), rest[1:])
        gradient = gradient * (s > 0)
        if use_bn:
            gradient = gradient - gradient.mean(axis=0) - s * np.einsum("ij,ij->j", gradient, s) / len(s)
            gradient = gradient * inv_std
        dW = np.einsum("ij,ik->jk", h, gradient)
        return gradient @ rest[0].T, [np.sqrt(np.einsum("jk,jk->", dW, dW)), *norms]

    return through(x, list(weights))[1]
