"""named_modules alone: the order of registration, and layers that never run."""

QUESTION = "conv_layers"
LOSES = {"the order in which they run"}
SAYS = "the order in which the layers were registered"


def conv_layers(model, x):
    return [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
