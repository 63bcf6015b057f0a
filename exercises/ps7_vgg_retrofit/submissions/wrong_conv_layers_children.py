"""named_children: doesn't look inside modules."""

QUESTION = "conv_layers"
LOSES = {"modules inside modules", "the order in which they run"}
SAYS = "named_children() doesn't look there"


def conv_layers(model, x):
    names, handles = [], []
    for name, module in model.named_children():
        if isinstance(module, nn.Conv2d):
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
