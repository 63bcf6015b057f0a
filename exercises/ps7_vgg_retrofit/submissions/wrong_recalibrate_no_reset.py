"""momentum = None, without a reset."""

QUESTION = "recalibrate"
LOSES = {
    "the running statistics of the first BN layer",
    "of the layer behind it",
    "with dropout off",
    "nothing else changes",
}
SAYS = "Call reset_running_stats() first"


def recalibrate(model, batches):
    model.eval()
    layers = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = None
        layer.train()
    with torch.no_grad():
        for batch in batches:
            model(batch)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    return model.eval()
