"""Adds a constant instead of multiplying by one."""

QUESTION = "scale_invariant"
LOSES = {"one hidden layer with BN", "networks with other parameters"}
SAYS = "was not multiplied"


def scale_invariant(loss, parameters):
    before = loss(parameters)
    return [
        bool(np.isclose(loss([*parameters[:k], array + 1, *parameters[k + 1 :]]), before, rtol=1e-6, atol=0))
        for k, array in enumerate(parameters)
    ]
