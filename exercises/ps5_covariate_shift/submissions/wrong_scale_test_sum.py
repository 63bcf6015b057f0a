"""The sum of the entries for the size of the gradient."""

QUESTION = "scale_test"
LOSES = {"layers without BN"}
SAYS = "the Euclidean norm is asked"


def scale_test(loss, weight, a):
    values, norms = [], []
    for factor in (1.0, a):
        point = (factor * weight).detach().requires_grad_()
        value = loss(point)
        (gradient,) = torch.autograd.grad(value, [point])
        values.append(value.item())
        norms.append(gradient.abs().sum().item())
    return values[1] - values[0], norms[1] / norms[0]
