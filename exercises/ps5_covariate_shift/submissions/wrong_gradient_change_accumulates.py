"""The second backward adds to the first."""

QUESTION = "gradient_change"
LOSES = {
    "the cosine",
    "the change",
    "layers with batch normalization, in training mode",
    "the parameters are as before",
    "the running statistics are as before",
}
SAYS = "contains G"


def gradient_change(model, layer, x, y, lr):
    saved = {name: value.clone() for name, value in model.state_dict().items()}
    weight = model[layer].weight
    model.zero_grad()
    F.cross_entropy(model(x), y).backward()
    before = weight.grad.clone()
    with torch.no_grad():
        for parameter in model[:layer].parameters():
            parameter -= lr * parameter.grad
    F.cross_entropy(model(x), y).backward()
    after = weight.grad
    model.load_state_dict(saved)
    cosine = (before * after).sum() / (before.norm() * after.norm())
    return cosine.item(), ((after - before).norm() / before.norm()).item()
