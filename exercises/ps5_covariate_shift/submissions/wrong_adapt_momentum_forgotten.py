"""Right for one batch, and momentum = 1 stays behind."""

QUESTION = "adapt"
LOSES = {
    "several batches: the mean",
    "a smaller last batch: the mean",
    "the variance between the batches counts",
    "modes, momentum and hooks are as before",
}
SAYS = "had momentum"


def adapt(model, batches):
    layers = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    modes = {module: module.training for module in model.modules()}
    model.eval()
    for layer in layers:
        layer.train()
        layer.momentum = 1.0
        layer.reset_running_stats()
    with torch.no_grad():
        for x in batches:
            model(x)
    for module, mode in modes.items():
        module.training = mode
    return model
