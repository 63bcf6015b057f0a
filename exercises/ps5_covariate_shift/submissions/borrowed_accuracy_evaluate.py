"""Calls the course's evaluation on all batches joined."""

QUESTION = "accuracy"
FLAGS = "bnlab.training.evaluate"


def accuracy(model, batches):
    from bnlab.training import evaluate

    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return 1 - evaluate(model, x, y)[1]
