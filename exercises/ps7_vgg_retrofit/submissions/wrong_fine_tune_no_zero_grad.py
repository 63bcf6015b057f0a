"""Gradients pile up."""

QUESTION = "fine_tune"
LOSES = {"the losses, with live statistics", "the steps of all parameters", "frozen statistics"}
SAYS = "Call zero_grad() before every backward()"


def fine_tune(model, batches, rate, frozen):
    model.train()
    if frozen:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    losses = []
    for x, y in batches:
        pass
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= rate * parameter.grad
        losses.append(loss.item())
    model.eval()
    return losses
