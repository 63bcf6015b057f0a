"""Refuses where error > tolerance, which NaN never is."""

QUESTION = "why_not"
LOSES = {"refuses NaN and infinity"}
SAYS = "Every comparison with NaN is false"


def why_not(run, expected, tolerance):
    try:
        results = run()
    except Exception as error:
        return str(error)
    if [r.shape for r in results] != [e.shape for e in expected]:
        return "another shape"
    for result, exact in zip(results, expected, strict=True):
        if (result.double() - exact).abs().max() > tolerance * exact.abs().max():
            return "off"
    return ""
