"""Later answers call the earlier ones, as question 7 allows; backward passes let autograd differentiate the forward."""


def normalize(x, mean, var, gamma, beta, eps):
    # Folded into one multiplication and one addition, as deployed networks do: fine in float32 beside half inputs.
    shape = [1, x.shape[1]] + [1] * (x.dim() - 2)
    k = 1 / torch.sqrt(var + eps)
    if gamma is not None:
        k = k * gamma
    return (k.view(shape) * (x - mean.view(shape)) + (0 if beta is None else beta.view(shape))).to(x.dtype)


class BatchNormFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, gamma, beta, eps):
        ctx.save_for_backward(x, gamma, beta)
        ctx.eps = eps
        return normalize(x, *channel_statistics(x), gamma, beta, eps)

    @staticmethod
    def backward(ctx, dy):
        leaves = [None if t is None else t.detach().requires_grad_() for t in ctx.saved_tensors]
        with torch.enable_grad():
            y = normalize(leaves[0], *channel_statistics(leaves[0]), *leaves[1:], ctx.eps)
        wanted = [t for t, needed in zip(leaves, ctx.needs_input_grad, strict=False) if needed]
        found = iter(torch.autograd.grad(y, wanted, dy))
        return (*(next(found) if needed else None for needed in ctx.needs_input_grad[:3]), None)


class BatchNormTwice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, gamma, beta, eps):
        ctx.save_for_backward(x, gamma, beta)
        ctx.eps = eps
        return normalize(x, *channel_statistics(x), gamma, beta, eps)

    @staticmethod
    def backward(ctx, dy):
        x, gamma, beta = ctx.saved_tensors
        with torch.enable_grad():
            again = [x.view_as(x), gamma.view_as(gamma), beta.view_as(beta)]  # with a history that leads to the inputs
            y = normalize(again[0], *channel_statistics(again[0]), *again[1:], ctx.eps)
            return (*torch.autograd.grad(y, again, dy, create_graph=True), None)


class RunningStatistics(nn.Module):
    def __init__(self, num_features, momentum=0.1):
        nn.Module.__init__(self)
        self.momentum = momentum
        for name, start in (("running_mean", 0), ("running_var", 1)):
            self.register_buffer(name, start * torch.ones(num_features))
        self.register_buffer("num_batches_tracked", torch.tensor(0).long())

    def update(self, mean, var, m):
        self.num_batches_tracked.data += 1
        weight = {None: 1 / self.num_batches_tracked.item()}.get(self.momentum, self.momentum)
        self.running_mean.data += weight * (mean.data - self.running_mean)
        self.running_var.data += weight * (m / (m - 1) * var.data - self.running_var)


class BatchNorm(nn.Module):
    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True):
        super().__init__()
        self.eps, self.affine, self.track_running_stats = eps, affine, track_running_stats
        self.weight = nn.Parameter(torch.ones(num_features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_features)) if affine else None
        memory = RunningStatistics(num_features, momentum)
        for name, buffer in memory.named_buffers():
            self.register_buffer(name, buffer if track_running_stats else None)
        self.momentum = momentum

    def forward(self, x):
        if self.track_running_stats and not self.training:
            return normalize(x, self.running_mean, self.running_var, self.weight, self.bias, self.eps)
        mean, var = channel_statistics(x)
        if self.track_running_stats:
            RunningStatistics.update(self, mean, var, x.numel() // x.shape[1])  # it only needs the three buffers
        return normalize(x, mean, var, self.weight, self.bias, self.eps)
