"""Sums of squares in float32."""

QUESTION = "output_moments"
LOSES = {"outputs around ten thousand, in float32"}
SAYS = "Rounding"


def output_moments(model, names, batches):
    sums = {name: [0, 0, 0] for name in names}

    def watch(name):
        def hook(module, inputs, z):
            sums[name][0] += z[:, 0].numel()
            sums[name][1] += z.sum((0, 2, 3))
            sums[name][2] += (z**2).sum((0, 2, 3))

        return hook

    was_training = model.training
    handles = [model.get_submodule(name).register_forward_hook(watch(name)) for name in names]
    model.eval()
    with torch.no_grad():
        for batch in batches:
            model(batch)
    for handle in handles:
        handle.remove()
    model.train(was_training)
    return {name: (total / m, squares / m - (total / m) ** 2) for name, (m, total, squares) in sums.items()}
