"""Calls every matrix but the last a weight before BN, without asking the loss."""

QUESTION = "scale_invariant"
LOSES = {"networks with other parameters", "a network without BN"}
SAYS = "never asked with another size"


def scale_invariant(loss, parameters):
    return [array.ndim == 2 and k < len(parameters) - 1 for k, array in enumerate(parameters)]
