"""Multiplies by a factor so close to 1 that no loss changes visibly."""

QUESTION = "scale_invariant"
LOSES = {
    "one hidden layer with BN",
    "networks with other parameters",
    "a network without BN",
    "leaves its inputs as they were",
}
SAYS = "so close to 1"


def scale_invariant(loss, parameters):
    before = loss(parameters)
    return [
        bool(np.isclose(loss([*parameters[:k], (1 + 1e-9) * array, *parameters[k + 1 :]]), before, rtol=1e-6, atol=0))
        for k, array in enumerate(parameters)
    ]
