"""What the explorable `outlier` must compute."""

import numpy as np

from bnlab.experiments.feature_scaling import scale


def oracle(state, data):
    right = np.array(data["x"])[:, None]
    wrong = right.copy()
    wrong[0] *= state["factor"]
    names = ("raw", "min-max", "standardized", "robust")
    return {
        "values": {name: scale(wrong, name)[:, 0] for name in names},
        "left": {name: scale(wrong, name)[1:].std() / scale(right, name)[1:].std() for name in names},
    }
