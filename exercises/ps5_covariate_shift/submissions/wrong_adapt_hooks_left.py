"""Leaves its hooks behind."""

QUESTION = "adapt"
LOSES = {"modes, momentum and hooks are as before"}
SAYS = "hooks are still registered"


def adapt(model, batches):
    layers = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    modes = {module: module.training for module in model.modules()}
    seen = {layer: [] for layer in layers}
    for layer in layers:
        layer.register_forward_pre_hook(lambda layer, inputs: seen[layer].append(inputs[0]))
    model.eval()
    for layer in layers:
        layer.train()
    with torch.no_grad():
        for x in batches:
            model(x)
        for layer in layers:
            values = torch.cat(seen[layer]).transpose(0, 1).flatten(1)
            layer.running_mean.copy_(values.mean(dim=1))
            layer.running_var.copy_(values.var(dim=1))
    for module, mode in modes.items():
        module.training = mode
    return model
