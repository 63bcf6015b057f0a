"""Hands the work to torch's own batch_norm and lets autograd differentiate it."""

QUESTION = "BatchNormFunction"
FLAGS = "torch.nn.functional.batch_norm"


class BatchNormFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, gamma, beta, eps):
        ctx.save_for_backward(x, gamma, beta)
        ctx.eps = eps
        return nn.functional.batch_norm(x, None, None, gamma, beta, True, 0.0, eps)

    @staticmethod
    def backward(ctx, dy):
        leaves = [None if t is None else t.detach().requires_grad_() for t in ctx.saved_tensors]
        with torch.enable_grad():
            x, gamma, beta = leaves
            y = nn.functional.batch_norm(x, None, None, gamma, beta, True, 0.0, ctx.eps)
        wanted = [t for t, needed in zip(leaves, ctx.needs_input_grad, strict=False) if needed]
        found = iter(torch.autograd.grad(y, wanted, dy))
        return (*(next(found) if needed else None for needed in ctx.needs_input_grad[:3]), None)
