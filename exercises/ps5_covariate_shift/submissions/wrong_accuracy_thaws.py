"""Restores the mode of the whole model: a frozen layer wakes up."""

QUESTION = "accuracy"
LOSES = {"a frozen layer stays frozen"}
SAYS = "this bn layer was frozen"


def accuracy(model, batches):
    was_training = model.training
    model.eval()
    right = total = 0
    with torch.no_grad():
        for x, y in batches:
            right += (model(x).argmax(dim=1) == y).sum().item()
            total += len(y)
    model.train(was_training)
    return right / total
