"""momentum = None: the plain average over the batches, of means and of variances."""

QUESTION = "adapt"
LOSES = {"a smaller last batch: the mean", "the variance between the batches counts"}
SAYS = "every batch has the same weight"


def adapt(model, batches):
    layers = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    modes = {module: module.training for module in model.modules()}
    momenta = {layer: layer.momentum for layer in layers}
    model.eval()
    for layer in layers:
        layer.train()
        layer.momentum = None
        layer.reset_running_stats()
    with torch.no_grad():
        for x in batches:
            model(x)
    for layer in layers:
        layer.momentum = momenta[layer]
    for module, mode in modes.items():
        module.training = mode
    return model
