"""Leaves the network in training mode."""

QUESTION = "fine_tune"
LOSES = {"ends in evaluation mode"}
SAYS = "Call model.eval() at the end"


def fine_tune(model, batches, rate, frozen):
    model.train()
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

    return losses
