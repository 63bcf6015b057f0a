"""Lets the exception through, and the whole benchmark stops."""

QUESTION = "why_not"
LOSES = {"refuses what raises, and goes on"}
SAYS = "and so did why_not"


def why_not(run, expected, tolerance):
    results = run()
    if [r.shape for r in results] != [e.shape for e in expected]:
        return "another shape"
    for result, exact in zip(results, expected, strict=True):
        if not (result.double() - exact).abs().max() <= tolerance * exact.abs().max():
            return "off"
    return ""
