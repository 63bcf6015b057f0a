"""Multiplies by -1, which changes the direction and not the size."""

QUESTION = "scale_invariant"
LOSES = {"one hidden layer with BN", "networks with other parameters"}
SAYS = "the factor is negative"


def scale_invariant(loss, parameters):
    before = loss(parameters)
    return [
        bool(np.isclose(loss([*parameters[:k], -array, *parameters[k + 1 :]]), before, rtol=1e-6, atol=0))
        for k, array in enumerate(parameters)
    ]
