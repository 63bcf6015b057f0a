"""Puts the whole network into training mode."""

QUESTION = "recalibrate"
LOSES = {"with dropout off"}
SAYS = "Dropout stands before this layer"


def recalibrate(model, batches):
    model.train()
    layers = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    with torch.no_grad():
        for batch in batches:
            model(batch)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    return model.eval()
