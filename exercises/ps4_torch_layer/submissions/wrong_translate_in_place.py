"""Corrects the moving variance in place before it copies it."""

QUESTION = "translate"
LOSES = {"leaves its inputs as they were"}
SAYS = "in place"


def translate(framework, config, arrays):
    names = {
        "keras": {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"},
        "flax": {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"},
    }[framework]
    arrays[names["running_var"]] -= 0.5
    c = len(arrays[names["running_mean"]])
    options = {"num_features": c, "eps": config["epsilon"], "momentum": 1 - config["momentum"]}
    state = {"weight": torch.ones(c), "bias": torch.zeros(c), "num_batches_tracked": torch.tensor(0)}
    for ours, theirs in names.items():
        if theirs in arrays:
            state[ours] = torch.tensor(arrays[theirs])
    state["running_var"] += 0.5
    return options, state
