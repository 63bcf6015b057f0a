"""Freezes gamma and beta instead of the statistics."""

QUESTION = "fine_tune"
LOSES = {"frozen statistics", "ends in evaluation mode"}
SAYS = "with the running statistics"


def fine_tune(model, batches, rate, frozen):
    model.train()
    if frozen:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)
    losses = []
    for x, y in batches:
        model.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter -= rate * parameter.grad
        losses.append(loss.item())
    model.eval()
    return losses
