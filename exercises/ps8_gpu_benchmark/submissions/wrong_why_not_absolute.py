"""Takes the tolerance as absolute."""

QUESTION = "why_not"
LOSES = {"admits what is right up to rounding", "refuses what is off"}
SAYS = "relative to the largest expected value"


def why_not(run, expected, tolerance):
    try:
        results = run()
    except Exception as error:
        return str(error)
    if [r.shape for r in results] != [e.shape for e in expected]:
        return "another shape"
    for result, exact in zip(results, expected, strict=True):
        if not (result.double() - exact).abs().max() <= tolerance:
            return "off"
    return ""
