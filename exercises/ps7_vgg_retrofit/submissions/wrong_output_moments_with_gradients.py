"""Forgets no_grad."""

QUESTION = "output_moments"
LOSES = {"one batch at a time, without gradients"}
SAYS = "under torch.no_grad()"


def output_moments(model, names, batches):
    seen = {}

    def watch(name):
        def hook(module, inputs, output):
            z = output
            mean, var, m = z.mean((0, 2, 3)), z.var((0, 2, 3), correction=0), z[:, 0].numel()
            if name in seen:
                mean_a, var_a, m_a = seen[name]
                delta, m_b, m = mean - mean_a, m, m_a + m
                var = (m_a * var_a + m_b * var) / m + delta**2 * m_a * m_b / m**2
                mean = mean_a + delta * m_b / m
            seen[name] = mean, var, m

        return hook

    was_training = model.training
    handles = [model.get_submodule(name).register_forward_hook(watch(name)) for name in names]
    model.eval()
    with torch.enable_grad():
        for batch in batches:
            model(batch)
    for handle in handles:
        handle.remove()
    model.train(was_training)
    return {name: (mean, var) for name, (mean, var, m) in seen.items()}
