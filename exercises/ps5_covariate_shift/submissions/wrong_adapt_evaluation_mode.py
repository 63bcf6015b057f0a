"""Everything in evaluation mode: nothing is estimated."""

QUESTION = "adapt"
LOSES = {
    "one batch of images",
    "several batches: the mean",
    "a smaller last batch: the mean",
    "the variance between the batches counts",
    "dropout is off",
    "no parameter changes",
    "modes, momentum and hooks are as before",
}
SAYS = "these are the old statistics"


def adapt(model, batches):
    modes = {module: module.training for module in model.modules()}
    model.eval()
    with torch.no_grad():
        for x in batches:
            model(x)
    for module, mode in modes.items():
        module.training = mode
    return model
