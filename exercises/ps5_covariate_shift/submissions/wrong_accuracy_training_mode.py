"""Evaluates in whatever mode the model is in: in training mode BN answers by the batch, and learns from it."""

QUESTION = "accuracy"
LOSES = {"a model that comes in training mode", "parameters and statistics stay"}
SAYS = "depend on the batch mates"


def accuracy(model, batches):
    right = total = 0
    with torch.no_grad():
        for x, y in batches:
            right += (model(x).argmax(dim=1) == y).sum().item()
            total += len(y)
    return right / total
