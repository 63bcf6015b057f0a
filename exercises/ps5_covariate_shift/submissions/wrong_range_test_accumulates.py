"""Gradients add up from step to step."""

QUESTION = "range_test"
LOSES = {"the losses, each before its step", "stops when it diverges"}
SAYS = "the gradients add up"


def range_test(model, batches, low, high):
    saved, training = {name: value.clone() for name, value in model.state_dict().items()}, model.training
    optimizer = torch.optim.SGD(model.parameters(), lr=low)
    rates, losses = np.geomspace(low, high, len(batches)), []
    model.train()
    for rate, (x, y) in zip(rates, batches, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        loss = F.cross_entropy(model(x), y)
        losses.append(loss.item())
        if not np.isfinite(losses[-1]) or losses[-1] > 4 * min(losses):
            break
        loss.backward()
        optimizer.step()
    model.load_state_dict(saved)
    model.train(training)
    return rates[: len(losses)], np.array(losses)
