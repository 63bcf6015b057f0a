"""Sums of squares without the root."""

QUESTION = "scale_test"
LOSES = {"a layer with BN: the gradient goes with 1/a", "layers without BN"}
SAYS = "take the root"


def scale_test(loss, weight, a):
    values, norms = [], []
    for factor in (1.0, a):
        point = (factor * weight).detach().requires_grad_()
        value = loss(point)
        (gradient,) = torch.autograd.grad(value, [point])
        values.append(value.item())
        norms.append((gradient**2).sum().item())
    return values[1] - values[0], norms[1] / norms[0]
