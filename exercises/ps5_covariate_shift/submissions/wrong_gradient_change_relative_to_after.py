"""Divides by the new gradient."""

QUESTION = "gradient_change"
LOSES = {"the change", "layers with batch normalization, in training mode"}
SAYS = "divides by the norm of G'"


def gradient_change(model, layer, x, y, lr):
    saved = {name: value.clone() for name, value in model.state_dict().items()}
    weight, earlier = model[layer].weight, list(model[:layer].parameters())
    before, *steps = torch.autograd.grad(F.cross_entropy(model(x), y), [weight, *earlier])
    with torch.no_grad():
        for parameter, gradient in zip(earlier, steps, strict=True):
            parameter -= lr * gradient
    (after,) = torch.autograd.grad(F.cross_entropy(model(x), y), [weight])
    model.load_state_dict(saved)
    cosine = (before * after).sum() / (before.norm() * after.norm())
    change = (after - before).norm() / after.norm()
    return cosine.item(), change.item()
