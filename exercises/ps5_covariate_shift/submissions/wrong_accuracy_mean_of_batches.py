"""Averages the accuracies of the batches."""

QUESTION = "accuracy"
LOSES = {"a smaller last batch"}
SAYS = "counts more than the others"


def accuracy(model, batches):
    modes = {module: module.training for module in model.modules()}
    model.eval()
    with torch.no_grad():
        fractions = [(model(x).argmax(dim=1) == y).double().mean().item() for x, y in batches]
    for module, mode in modes.items():
        module.training = mode
    return sum(fractions) / len(fractions)
