"""Converts the truth to the format of the result, and so rounds the error away."""

QUESTION = "why_not"
LOSES = {"compares in float64"}
SAYS = "convert the result to float64, not the truth"


def why_not(run, expected, tolerance):
    try:
        results = run()
    except Exception as error:
        return str(error)
    if [r.shape for r in results] != [e.shape for e in expected]:
        return "another shape"
    for result, exact in zip(results, expected, strict=True):
        error = (result - exact.to(result.dtype)).abs().max().double()
        if not error <= tolerance * exact.abs().max():
            return "off"
    return ""
