"""Leaves the model trained, and diverged."""

QUESTION = "range_test"
LOSES = {"the model is as before"}
SAYS = "the model was trained"


def range_test(model, batches, low, high):
    training = model.training
    parameters = list(model.parameters())
    rates, losses = np.geomspace(low, high, len(batches)), []
    model.train()
    for rate, (x, y) in zip(rates, batches, strict=True):
        loss = F.cross_entropy(model(x), y)
        losses.append(loss.item())
        if not np.isfinite(losses[-1]) or losses[-1] > 4 * min(losses):
            break
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= rate * gradient
    model.train(training)
    return rates[: len(losses)], np.array(losses)
