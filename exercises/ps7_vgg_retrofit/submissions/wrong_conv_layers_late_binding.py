"""All hooks look up the loop's variable when the loop is over."""

QUESTION = "conv_layers"
LOSES = {"a flat network", "modules inside modules", "the order in which they run", "leaves the network as it was"}
SAYS = "looks up the loop's variable when it is called"


def conv_layers(model, x):
    names, handles = [], []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(lambda m, i, o: names.append(name)))  # noqa: B023
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return names
