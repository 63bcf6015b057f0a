"""Averages the batches as if they were of equal size."""

QUESTION = "output_moments"
LOSES = {"several batches of different sizes", "in evaluation mode", "outputs around ten thousand, in float32"}
SAYS = "Every batch counts the same here"


def output_moments(model, names, batches):
    seen = {}

    def watch(name):
        def hook(module, inputs, output):
            z = output
            mean, var, m = z.mean((0, 2, 3)), z.var((0, 2, 3), correction=0), 1
            if name in seen:
                mean_a, var_a, m_a = seen[name]
                k = m_a  # how many batches so far
                total = k + 1
                delta = mean - mean_a
                var = (k * var_a + var) / total + delta**2 * k / total**2
                mean, m = mean_a + delta / total, total
            seen[name] = mean, var, m

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
    return {name: (mean, var) for name, (mean, var, m) in seen.items()}
