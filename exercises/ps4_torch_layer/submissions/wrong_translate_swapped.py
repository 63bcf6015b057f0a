"""Swaps gamma and beta."""

QUESTION = "translate"
LOSES = {"the arrays under torch's names", "gamma or beta that isn't learned"}
SAYS = "torch calls them bias"


def translate(framework, config, arrays):
    names = {
        "keras": {"weight": "beta", "bias": "gamma", "running_mean": "moving_mean", "running_var": "moving_variance"},
        "flax": {"weight": "bias", "bias": "scale", "running_mean": "mean", "running_var": "var"},
    }[framework]
    c = len(arrays[names["running_mean"]])
    options = {"num_features": c, "eps": config["epsilon"], "momentum": 1 - config["momentum"]}
    state = {"weight": torch.ones(c), "bias": torch.zeros(c), "num_batches_tracked": torch.tensor(0)}
    for ours, theirs in names.items():
        if theirs in arrays:
            state[ours] = torch.tensor(arrays[theirs])
    return options, state
