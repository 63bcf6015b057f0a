"""Hooks with functools.partial; plain sums in float64 instead of merging; settings read off and made anew."""

from functools import partial


def conv_layers(model, x):
    found = {}

    def note(name, module, inputs, output):
        found.setdefault(name, len(found))

    handles = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(partial(note, name)))
    model(x)
    for handle in handles:
        handle.remove()
    return sorted(found, key=found.get)


def merge_moments(mean_a, var_a, m_a, mean_b, var_b, m_b):
    w_a, w_b = m_a / (m_a + m_b), m_b / (m_a + m_b)
    mean = w_a * mean_a + w_b * mean_b
    var = w_a * (var_a + (mean_a - mean) ** 2) + w_b * (var_b + (mean_b - mean) ** 2)
    return mean, var, m_a + m_b


def output_moments(model, names, batches):
    totals = {name: [0, 0.0, 0.0] for name in names}

    def add(name, module, inputs, output):
        z = output.double()
        totals[name][0] += z.numel() // z.shape[1]
        totals[name][1] = totals[name][1] + z.sum(dim=(0, 2, 3))
        totals[name][2] = totals[name][2] + (z * z).sum(dim=(0, 2, 3))

    mode = model.training
    model.eval()
    handles = [model.get_submodule(name).register_forward_hook(partial(add, name)) for name in names]
    with torch.inference_mode():
        for batch in batches:
            model(batch)
    for handle in handles:
        handle.remove()
    model.train(mode)
    return {name: [total / m, squares / m - (total / m) ** 2] for name, (m, total, squares) in totals.items()}


def identity_norm(mean, var, eps):
    bn = nn.BatchNorm2d(mean.numel(), eps=eps).to(mean.dtype)
    bn.load_state_dict(
        {
            "weight": torch.sqrt(var + eps),
            "bias": mean,
            "running_mean": mean,
            "running_var": var,
            "num_batches_tracked": torch.tensor(0),
        }
    )
    bn.eval()
    return bn


def insert_batch_norm(model, batches, eps):
    new = copy.deepcopy(model)
    names = [name for name, module in new.named_modules() if isinstance(module, nn.Conv2d)]
    for name, (mean, var) in output_moments(new, names, batches).items():
        conv = new.get_submodule(name)
        dtype = conv.weight.dtype
        *path, last = name.split(".")
        parent = new.get_submodule(".".join(path))
        parent._modules[last] = nn.Sequential(conv, identity_norm(mean.to(dtype), var.to(dtype), eps))
    return new.eval()


def fold_pair(conv, bn):
    s = (bn.weight * (bn.running_var + bn.eps).rsqrt()).detach()
    folded = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
        groups=conv.groups,
        padding_mode=conv.padding_mode,
        dtype=conv.weight.dtype,
    )
    bias = conv.bias.detach() if conv.bias is not None else 0.0
    folded.weight.data = torch.einsum("oihw,o->oihw", conv.weight.detach(), s)
    folded.bias.data = (bias - bn.running_mean) * s + bn.bias.detach()
    return folded.eval()


def fold_batch_norm(model):
    new = copy.deepcopy(model)
    for sequence in [m for m in new.modules() if type(m) is nn.Sequential]:
        for i in range(len(sequence) - 1):
            first, second = sequence[i], sequence[i + 1]
            if type(first) is nn.Conv2d and type(second) is nn.BatchNorm2d:
                sequence[i], sequence[i + 1] = fold_pair(first, second), nn.Identity()
    return new


def recalibrate(model, batches):
    model.eval()
    layers = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    before = [layer.momentum for layer in layers]
    for number, batch in enumerate(batches, start=1):
        for layer in layers:
            layer.train()
            layer.momentum = 1 / number  # the first batch replaces what was there, the k-th counts 1 / k
        with torch.no_grad():
            model(batch)
    for layer, momentum in zip(layers, before, strict=True):
        layer.momentum = momentum
    return model.eval()


def fine_tune(model, batches, rate, frozen):
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    losses = torch.empty(len(batches))
    for i, (x, y) in enumerate(batches):
        for module in model.modules():
            module.training = not (frozen and isinstance(module, nn.BatchNorm2d))
        optimizer.zero_grad()
        loss = nn.CrossEntropyLoss()(model(x), y)
        loss.backward()
        optimizer.step()
        losses[i] = loss.detach()
    model.eval()
    return losses
