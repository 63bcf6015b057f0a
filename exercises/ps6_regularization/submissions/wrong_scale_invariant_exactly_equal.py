"""Compares the losses with ==, although computers round."""

QUESTION = "scale_invariant"
LOSES = {"one hidden layer with BN", "networks with other parameters"}
SAYS = "== finds them different"


def scale_invariant(loss, parameters):
    before = loss(parameters)
    return [
        bool(loss([*parameters[:k], 3.7 * array, *parameters[k + 1 :]]) == before) for k, array in enumerate(parameters)
    ]
