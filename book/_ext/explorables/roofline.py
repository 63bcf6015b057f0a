"""How fast batch normalization is, and how fast memory lets it be: every measured shape, pass, layout, implementation.

The numbers are those of `book/results/bn_speed_*.json`, which `python -m bnlab.benchmark` and `make bench-gpu` write. A
device without a file is named as missing; nothing is made up for it.
"""

import json
from math import prod
from pathlib import Path

import matplotlib.pyplot as plt

BOOK = Path(__file__).parents[2]
FILES = {device: BOOK / "results" / f"bn_speed_{device}.json" for device in ("cpu", "gpu")}
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
HEIGHT = (600, 820)
FLOOR = {"forward": 2, "backward": 3, "evaluation": 2}  # how often the input's bytes are moved, at least

ALT = (
    "Gigabytes per second that must move, against the size of the input, both logarithmic, for batch normalization "
    "forward in the layout NCHW on a CPU. A nearly level line for a copy is on top. The compiled loops of bnlab come "
    "nearest to it; torch is at about a quarter of it, plain tensor operations lowest."
)


def data():
    """The timings of every device that has been measured."""
    devices = {}
    for device, path in FILES.items():
        if not path.exists():
            continue
        record = json.loads(path.read_text(encoding="utf-8"))
        timings = [t for t in record["timings"] if t["milliseconds"] is not None and t["then"] == "nothing"]
        devices[device] = {
            "machine": record["provenance"]["machine"],
            "date": record["provenance"]["date"][:10],
            "timings": [
                {
                    "network": {"vgg16": "VGG-16", "resnet50": "ResNet-50"}.get(t["suite"], t["suite"]),
                    "shape": t["shape"],
                    "layers": t["layers"],
                    "pass": t["operation"],
                    "layout": t["layout"],
                    "dtype": t["dtype"],
                    "name": t["name"],
                    "bytes": prod(t["shape"]) * BYTES[t["dtype"]],
                    "milliseconds": t["milliseconds"],
                }
                for t in timings
            ],
        }
    return {"devices": devices, "missing": [device for device in FILES if device not in devices], "floor": FLOOR}


def still(data, layout="NCHW", operation="forward"):
    """The bandwidth of every implementation, and that of a copy."""
    timings = next(iter(data["devices"].values()))["timings"]
    figure, ax = plt.subplots()
    looks = {"copy": "k-", "torch": "C1s", "bnlab eager": "C3^", "bnlab numba": "C0o", "bnlab triton": "C0o"}
    for name, look in looks.items():
        rows = [t for t in timings if (t["name"], t["layout"], t["pass"]) == (name, layout, operation)]
        times = 2 if name == "copy" else data["floor"][operation]
        points = sorted((t["bytes"] / 2**20, times * t["bytes"] / t["milliseconds"] / 1e6) for t in rows)
        if points:
            ax.plot(*zip(*points, strict=True), look, label="a copy" if name == "copy" else name)
    ax.set(xscale="log", yscale="log", xlabel="input in MiB", ylabel="GB per second that must move")
    ax.legend()
    return figure
