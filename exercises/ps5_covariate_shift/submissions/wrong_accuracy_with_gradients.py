"""Takes evaluation mode for the switch that turns gradients off."""

QUESTION = "accuracy"
LOSES = {"no gradients are recorded"}
SAYS = "with gradients on"


def accuracy(model, batches):
    modes = {module: module.training for module in model.modules()}
    model.eval()
    right = sum((model(x).argmax(dim=1) == y).sum().item() for x, y in batches)
    for module, mode in modes.items():
        module.training = mode
    return right / sum(len(y) for _, y in batches)
