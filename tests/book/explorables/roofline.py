"""What the explorable `roofline` must compute: what the benchmark's own report has."""

from pathlib import Path

from bnlab.benchmark import report

RESULTS = Path(__file__).parents[3] / "book" / "results"
NETWORKS = {"vgg16": "VGG-16", "resnet50": "ResNet-50"}


def oracle(state, data):
    path = RESULTS / f"bn_speed_{state['device']}.json"
    if not path.exists():
        return {"missing": True}
    timings = [
        t
        for t in report.load(path)
        if (t.case.operation, t.case.layout, t.case.dtype, t.case.then)
        == (state["pass"], state["layout"], "float32", "nothing")
        and t.milliseconds is not None
    ]
    cases = sorted({t.case for t in timings}, key=lambda c: (c.bytes, NETWORKS[c.suite], -c.shape[1]))
    torch = {t.case: t.milliseconds for t in timings if t.name == "torch"}
    copies = {t.case: t.milliseconds for t in timings if t.name == "copy"}
    shapes = [
        {
            "network": NETWORKS[case.suite],
            "shape": case.shape,
            "mib": case.bytes / 2**20,
            "floor": case.floor * copies[case] / 2,
            "copy": 2 * case.bytes / copies[case] / 1e6,
            "points": [
                {
                    "name": t.name,
                    "milliseconds": t.milliseconds,
                    "bandwidth": t.of_floor * 2 * case.bytes / copies[case] / 1e6,  # as in report.plot_roofline
                    "share": 100 * t.of_floor,
                    "times": torch[case] / t.milliseconds,
                }
                for t in timings
                if t.case == case and t.name != "copy"
            ],
        }
        for case in cases
    ]
    return {"missing": False, "shapes": shapes, "chosen": shapes[min(state["shape"], len(shapes)) - 1]}
