"""Names a layer as often as it runs."""

QUESTION = "conv_layers"
LOSES = {"the order in which they run"}
SAYS = "named once"


def conv_layers(model, x):
    names, handles = [], []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(lambda m, i, o, name=name: names.append(name)))
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return names
