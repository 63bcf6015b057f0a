"""The biased variance in running_var."""

QUESTION = "adapt"
LOSES = {"one batch of images", "the variance between the batches counts", "dropout is off"}
SAYS = "takes the unbiased one"


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
            values = torch.cat(seen[layer]).transpose(0, 1).flatten(1)
            layer.running_mean.copy_(values.mean(dim=1))
            layer.running_var.copy_(values.var(dim=1, correction=0))
    for hook in hooks:
        hook.remove()
    for module, mode in modes.items():
        module.training = mode
    return model
