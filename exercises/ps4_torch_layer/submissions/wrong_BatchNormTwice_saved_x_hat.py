"""Saves x_hat and inv_std: nothing in the backward pass depends on x any more."""

QUESTION = "BatchNormTwice"
LOSES = {"second derivatives with respect to x"}
SAYS = "Nothing that leads to x is left"


class BatchNormTwice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, gamma, beta, eps):
        axes, shape = [0, *range(2, x.dim())], (-1, *[1] * (x.dim() - 2))
        x_centered = x - x.mean(dim=axes, keepdim=True)
        inv_std = torch.rsqrt(x_centered.square().mean(dim=axes, keepdim=True) + eps)
        ctx.save_for_backward(x_centered * inv_std, gamma, inv_std)
        return gamma.view(shape) * x_centered * inv_std + beta.view(shape)

    @staticmethod
    def backward(ctx, dy):
        x_hat, gamma, inv_std = ctx.saved_tensors
        axes, shape = [0, *range(2, dy.dim())], (-1, *[1] * (dy.dim() - 2))
        dx_hat = dy * gamma.view(shape)
        common = dx_hat.mean(dim=axes, keepdim=True)
        along = (dx_hat * x_hat).mean(dim=axes, keepdim=True)
        dx = (dx_hat - common - x_hat * along) * inv_std
        return dx, (dy * x_hat).sum(dim=axes), dy.sum(dim=axes), None
