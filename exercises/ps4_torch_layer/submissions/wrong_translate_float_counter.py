"""Counts in a float tensor of shape (1,)."""

QUESTION = "translate"
LOSES = {"the counter, and torch loads it"}
SAYS = "has shape (1,)"


def translate(framework, config, arrays):
    names = {
        "keras": {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"},
        "flax": {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"},
    }[framework]
    c = len(arrays[names["running_mean"]])
    options = {"num_features": c, "eps": config["epsilon"], "momentum": 1 - config["momentum"]}
    state = {"weight": torch.ones(c), "bias": torch.zeros(c), "num_batches_tracked": torch.zeros(1)}
    for ours, theirs in names.items():
        if theirs in arrays:
            state[ours] = torch.tensor(arrays[theirs])
    return options, state
