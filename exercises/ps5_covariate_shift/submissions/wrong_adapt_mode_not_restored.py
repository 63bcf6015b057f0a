"""Leaves the model in evaluation mode and its BN layers in training mode."""

QUESTION = "adapt"
LOSES = {"modes, momentum and hooks are as before"}
SAYS = "is now in"


def adapt(model, batches):
    layers = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
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
            layer.running_var.copy_(values.var(dim=1))
    for hook in hooks:
        hook.remove()
    return model
