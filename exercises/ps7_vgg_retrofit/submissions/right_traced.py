"""torch.fx tells the order; one channel after the other; a module of its own for the pair; autograd.grad."""

from torch import fx


def conv_layers(model, x):
    names = []
    for node in fx.symbolic_trace(model).graph.nodes:
        if node.op == "call_module" and isinstance(model.get_submodule(node.target), nn.Conv2d):
            names.append(node.target)
    return list(dict.fromkeys(names))


def merge_moments(mean_a, var_a, m_a, mean_b, var_b, m_b):
    means, variances = [], []
    for mu_a, v_a, mu_b, v_b in zip(mean_a, var_a, mean_b, var_b, strict=True):
        m, delta = m_a + m_b, mu_b - mu_a
        squares = m_a * v_a + m_b * v_b + delta * delta * m_a * m_b / m
        means.append(mu_a + delta * m_b / m)
        variances.append(squares / m)
    return torch.stack(means), torch.stack(variances), m_a + m_b


class Watched(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer, self.count, self.mean, self.squares = layer, 0, None, None

    def forward(self, x):
        z = self.layer(x)
        for image in z.detach().double():  # Welford's update, image by image
            rows = image.flatten(1)
            m, mu = rows.shape[1], rows.mean(1)
            squares = ((rows - mu[:, None]) ** 2).sum(1)
            if self.count:
                delta = mu - self.mean
                squares = self.squares + squares + delta**2 * self.count * m / (self.count + m)
                mu = self.mean + delta * m / (self.count + m)
            self.count, self.mean, self.squares = self.count + m, mu, squares
        return z


def output_moments(model, names, batches):
    watched = copy.deepcopy(model).eval()  # a copy: the network itself is never touched
    spies = {}
    for name in names:
        parent, _, child = name.rpartition(".")
        spies[name] = Watched(watched.get_submodule(name))
        setattr(watched.get_submodule(parent), child, spies[name])
    with torch.no_grad():
        for batch in batches:
            watched(batch)
    return {name: (spy.mean, spy.squares / spy.count) for name, spy in spies.items()}


def identity_norm(mean, var, eps):
    bn = nn.BatchNorm2d(mean.shape[0], eps=eps, dtype=mean.dtype)
    bn.weight = nn.Parameter(torch.sqrt(var + eps))
    bn.bias = nn.Parameter(mean.clone())
    bn.running_mean, bn.running_var = mean.clone(), var.clone()
    bn.train(False)
    return bn


class Pair(nn.Module):
    def __init__(self, layer, norm):
        super().__init__()
        self.layer, self.norm = layer, norm

    def forward(self, x):
        return self.norm(self.layer(x))


def insert_batch_norm(model, batches, eps):
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    new = copy.deepcopy(model).eval()
    for name in names:  # one layer after the other, with a pass for each
        inputs = []
        conv = new.get_submodule(name)
        handle = conv.register_forward_hook(lambda module, x, z, inputs=inputs: inputs.append(z))
        with torch.no_grad():
            for batch in batches:
                new(batch)
        handle.remove()
        z = torch.cat(inputs).transpose(0, 1).flatten(1)
        norm = nn.BatchNorm2d(len(z), eps=eps, dtype=z.dtype)
        norm.running_mean, norm.running_var = z.mean(1), z.var(1)  # the unbiased one
        norm.weight.data, norm.bias.data = (norm.running_var + eps) ** 0.5, z.mean(1)
        parent, _, child = name.rpartition(".")
        setattr(new.get_submodule(parent), child, Pair(conv, norm).eval())
    return new


def fold_pair(conv, bn):
    folded = copy.deepcopy(conv)
    folded.bias = nn.Parameter(torch.zeros(conv.out_channels, dtype=conv.weight.dtype))
    with torch.no_grad():
        for c in range(conv.out_channels):
            s = bn.weight[c] / torch.sqrt(bn.running_var[c] + bn.eps)
            b = conv.bias[c] if conv.bias is not None else 0.0
            folded.weight[c] = conv.weight[c] * s
            folded.bias[c] = (b - bn.running_mean[c]) * s + bn.bias[c]
    return folded


def fold_batch_norm(model):
    new = copy.deepcopy(model)

    def visit(module):
        previous = None
        for name, child in list(module.named_children()):
            pair = isinstance(previous, nn.Conv2d) and isinstance(child, nn.BatchNorm2d)
            if pair and isinstance(module, nn.Sequential):
                s = (child.weight / (child.running_var + child.eps).sqrt()).detach()
                bias = 0 if previous.bias is None else previous.bias.detach()
                previous.weight.data = previous.weight.data * s.view(-1, 1, 1, 1)
                previous.bias = nn.Parameter(child.bias.detach() + s * (bias - child.running_mean))
                module._modules[name] = nn.Identity().eval()
            else:
                visit(child)
            previous = child

    visit(new)
    return new


def recalibrate(model, batches):
    model.eval()
    layers = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    seen = {layer: [] for layer in layers}

    def watch(layer, inputs):
        z = inputs[0]
        seen[layer].append((z.mean((0, 2, 3)), z.var((0, 2, 3))))

    kept = [(layer.running_mean, layer.running_var, layer.num_batches_tracked) for layer in layers]
    handles = [layer.register_forward_pre_hook(watch) for layer in layers]
    for layer in layers:
        layer.running_mean, layer.running_var, layer.num_batches_tracked = None, None, None  # then the batch's are used
    with torch.no_grad():
        for batch in batches:
            model(batch)
    for layer, handle, (mean, var, count) in zip(layers, handles, kept, strict=True):
        handle.remove()
        means, variances = zip(*seen[layer], strict=True)
        layer.running_mean, layer.running_var, layer.num_batches_tracked = mean, var, count
        mean.copy_(sum(means) / len(means))
        var.copy_(sum(variances) / len(variances))
    return model


def fine_tune(model, batches, rate, frozen):
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train(not frozen)
    parameters = list(model.parameters())
    losses = []
    for x, y in batches:
        rows = torch.log_softmax(model(x), dim=1)
        loss = -rows[torch.arange(len(y)), y].mean()
        gradients = torch.autograd.grad(loss, parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.data = parameter.data - rate * gradient
        losses.append(loss.detach())
    model.eval()
    return losses
