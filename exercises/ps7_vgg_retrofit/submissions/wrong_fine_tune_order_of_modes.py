"""Freezes first, and then model.train() thaws everything."""

QUESTION = "fine_tune"
LOSES = {"frozen statistics"}
SAYS = "eval() for the BN layers comes after it"


def fine_tune(model, batches, rate, frozen):
    if frozen:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    model.train()
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
