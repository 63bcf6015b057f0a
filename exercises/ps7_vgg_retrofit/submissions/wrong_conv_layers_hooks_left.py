"""Never removes its hooks."""

QUESTION = "conv_layers"
LOSES = {"leaves the network as it was"}
SAYS = "handle.remove()"


def conv_layers(model, x):
    names, handles = [], []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            handles.append(
                module.register_forward_hook(
                    lambda m, i, o, name=name: names.append(name) if name not in names else None
                )
            )
    with torch.no_grad():
        model(x)

    return names
