"""Measures all layers in one pass in evaluation mode: the second sees what the first's old statistics make."""

QUESTION = "recalibrate"
LOSES = {"of the layer behind it", "with dropout off"}
SAYS = "The layers before it still normalized with their old running statistics"


def recalibrate(model, batches):
    model.eval()
    layers = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    seen = {layer: [] for layer in layers}
    handles = [layer.register_forward_pre_hook(lambda layer, inputs: seen[layer].append(inputs[0])) for layer in layers]
    with torch.no_grad():
        for batch in batches:
            model(batch)
    for handle in handles:
        handle.remove()
    for layer in layers:
        layer.running_mean = torch.stack([z.mean((0, 2, 3)) for z in seen[layer]]).mean(0)
        layer.running_var = torch.stack([z.var((0, 2, 3)) for z in seen[layer]]).mean(0)
    return model
