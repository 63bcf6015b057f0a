"""Channels moved to the last axis, where vectors line up by themselves; float64 inside, einsum for the sums."""


def channel_statistics(x):
    rows = x.movedim(1, -1).reshape(-1, x.shape[1]).double()
    mean = rows.mean(dim=0)
    var = torch.einsum("mc,mc->c", rows - mean, rows - mean) / len(rows)
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    return mean.to(dtype), var.to(dtype)


def normalize(x, mean, var, gamma, beta, eps):
    values = x.movedim(1, -1).double()
    gamma = 1.0 if gamma is None else gamma.double()
    beta = 0.0 if beta is None else beta.double()
    y = gamma * (values - mean.double()) / torch.sqrt(var.double() + eps) + beta
    return y.movedim(-1, 1).to(x.dtype)


class BatchNormFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, gamma, beta, eps):
        ctx.save_for_backward(x, gamma)
        ctx.eps = eps
        x_hat, _ = whiten(x, eps)
        y = x_hat * (1 if gamma is None else gamma.double()) + (0 if beta is None else beta.double())
        return y.movedim(-1, 1).to(x.dtype)

    @staticmethod
    def backward(ctx, dy):
        x, gamma = ctx.saved_tensors
        x_hat, std = whiten(x, ctx.eps)
        g = dy.movedim(1, -1).double()
        m = x.numel() / x.shape[1]
        dgamma, dbeta = torch.einsum("...c,...c->c", g, x_hat), torch.einsum("...c->c", g)
        dx = (g - dbeta / m - x_hat * dgamma / m) / std * (1 if gamma is None else gamma.double())
        wants = ctx.needs_input_grad
        vectors = torch.promote_types(x.dtype, torch.float32)
        return (
            dx.movedim(-1, 1).to(x.dtype) if wants[0] else None,
            dgamma.to(vectors) if wants[1] else None,
            dbeta.to(vectors) if wants[2] else None,
            None,
        )


def whiten(x, eps):
    values = x.movedim(1, -1).double()
    rows = values.flatten(0, -2)
    std = torch.sqrt(rows.var(dim=0, correction=0) + eps)
    return (values - rows.mean(dim=0)) / std, std


class BatchNormTwice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, gamma, beta, eps):
        ctx.x, ctx.gamma, ctx.eps = x, gamma, eps  # inputs may be attributes, too: they keep their history
        x_hat, _ = whiten(x, eps)
        return (gamma * x_hat + beta).movedim(-1, 1).to(x.dtype)

    @staticmethod
    def backward(ctx, dy):
        x_hat, std = whiten(ctx.x, ctx.eps)
        g = dy.movedim(1, -1).double()
        m = x_hat.numel() / x_hat.shape[-1]
        dgamma, dbeta = torch.einsum("...c,...c->c", g, x_hat), torch.einsum("...c->c", g)
        dx = ctx.gamma / std * (g - dbeta / m - x_hat * dgamma / m)
        dtype = dy.dtype
        return dx.movedim(-1, 1).to(dtype), dgamma.to(dtype), dbeta.to(dtype), None


class RunningStatistics(nn.Module):
    def __init__(self, num_features, momentum=0.1):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.register_buffer("num_batches_tracked", torch.zeros([], dtype=torch.int64))

    def update(self, mean, var, m):
        mean, var = mean.detach().double(), var.detach().double()
        k = int(self.num_batches_tracked) + 1
        alpha = 1 / k if self.momentum is None else self.momentum
        self.running_mean.copy_((1 - alpha) * self.running_mean + alpha * mean)
        self.running_var.copy_((1 - alpha) * self.running_var + alpha * var / (1 - 1 / m))
        self.num_batches_tracked.fill_(k)


class BatchNorm(nn.Module):
    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True):
        super().__init__()
        self.eps, self.momentum, self.tracks = eps, momentum, track_running_stats
        if affine:
            self.weight, self.bias = nn.Parameter(torch.ones(num_features)), nn.Parameter(torch.zeros(num_features))
        else:
            self.register_parameter("weight", None)
            self.register_parameter("bias", None)
        if track_running_stats:
            self.register_buffer("running_mean", torch.zeros(num_features))
            self.register_buffer("running_var", torch.ones(num_features))
            self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x):
        values = x.movedim(1, -1).double()
        if self.tracks and not self.training:
            mean, var = self.running_mean, self.running_var
        else:
            rows = values.flatten(0, -2)
            mean, var = rows.mean(dim=0), rows.var(dim=0, correction=0)
        if self.tracks and self.training:
            self.remember(mean.detach(), rows.detach().var(dim=0))
        y = (values - mean) / torch.sqrt(var + self.eps)
        if self.weight is not None:
            y = self.weight * y + self.bias
        return y.movedim(-1, 1).to(x.dtype)

    def remember(self, mean, unbiased):
        self.num_batches_tracked.add_(1)
        alpha = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        for buffer, new in ((self.running_mean, mean), (self.running_var, unbiased)):
            buffer += alpha * (new.float() - buffer)


def translate(framework, config, arrays):
    table = {
        "running_mean": ("moving_mean", "mean"),
        "running_var": ("moving_variance", "var"),
        "weight": ("gamma", "scale"),
        "bias": ("beta", "bias"),
    }
    column = ["keras", "flax"].index(framework)
    found = {ours: arrays.get(theirs[column]) for ours, theirs in table.items()}
    mean = torch.as_tensor(found["running_mean"])
    stands_for = {"weight": torch.ones_like(mean), "bias": torch.zeros_like(mean)}
    state = {k: stands_for[k] if v is None else torch.as_tensor(v).float().clone() for k, v in found.items()}
    state["num_batches_tracked"] = torch.zeros((), dtype=torch.int64)
    return [{"momentum": 1 - config["momentum"], "eps": config["epsilon"], "num_features": mean.numel()}, state]
