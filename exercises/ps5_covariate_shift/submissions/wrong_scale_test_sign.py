"""The difference with the wrong sign."""

QUESTION = "scale_test"
LOSES = {"the difference of the losses"}
SAYS = "sign is turned around"


def scale_test(loss, weight, a):
    values, norms = [], []
    for factor in (1.0, a):
        point = (factor * weight).detach().requires_grad_()
        value = loss(point)
        (gradient,) = torch.autograd.grad(value, [point])
        values.append(value.item())
        norms.append(gradient.norm().item())
    return values[0] - values[1], norms[1] / norms[0]
