"""Thinks in torch tensors and gives NumPy arrays back; a seed for torch is drawn from rng."""

import torch


def predict_noise(x, m):
    x = torch.from_numpy(x)
    n = x.size(0)
    var, mean = torch.var_mean(x, dim=0, correction=0)
    kurtosis = (x - mean).pow(4).mean(0) / var.square()
    return m**-0.5, ((n - m) / (n - 1)) ** 0.5 * m**-0.5, ((kurtosis - 1) / m).sqrt().numpy()


def dropout(x, p, training, rng):
    if not training:
        return x
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    kept = torch.empty(x.shape, dtype=torch.float64).bernoulli_(1 - p, generator=generator)
    return (torch.from_numpy(x) * kept / (1 - p)).numpy()


def variance_shift(h, weight, p):
    h, weight = torch.from_numpy(h), torch.from_numpy(weight)
    eval_var = torch.var(h @ weight, dim=0, correction=0)
    train_var = eval_var + p / (1 - p) * h.square().mean(0) @ weight.square()
    return train_var.numpy(), eval_var.numpy()


def honest_score(validation, test):
    mean = torch.from_numpy(validation).mean(dim=1).nan_to_num(nan=float("inf"))
    rate, stop = divmod(int(mean.argmin()), mean.size(1))
    return rate, stop, test[rate, :, stop]
