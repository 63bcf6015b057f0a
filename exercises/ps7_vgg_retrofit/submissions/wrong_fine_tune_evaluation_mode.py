"""Trains in evaluation mode."""

QUESTION = "fine_tune"
LOSES = {
    "the losses, with live statistics",
    "the steps of all parameters",
    "live statistics follow the batches",
    "frozen statistics",
    "ends in evaluation mode",
}
SAYS = "Call model.train() first"


def fine_tune(model, batches, rate, frozen):
    model.eval()
    if frozen:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    losses = []
    for x, y in batches:
        model.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= rate * parameter.grad
        losses.append(loss.item())
    model.eval()
    return losses
