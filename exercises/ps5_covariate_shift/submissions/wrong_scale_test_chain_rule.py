"""Differentiates loss(a W) with respect to W: the chain rule adds a factor a."""

QUESTION = "scale_test"
LOSES = {"a layer with BN: the gradient goes with 1/a", "layers without BN"}
SAYS = "the chain rule has put"


def scale_test(loss, weight, a):
    values, norms = [], []
    for factor in (1.0, a):
        point = weight.detach().clone().requires_grad_()
        value = loss(factor * point)
        (gradient,) = torch.autograd.grad(value, [point])
        values.append(value.item())
        norms.append(gradient.norm().item())
    return values[1] - values[0], norms[1] / norms[0]
