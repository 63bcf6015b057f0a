"""Puts the parameters back and forgets the buffers."""

QUESTION = "gradient_change"
LOSES = {"the running statistics are as before"}
SAYS = "they are buffers"


def gradient_change(model, layer, x, y, lr):
    saved = [parameter.detach().clone() for parameter in model.parameters()]
    weight, earlier = model[layer].weight, list(model[:layer].parameters())
    before, *steps = torch.autograd.grad(F.cross_entropy(model(x), y), [weight, *earlier])
    with torch.no_grad():
        for parameter, gradient in zip(earlier, steps, strict=True):
            parameter -= lr * gradient
    (after,) = torch.autograd.grad(F.cross_entropy(model(x), y), [weight])
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), saved, strict=True):
            parameter.copy_(value)
    cosine = (before * after).sum() / (before.norm() * after.norm())
    change = (after - before).norm() / before.norm()
    return cosine.item(), change.item()
