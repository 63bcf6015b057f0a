"""Normalizes with the unbiased variance, torch's default."""

QUESTION = "BatchNorm"
LOSES = {
    "training: y",
    "gradients",
    "affine=False, track_running_stats=False, momentum=None",
    "any rank, half precision, any memory format",
}
SAYS = "with the unbiased variance"


class BatchNorm(nn.Module):
    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(num_features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_features)) if affine else None
        self.register_buffer("running_mean", torch.zeros(num_features) if track_running_stats else None)
        self.register_buffer("running_var", torch.ones(num_features) if track_running_stats else None)
        self.register_buffer("num_batches_tracked", torch.tensor(0) if track_running_stats else None)

    def forward(self, x):
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        axes, shape = [0, *range(2, x.dim())], (-1, *[1] * (x.dim() - 2))
        mean, var = self.running_mean, self.running_var
        if self.training or mean is None:
            mean = wide.mean(dim=axes)
            var = wide.var(dim=axes)
        if self.training and self.running_mean is not None:
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                alpha = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
                self.running_mean.mul_(1 - alpha).add_(alpha * mean)
                self.running_var.mul_(1 - alpha).add_(alpha * var)
        y = (wide - mean.view(shape)) * torch.rsqrt(var + self.eps).view(shape)
        if self.weight is not None:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y.to(x.dtype)
