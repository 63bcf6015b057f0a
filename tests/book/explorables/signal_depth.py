"""What the explorable `signal_depth` must compute: layer by layer with `bnlab.reference`.

Where gradients explode, rounding does too: a net that magnifies a change of the last bit beyond what the test can see
is left out, as its numbers are those of chance in any language.
"""

import explorable
import numpy as np

profile = explorable.load("signal_depth").profile


def oracle(state, data):
    given = state["activation"], 2.0 ** state["gain"], state["depth"]
    nudged = {**data, "x": (np.array(data["x"]) * (1 + 1e-15)).tolist()}
    expected = {}
    for arm in ("plain", "bn", *(["skip"] if state["skip"] else [])):
        values, gradients = profile(data, *given, arm)
        if np.allclose(gradients, profile(nudged, *given, arm)[1], rtol=1e-9, atol=0):
            expected[arm] = {"values": values, "gradients": gradients}
    assert state["gain"] or len(expected) > 1, f"nothing to compare at {state}"
    return expected
