"""What the explorable `learning_rate_depth` must compute: what the chapter's own functions say."""

import numpy as np

from bnlab.experiments import Estimate, learning_rate_depth, recall

PAIRS = {"he": ("he", "bn"), "default": ("default", "bn default")}


def oracle(state, data):
    result, depth = recall("learning_rate_depth"), int(state["depth"])
    rates = result.settings["rates"]
    label = 0.00794 * 10 ** (0.4 * state["rate"])  # what the control says
    assert abs(label / rates[state["rate"]] - 1) < 0.01
    arms = {}
    for arm in (*PAIRS[state["start"]], *(["skip"] if state["start"] == "he" else [])):
        errors = np.nan_to_num(learning_rate_depth.errors(result, arm, depth), nan=1.0)
        spread = [Estimate.of(row) for row in errors]
        largest = learning_rate_depth.largest_rate(result, arm, depth)
        arms[arm] = {
            "curve": [
                {"rate": rate, "median": e.median, "low": e.low, "high": e.high}
                for rate, e in zip(rates, spread, strict=True)
            ],
            "here": {"median": spread[state["rate"]].median},
            "largest": largest,
            "middle": np.median(largest),
            "best": {"median": np.median(learning_rate_depth.best_error(result, arm, depth)[1])},
        }
    expected = {"arms": arms, "rate": rates[state["rate"]]}
    if state["start"] == "he":
        expected["room"] = np.median(learning_rate_depth.headroom(result, depth))
    return expected
