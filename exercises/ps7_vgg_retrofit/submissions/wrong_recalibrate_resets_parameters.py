"""reset_parameters also sets gamma and beta to 1 and 0."""

QUESTION = "recalibrate"
LOSES = {"of the layer behind it", "with dropout off", "nothing else changes"}
SAYS = "weights, gamma and beta stay"


def recalibrate(model, batches):
    model.eval()
    layers = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_parameters()
        layer.momentum = None
        layer.train()
    with torch.no_grad():
        for batch in batches:
            model(batch)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    return model.eval()
