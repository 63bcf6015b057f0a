"""A pass in training mode: BN's own update keeps a part of the old statistics."""

QUESTION = "adapt"
LOSES = {
    "one batch of images",
    "several batches: the mean",
    "a smaller last batch: the mean",
    "the variance between the batches counts",
    "dropout is off",
    "no parameter changes",
    "modes, momentum and hooks are as before",
}
SAYS = "a part of the old statistics is left"


def adapt(model, batches):
    modes = {module: module.training for module in model.modules()}
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
    with torch.no_grad():
        for x in batches:
            model(x)
    for module, mode in modes.items():
        module.training = mode
    return model
