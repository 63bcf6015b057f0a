"""Never goes back to training mode."""

QUESTION = "accuracy"
LOSES = {"the model is back in its mode"}
SAYS = "is now in evaluation mode"


def accuracy(model, batches):
    model.eval()
    right = total = 0
    with torch.no_grad():
        for x, y in batches:
            right += (model(x).argmax(dim=1) == y).sum().item()
            total += len(y)
    return right / total
