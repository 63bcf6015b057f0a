"""The rates grow linearly."""

QUESTION = "range_test"
LOSES = {"the rates grow geometrically", "the losses, each before its step", "stops when it diverges"}
SAYS = "the rates grow linearly here"


def range_test(model, batches, low, high):
    saved, training = {name: value.clone() for name, value in model.state_dict().items()}, model.training
    parameters = list(model.parameters())
    rates, losses = np.linspace(low, high, len(batches)), []
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
    model.load_state_dict(saved)
    model.train(training)
    return rates[: len(losses)], np.array(losses)
