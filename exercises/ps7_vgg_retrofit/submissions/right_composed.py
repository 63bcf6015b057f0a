"""The bigger functions call the functions of the questions above; modules instead of names as keys."""


def conv_layers(model, x):
    name_of = {module: name for name, module in model.named_modules()}
    order = []
    handles = [
        module.register_forward_pre_hook(lambda module, inputs: order.append(module))
        for module in name_of
        if isinstance(module, nn.Conv2d)
    ]
    with torch.no_grad():
        model(x)
    [handle.remove() for handle in handles]
    names = []
    for module in order:
        if name_of[module] not in names:
            names += [name_of[module]]
    return names


def output_moments(model, names, batches):
    so_far, current = {}, {}
    was = model.training
    handles = [
        model.get_submodule(name).register_forward_hook(lambda module, x, z, name=name: current.update({name: z}))
        for name in names
    ]
    model.eval()
    for batch in batches:
        with torch.no_grad():
            model(batch)
        for name, z in current.items():
            rows = z.movedim(1, 0).flatten(1)
            moments = rows.mean(1), rows.var(1, unbiased=False), rows.shape[1]
            so_far[name] = merge_moments(*so_far[name], *moments) if name in so_far else moments
    for handle in handles:
        handle.remove()
    model.train(was)
    return {name: so_far[name][:2] for name in names}


def insert_batch_norm(model, batches, eps):
    new = copy.deepcopy(model)
    moments = output_moments(new, conv_layers(new, batches[0]), batches)
    for name, (mean, var) in moments.items():
        parent, _, child = name.rpartition(".")
        layer = new.get_submodule(name)
        setattr(new.get_submodule(parent), child, nn.Sequential(layer, identity_norm(mean, var, eps)))
    new.eval()
    return new


def fold_batch_norm(model):
    folded = copy.deepcopy(model)
    for name, module in list(folded.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            path, _, position = name.rpartition(".")
            parent = folded.get_submodule(path)
            if isinstance(parent, nn.Sequential) and int(position) and isinstance(parent[int(position) - 1], nn.Conv2d):
                parent[int(position) - 1] = fold_pair(parent[int(position) - 1], module)
                parent[int(position)] = nn.Identity()
    return folded.eval()
