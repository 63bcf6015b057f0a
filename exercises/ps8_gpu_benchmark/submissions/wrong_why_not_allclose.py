"""torch.allclose with rtol: relative to each element, also to one that is 0."""

QUESTION = "why_not"
LOSES = {"admits what is right up to rounding"}
SAYS = "Not relative to each element"


def why_not(run, expected, tolerance):
    try:
        results = run()
    except Exception as error:
        return str(error)
    if [r.shape for r in results] != [e.shape for e in expected]:
        return "another shape"
    for result, exact in zip(results, expected, strict=True):
        if not torch.allclose(result.double(), exact, rtol=tolerance, atol=0):
            return "off"
    return ""
