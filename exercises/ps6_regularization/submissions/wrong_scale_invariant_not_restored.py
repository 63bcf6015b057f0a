"""Doubles the arrays in place, one after the other, and never puts them back."""

QUESTION = "scale_invariant"
LOSES = {"networks with other parameters", "leaves its inputs as they were"}
SAYS = "several arrays changed at once"


def scale_invariant(loss, parameters):
    before = loss(parameters)
    invariant = []
    for array in parameters:
        array *= 2
        invariant.append(bool(abs(loss(parameters) - before) < 1e-6 * before))
    return invariant
