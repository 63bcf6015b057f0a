"""A loop over the channels, one at a time, and Python numbers where a channel has one."""


def channel_statistics(x):
    means, variances = [], []
    for c in range(x.shape[1]):
        values = x[:, c].reshape(-1)
        values = values if values.dtype == torch.float64 else values.float()
        mean = values.sum() / len(values)
        means.append(mean)
        variances.append(((values - mean) ** 2).sum() / len(values))
    return torch.stack(means), torch.stack(variances)


def normalize(x, mean, var, gamma, beta, eps):
    y = torch.empty_like(x)  # keeps dtype and memory format
    for c in range(x.shape[1]):
        values = (x[:, c].to(mean.dtype) - mean[c]) / (var[c] + eps).sqrt()
        if gamma is not None:
            values = values * gamma[c]
        if beta is not None:
            values = values + beta[c]
        y[:, c] = values
    return y


class BatchNormFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, gamma, beta, eps):
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        y, x_hat = torch.empty_like(x), torch.empty_like(x, dtype=dtype)
        stds = []
        for c in range(x.shape[1]):
            values = x[:, c].to(dtype)
            stds.append((values.var(correction=0) + eps).sqrt())
            x_hat[:, c] = (values - values.mean()) / stds[c]
            y[:, c] = x_hat[:, c] * (1 if gamma is None else gamma[c]) + (0 if beta is None else beta[c])
        ctx.save_for_backward(x_hat, gamma, torch.stack(stds))
        ctx.dtype = x.dtype
        return y

    @staticmethod
    def backward(ctx, dy):
        x_hat, gamma, std = ctx.saved_tensors
        dx, dgamma, dbeta = torch.empty_like(dy), torch.empty_like(std), torch.empty_like(std)
        for c in range(dy.shape[1]):
            d, h = dy[:, c].to(std.dtype), x_hat[:, c]
            dbeta[c], dgamma[c] = d.sum(), (d * h).sum()
            factor = (1 if gamma is None else gamma[c]) / std[c]
            dx[:, c] = factor * (d - d.mean() - h * (d * h).mean())
        return (
            dx if ctx.needs_input_grad[0] else None,
            dgamma if ctx.needs_input_grad[1] else None,
            dbeta if ctx.needs_input_grad[2] else None,
            None,
        )


class BatchNormTwice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, gamma, beta, eps):
        ctx.save_for_backward(x, gamma)
        ctx.eps = eps
        columns = []
        for c in range(x.shape[1]):
            values = x[:, c]
            x_hat = (values - values.mean()) / (values.var(correction=0) + eps).sqrt()
            columns.append(gamma[c] * x_hat + beta[c])
        return torch.stack(columns, dim=1)

    @staticmethod
    def backward(ctx, dy):
        x, gamma = ctx.saved_tensors
        dx, dgamma, dbeta = [], [], []
        for c in range(x.shape[1]):
            values, d = x[:, c], dy[:, c]
            std = (values.var(correction=0) + ctx.eps).sqrt()
            x_hat = (values - values.mean()) / std
            dx.append(gamma[c] / std * (d - d.mean() - x_hat * (d * x_hat).mean()))
            dgamma.append((d * x_hat).sum())
            dbeta.append(d.sum())
        return torch.stack(dx, dim=1), torch.stack(dgamma), torch.stack(dbeta), None


class RunningStatistics(nn.Module):
    def __init__(self, num_features, momentum=0.1):
        super().__init__()
        self.momentum = momentum
        self.running_mean = nn.Buffer(torch.tensor([0.0 for _ in range(num_features)]))
        self.running_var = nn.Buffer(torch.tensor([1.0 for _ in range(num_features)]))
        self.num_batches_tracked = nn.Buffer(torch.tensor(0))

    def update(self, mean, var, m):
        self.num_batches_tracked.fill_(self.num_batches_tracked + 1)
        weight = self.momentum if self.momentum is not None else 1 / self.num_batches_tracked.item()
        for c, (new_mean, new_var) in enumerate(zip(mean.tolist(), var.tolist(), strict=True)):
            self.running_mean[c] += weight * (new_mean - self.running_mean[c].item())
            self.running_var[c] += weight * (new_var * m / (m - 1) - self.running_var[c].item())


class BatchNorm(nn.Module):
    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = self.bias = None
        if affine:
            self.weight = nn.Parameter(torch.ones(num_features))
            self.bias = nn.Parameter(torch.zeros(num_features))
        self.running_mean = self.running_var = self.num_batches_tracked = None
        if track_running_stats:
            del self.running_mean, self.running_var, self.num_batches_tracked
            self.register_buffer("running_mean", torch.zeros(num_features))
            self.register_buffer("running_var", torch.ones(num_features))
            self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))

    def forward(self, x):
        if self.training and self.running_mean is not None:
            self.num_batches_tracked += 1
        columns = [self.channel(x[:, c].to(torch.promote_types(x.dtype, torch.float32)), c) for c in range(x.shape[1])]
        y = torch.stack(columns, dim=1).to(x.dtype)
        channels_last = x.dim() == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
        return y.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)

    def channel(self, values, c):
        if self.training or self.running_mean is None:
            mean, var = values.mean(), values.var(correction=0)
        else:
            mean, var = self.running_mean[c], self.running_var[c]
        if self.training and self.running_mean is not None:
            weight = self.momentum if self.momentum is not None else 1 / self.num_batches_tracked.item()
            m = values.numel()
            self.running_mean[c] = (1 - weight) * self.running_mean[c] + weight * mean.item()
            self.running_var[c] = (1 - weight) * self.running_var[c] + weight * var.item() * m / (m - 1)
        x_hat = (values - mean) / (var + self.eps).sqrt()
        return x_hat if self.weight is None else self.weight[c] * x_hat + self.bias[c]


def translate(framework, config, arrays):
    if framework == "keras":
        gamma, beta, mean, var = (arrays.get(k) for k in ("gamma", "beta", "moving_mean", "moving_variance"))
    else:
        gamma, beta, mean, var = (arrays.get(k) for k in ("scale", "bias", "mean", "var"))
    channels = range(len(mean))
    state = {
        "weight": torch.tensor([1.0 if gamma is None else float(gamma[c]) for c in channels]),
        "bias": torch.tensor([0.0 if beta is None else float(beta[c]) for c in channels]),
        "running_mean": torch.tensor([float(mean[c]) for c in channels]),
        "running_var": torch.tensor([float(var[c]) for c in channels]),
        "num_batches_tracked": torch.tensor(0, dtype=torch.long),
    }
    return {"num_features": len(channels), "eps": config["epsilon"], "momentum": 1 - config["momentum"]}, state
