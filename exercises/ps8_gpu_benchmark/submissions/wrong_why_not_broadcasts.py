"""Never looks at shapes: broadcasting lets them pass."""

QUESTION = "why_not"
LOSES = {"refuses other shapes and a missing result"}
SAYS = "Compare the shapes before the values"


def why_not(run, expected, tolerance):
    try:
        results = run()
    except Exception as error:
        return str(error)
    for result, exact in zip(results, expected, strict=False):
        if not (result.double() - exact).abs().max() <= tolerance * exact.abs().max():
            return "off"
    return ""
