"""Leaves the smaller last batch out."""

QUESTION = "accuracy"
LOSES = {"a smaller last batch"}
SAYS = "was left out"


def accuracy(model, batches):
    modes = {module: module.training for module in model.modules()}
    model.eval()
    right = total = 0
    with torch.no_grad():
        for x, y in batches:
            if len(y) == len(batches[0][1]):
                right += (model(x).argmax(dim=1) == y).sum().item()
                total += len(y)
    for module, mode in modes.items():
        module.training = mode
    return right / total
