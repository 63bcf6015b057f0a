"""model.train() at the end, whatever was before."""

QUESTION = "accuracy"
LOSES = {"the model is back in its mode", "a frozen layer stays frozen"}
SAYS = "is now in training mode"


def accuracy(model, batches):
    model.eval()
    right = total = 0
    with torch.no_grad():
        for x, y in batches:
            right += (model(x).argmax(dim=1) == y).sum().item()
            total += len(y)
    model.train()
    return right / total
