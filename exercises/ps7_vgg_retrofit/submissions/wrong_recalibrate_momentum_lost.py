"""Leaves momentum = None behind."""

QUESTION = "recalibrate"
LOSES = {"nothing else changes"}
SAYS = "Remember each layer's momentum"


def recalibrate(model, batches):
    model.eval()
    layers = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    with torch.no_grad():
        for batch in batches:
            model(batch)
    return model.eval()
