"""Keeps the state_dict without copying: its tensors move along."""

QUESTION = "gradient_change"
LOSES = {"the parameters are as before", "the running statistics are as before"}
SAYS = "itself holds the very tensors"


def gradient_change(model, layer, x, y, lr):
    saved = model.state_dict()
    weight, earlier = model[layer].weight, list(model[:layer].parameters())
    before, *steps = torch.autograd.grad(F.cross_entropy(model(x), y), [weight, *earlier])
    with torch.no_grad():
        for parameter, gradient in zip(earlier, steps, strict=True):
            parameter -= lr * gradient
    (after,) = torch.autograd.grad(F.cross_entropy(model(x), y), [weight])
    model.load_state_dict(saved)
    cosine = (before * after).sum() / (before.norm() * after.norm())
    change = (after - before).norm() / before.norm()
    return cosine.item(), change.item()
