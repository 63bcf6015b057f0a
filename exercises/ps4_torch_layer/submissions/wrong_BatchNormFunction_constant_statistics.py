"""Treats mean and variance as constants in dx."""

QUESTION = "BatchNormFunction"
LOSES = {
    "gradient with respect to x",
    "any rank",
    "gamma or beta may be None",
    "eight digits in float64",
    "half precision",
}
SAYS = "mean and variance as constants"


class BatchNormFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, gamma, beta, eps):
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        axes, shape = [0, *range(2, x.dim())], (-1, *[1] * (x.dim() - 2))
        mean = wide.mean(dim=axes)
        x_centered = wide - mean.view(shape)
        inv_std = torch.rsqrt(x_centered.square().mean(dim=axes) + eps)
        y = x_centered * inv_std.view(shape)
        if gamma is not None:
            y = y * gamma.view(shape)
        if beta is not None:
            y = y + beta.view(shape)
        ctx.save_for_backward(x, gamma, mean, inv_std)
        return y.to(x.dtype)

    @staticmethod
    def backward(ctx, dy):
        x, gamma, mean, inv_std = ctx.saved_tensors
        axes, shape = [0, *range(2, x.dim())], (-1, *[1] * (x.dim() - 2))
        dy = dy.to(mean.dtype)
        x_hat = (x - mean.view(shape)) * inv_std.view(shape)
        dx = dgamma = dbeta = None
        if ctx.needs_input_grad[0]:
            dx_hat = dy if gamma is None else dy * gamma.view(shape)
            dx = (dx_hat * inv_std.view(shape)).to(x.dtype)
        if ctx.needs_input_grad[1]:
            dgamma = (dy * x_hat).sum(dim=axes)
        if ctx.needs_input_grad[2]:
            dbeta = dy.sum(dim=axes)
        return dx, dgamma, dbeta, None
