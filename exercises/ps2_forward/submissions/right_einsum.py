"""Sums by einsum and matrix products, channels moved to the end by swapaxes or to the front by moveaxis."""


def batch_moments(x):
    ones = np.ones(len(x), dtype=np.float64) / len(x)
    mean = ones @ x
    centered = x - mean
    return mean, np.einsum("ij,ij->j", centered, centered) / len(x)


def normalize(x, mean, var, eps):
    return np.einsum("ij,j->ij", x - mean, (var + eps) ** -0.5)


def update_running(running_mean, running_var, mean, var, m, momentum):
    blend = np.array([1 - momentum, momentum])
    new_mean = blend @ np.stack([running_mean, mean])
    new_var = blend @ np.stack([running_var, var / (1 - 1 / m)])
    return new_mean, new_var


def batch_norm_eval(x, gamma, beta, running_mean, running_var, eps):
    # Folded into one multiplication and one addition, as deployed networks do.
    weight = gamma / np.sqrt(running_var + eps)
    bias = beta - weight * running_mean
    return x @ np.diag(weight) + bias


def channel_moments(x):
    rows = np.moveaxis(x, 1, 0).reshape(x.shape[1], -1)
    mean = rows.mean(axis=1, keepdims=True)
    var = np.einsum("cm,cm->c", rows - mean, rows - mean) / rows.shape[1]
    return mean.squeeze(axis=1), var


def batch_norm(x, gamma, beta, running_mean, running_var, training, momentum, eps):
    values = np.swapaxes(x, 1, -1)  # channels last: everything per channel broadcasts
    if training:
        rows = values.reshape(-1, x.shape[1])
        mean, var = rows.mean(axis=0), rows.var(axis=0)
        unbiased = rows.var(axis=0, ddof=1)
        new_mean = np.average([running_mean, mean], axis=0, weights=[1 - momentum, momentum])
        new_var = np.average([running_var, unbiased], axis=0, weights=[1 - momentum, momentum])
    else:
        mean, var, new_mean, new_var = running_mean, running_var, running_mean.copy(), running_var.copy()
    y = (values - mean) / np.sqrt(var + eps) * gamma + beta
    return np.swapaxes(y, 1, -1), new_mean, new_var
