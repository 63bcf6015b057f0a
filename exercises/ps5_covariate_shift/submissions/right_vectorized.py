"""Einsum, functional calls, deep copies, no hooks: BN's own update with momentum 1 tells the batches' statistics."""

import copy


def tint(images, colors):
    return torch.einsum("nihw,nc->nchw", images, colors)


def shift_size(source, target):
    (var, mean), (var_t, mean_t) = torch.var_mean(source, 0), torch.var_mean(target, 0)
    d = (mean_t - mean) * torch.rsqrt((var + var_t) / 2)
    r = torch.exp(0.5 * (torch.log(var_t) - torch.log(var)))
    return d.nan_to_num(0.0), r.nan_to_num(1.0)


def accuracy(model, batches):
    twin = copy.deepcopy(model).eval()  # nothing to put back
    with torch.no_grad():
        right = torch.cat([twin(x).argmax(-1) == y for x, y in batches])
    return right.double().mean()


def adapt(model, batches):
    twin = copy.deepcopy(model).eval()
    pairs = [
        (a, b)
        for a, b in zip(model.modules(), twin.modules(), strict=True)
        if isinstance(a, nn.BatchNorm1d | nn.BatchNorm2d)
    ]
    found = {b: [] for _, b in pairs}
    for _, layer in pairs:
        layer.train()
        layer.momentum = 1.0
        # a second listener on the output: only its number of values per channel is needed
        layer.register_forward_hook(
            lambda layer, inputs, output: found[layer].append(
                (output.numel() // output.shape[1], layer.running_mean.clone(), layer.running_var.clone())
            )
        )
    with torch.no_grad():
        for x in batches:
            twin(x)
    for original, layer in pairs:
        m = torch.tensor([count for count, _, _ in found[layer]], dtype=layer.running_mean.dtype)[:, None]
        mean = torch.stack([mean for _, mean, _ in found[layer]])
        var = torch.stack([var for _, _, var in found[layer]])
        pooled = (m * mean).sum(0) / m.sum()
        squares = ((m - 1) * var).sum(0) + (m * (mean - pooled) ** 2).sum(0)
        original.running_mean = pooled
        original.running_var = squares / (m.sum() - 1)
    return model


def gradient_change(model, layer, x, y, lr):
    model = copy.deepcopy(model)  # the original stays as it is
    parameters = dict(model.named_parameters())

    def gradient(names):
        loss = F.cross_entropy(model(x), y)
        return dict(zip(names, torch.autograd.grad(loss, [parameters[name] for name in names]), strict=True))

    w = f"{layer}.weight"
    first = gradient(list(parameters))
    for name, parameter in parameters.items():
        if int(name.split(".")[0]) < layer:
            parameter.data.add_(first[name], alpha=-lr)
    g, h = first[w].ravel(), gradient([w])[w].ravel()
    return F.cosine_similarity(g, h, dim=0), torch.dist(h, g) / torch.linalg.vector_norm(g)


def scale_test(loss, weight, a):
    gradient = torch.func.grad(loss)
    sizes = [torch.linalg.vector_norm(gradient(factor * weight)) for factor in (1, a)]
    return loss(a * weight) - loss(weight), sizes[1] / sizes[0]


def range_test(model, batches, low, high):
    saved = copy.deepcopy(model.state_dict())
    was_training = model.training
    model.train()
    rates = np.exp(np.linspace(np.log(low), np.log(high), len(batches)))
    losses = np.full(len(batches), np.nan)
    for k, (x, y) in enumerate(batches):
        loss = F.cross_entropy(model(x), y)
        losses[k] = loss.detach()
        if not torch.isfinite(loss) or loss > 4 * losses[: k + 1].min():
            break
        model.zero_grad()
        loss.backward()
        for p in model.parameters():
            p.data -= rates[k] * p.grad
    model.load_state_dict(saved)
    model.zero_grad()
    model.train(was_training)
    return torch.tensor(rates[: k + 1]), torch.tensor(losses[: k + 1])


def suggest_rate(rates, losses, window):
    good = np.isfinite(losses)
    ones = np.ones(window)
    total = np.convolve(np.where(good, losses, 0), ones, mode="full")
    bad = np.convolve(~good, ones, mode="full")
    count = np.convolve(np.ones(len(losses)), ones, mode="full")
    half = window // 2
    mean = np.where(bad > 0.5, np.inf, total / count)[half : half + len(losses)]
    return float(rates[mean.argmin()] / 10)


def compare(rates, plain, bn):
    middles = np.median(np.stack([plain, bn]), axis=2)
    best = middles.argmin(axis=1)
    fewest = middles.min(axis=1)
    inside = np.all((best > 0) & (best < len(rates) - 1))
    return [*np.asarray(rates)[best], fewest[0] / fewest[1], inside]
