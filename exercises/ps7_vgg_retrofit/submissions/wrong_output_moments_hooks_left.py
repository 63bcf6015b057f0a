"""Never removes its hooks."""

QUESTION = "output_moments"
LOSES = {"leaves the network as it was"}
SAYS = "handle.remove()"


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
    for name in names:
        model.get_submodule(name).register_forward_hook(watch(name))
    model.eval()
    with torch.no_grad():
        for batch in batches:
            model(batch)

    model.train(was_training)
    return {name: (mean, var) for name, (mean, var, m) in seen.items()}
