"""Judges by the mean error, in which a single wrong element drowns."""

QUESTION = "why_not"
LOSES = {"refuses what is off"}
SAYS = "A mean error hides a single wrong element"


def why_not(run, expected, tolerance):
    try:
        results = run()
    except Exception as error:
        return str(error)
    if [r.shape for r in results] != [e.shape for e in expected]:
        return "another shape"
    for result, exact in zip(results, expected, strict=True):
        if not (result.double() - exact).abs().mean() <= tolerance * exact.abs().max():
            return "off"
    return ""
