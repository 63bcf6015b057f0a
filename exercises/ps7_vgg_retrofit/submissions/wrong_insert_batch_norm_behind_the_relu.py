"""Puts BN behind the ReLU, with the statistics found there."""

QUESTION = "insert_batch_norm"
LOSES = {
    "a BN layer behind every convolution, before the ReLU",
    "the running statistics of the calibration data",
    "modules inside modules",
}
SAYS = "They stand behind the ReLU"


def insert_batch_norm(model, batches, eps):
    new = copy.deepcopy(model)
    names = [name for name, module in new.named_modules() if isinstance(module, nn.ReLU)]
    seen = {name: [] for name in names}
    handles = [
        new.get_submodule(name).register_forward_hook(lambda m, x, z, name=name: seen[name].append(z)) for name in names
    ]
    with torch.no_grad():
        for batch in batches:
            new(batch)
    for handle in handles:
        handle.remove()
    for name in names:
        relu, z = new.get_submodule(name), torch.cat(seen[name])
        mean, var = z.mean((0, 2, 3)), z.var((0, 2, 3), correction=0)
        bn = nn.BatchNorm2d(len(mean), eps=eps, dtype=z.dtype)
        with torch.no_grad():
            bn.running_mean.copy_(mean)
            bn.running_var.copy_(var)
            bn.weight.copy_((var + eps).sqrt())
            bn.bias.copy_(mean)
        parent, _, child = name.rpartition(".")
        setattr(new.get_submodule(parent), child, nn.Sequential(relu, bn))
    return new.eval()
