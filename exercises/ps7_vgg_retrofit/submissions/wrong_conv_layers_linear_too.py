"""Takes every layer with weights, dense ones, too."""

QUESTION = "conv_layers"
LOSES = {"a flat network", "modules inside modules", "the order in which they run", "leaves the network as it was"}
SAYS = "is Linear"


def conv_layers(model, x):
    names, handles = [], []
    for name, module in model.named_modules():
        if hasattr(module, "weight"):
            handles.append(
                module.register_forward_hook(
                    lambda m, i, o, name=name: names.append(name) if name not in names else None
                )
            )
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return names
