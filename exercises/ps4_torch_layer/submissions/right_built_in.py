"""torch's own statistics and fused operations: var_mean, addcmul, lerp_; buffers assigned in loops."""

HALF_TYPES = {torch.float16, torch.bfloat16}


def axes_of(x):
    return tuple(axis for axis in range(x.ndim) if axis != 1)


def lined_up(v, x):
    return v[(slice(None), *[None] * (x.ndim - 2))]


def channel_statistics(x):
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    var, mean = torch.var_mean(x, dim=axes_of(x), correction=0)
    return mean, var


def normalize(x, mean, var, gamma, beta, eps):
    scale = (var + eps) ** -0.5
    if gamma is not None:
        scale = scale * gamma
    centered = x.to(mean.dtype) - lined_up(mean, x)
    if beta is None:
        y = torch.mul(centered, lined_up(scale, x))
    else:
        y = torch.addcmul(lined_up(beta, x), centered, lined_up(scale, x))
    return y.type_as(x)


class BatchNormFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, gamma, beta, eps):
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        var, mean = torch.var_mean(wide, dim=axes_of(x), correction=0)
        one = torch.ones_like(mean)
        scale = one if gamma is None else gamma
        shift = 0 * one if beta is None else beta
        std = torch.sqrt(var + eps)
        x_hat = (wide - lined_up(mean, x)) / lined_up(std, x)
        ctx.save_for_backward(x_hat, scale, std)  # x_hat instead of x: more memory, less arithmetic
        ctx.dtype = x.dtype
        return torch.addcmul(lined_up(shift, x), x_hat, lined_up(scale, x)).to(x.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dy):
        x_hat, scale, std = ctx.saved_tensors
        dy = dy.to(x_hat.dtype)
        m = x_hat.numel() / x_hat.shape[1]
        dbeta, dgamma = dy.sum(axes_of(dy)), (dy * x_hat).sum(axes_of(dy))
        dx = dy - lined_up(dbeta / m, dy) - x_hat * lined_up(dgamma / m, dy)
        grads = ((dx * lined_up(scale / std, dy)).to(ctx.dtype), dgamma, dbeta, None)
        return tuple(g if needed else None for g, needed in zip(grads, ctx.needs_input_grad, strict=True))


class BatchNormTwice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, gamma, beta, eps):
        var, mean = torch.var_mean(x, dim=axes_of(x), correction=0)
        ctx.save_for_backward(x, gamma, mean, var)
        ctx.eps = eps
        x_hat = (x - lined_up(mean, x)) / lined_up((var + eps).sqrt(), x)
        return torch.addcmul(lined_up(beta, x), x_hat, lined_up(gamma, x))

    @staticmethod
    def backward(ctx, dy):
        x, gamma, mean, var = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody will differentiate what follows: with the history of the statistics
            var, mean = torch.var_mean(x, dim=axes_of(x), correction=0)
        std = lined_up((var + ctx.eps).sqrt(), x)
        x_hat = (x - lined_up(mean, x)) / std
        m = x.numel() / x.shape[1]
        dbeta, dgamma = dy.sum(axes_of(x)), (dy * x_hat).sum(axes_of(x))
        dx = (dy - (lined_up(dbeta, x) + x_hat * lined_up(dgamma, x)) / m) * lined_up(gamma, x) / std
        return dx, dgamma, dbeta, None


class RunningStatistics(nn.Module):
    def __init__(self, num_features, momentum=0.1):
        super().__init__()
        self.momentum = momentum
        start = {
            "num_batches_tracked": torch.zeros((), dtype=torch.long),
            "running_mean": torch.full((num_features,), 0.0),
            "running_var": torch.full((num_features,), 1.0),
        }
        for name, value in start.items():
            self.register_buffer(name, value)

    @torch.no_grad()
    def update(self, mean, var, m):
        self.num_batches_tracked += 1
        weight = self.momentum
        if weight is None:
            weight = 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, weight)
        self.running_var.lerp_(var * (m / (m - 1)), weight)


class BatchNorm(nn.Module):
    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        for name, value in (("weight", 1.0), ("bias", 0.0)):
            self.register_parameter(name, nn.Parameter(torch.full((num_features,), value)) if affine else None)
        for name, value in (("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((num_features,), value) if track_running_stats else None)
        self.register_buffer("num_batches_tracked", torch.tensor(0) if track_running_stats else None)

    def forward(self, x):
        tracks = self.running_mean is not None
        if not self.training and tracks:
            return self.transform(x, self.running_mean, self.running_var)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        var, mean = torch.var_mean(wide, dim=axes_of(x), correction=0)
        if tracks:
            self.num_batches_tracked += 1
            weight = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
            unbiased = torch.var(wide.detach(), dim=axes_of(x))
            self.running_mean.lerp_(mean.detach(), weight)
            self.running_var.lerp_(unbiased, weight)
        return self.transform(x, mean, var)

    def transform(self, x, mean, var):
        y = (x - lined_up(mean, x)) / lined_up((var + self.eps).sqrt(), x)
        if self.weight is not None:
            y = torch.addcmul(lined_up(self.bias, x), y, lined_up(self.weight, x))
        return y.to(x.dtype)


def translate(framework, config, arrays):
    ours = ("weight", "bias", "running_mean", "running_var")
    theirs = ("gamma", "beta", "moving_mean", "moving_variance")
    if framework == "flax":
        theirs = ("scale", "bias", "mean", "var")
    layer = nn.BatchNorm2d(arrays[theirs[2]].size)  # its own state has the right names, dtypes and starting values
    state = layer.state_dict()
    for name, foreign in zip(ours, theirs, strict=True):
        if foreign in arrays:
            state[name] = torch.from_numpy(arrays[foreign].copy())
    return dict(num_features=layer.num_features, eps=config["epsilon"], momentum=1.0 - config["momentum"]), state
