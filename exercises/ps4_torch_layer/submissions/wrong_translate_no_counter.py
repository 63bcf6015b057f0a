"""Leaves num_batches_tracked out."""

QUESTION = "translate"
LOSES = {"the counter, and torch loads it"}
SAYS = "but no num_batches_tracked"


def translate(framework, config, arrays):
    names = {
        "keras": {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"},
        "flax": {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"},
    }[framework]
    c = len(arrays[names["running_mean"]])
    options = {"num_features": c, "eps": config["epsilon"], "momentum": 1 - config["momentum"]}
    state = {"weight": torch.ones(c), "bias": torch.zeros(c)}
    for ours, theirs in names.items():
        if theirs in arrays:
            state[ours] = torch.tensor(arrays[theirs])
    return options, state
