"""Training mode alone: with momentum 0.1 most of the old statistics stay."""

QUESTION = "recalibrate"
LOSES = {
    "the running statistics of the first BN layer",
    "of the layer behind it",
    "with dropout off",
    "nothing else changes",
}
SAYS = "with momentum 0.1, 73% of them"


def recalibrate(model, batches):
    model.eval()
    layers = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.train()
    with torch.no_grad():
        for batch in batches:
            model(batch)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    return model.eval()
