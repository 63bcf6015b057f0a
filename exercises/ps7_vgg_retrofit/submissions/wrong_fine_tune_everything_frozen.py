"""With frozen=True the whole network goes into evaluation mode."""

QUESTION = "fine_tune"
LOSES = {"frozen statistics"}
SAYS = "Only the BN layers go into evaluation mode"


def fine_tune(model, batches, rate, frozen):
    model.train(not frozen)
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
