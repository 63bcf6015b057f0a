"""Scales the caller's weights."""

QUESTION = "scale_test"
LOSES = {"leaves its inputs as they were"}
SAYS = "changed its input weight in place"


def scale_test(loss, weight, a):
    results = []
    for factor in (1.0, a):
        weight *= factor
        point = weight.clone().requires_grad_()
        value = loss(point)
        results.append((value.item(), torch.autograd.grad(value, [point])[0].norm().item()))
    return results[1][0] - results[0][0], results[1][1] / results[0][1]
