"""Averages the variances of the batches by their sizes, without the variance of the means."""

QUESTION = "adapt"
LOSES = {"the variance between the batches counts"}
SAYS = "the variance between the batches"


def adapt(model, batches):
    layers = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    modes = {module: module.training for module in model.modules()}
    seen = {layer: [] for layer in layers}
    hooks = [layer.register_forward_pre_hook(lambda layer, inputs: seen[layer].append(inputs[0])) for layer in layers]
    model.eval()
    for layer in layers:
        layer.train()
    with torch.no_grad():
        for x in batches:
            model(x)
        for layer in layers:
            values = [x.transpose(0, 1).flatten(1) for x in seen[layer]]
            total = sum(v.shape[1] for v in values)
            layer.running_mean.copy_(sum(v.shape[1] * v.mean(dim=1) for v in values) / total)
            layer.running_var.copy_(sum(v.shape[1] * v.var(dim=1) for v in values) / total)
    for hook in hooks:
        hook.remove()
    for module, mode in modes.items():
        module.training = mode
    return model
