"""The norm of the difference, without dividing."""

QUESTION = "gradient_change"
LOSES = {"the change", "layers with batch normalization, in training mode"}
SAYS = "divide it by the norm of G"


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
    change = (after - before).norm()
    return cosine.item(), change.item()
