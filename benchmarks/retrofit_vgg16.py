"""What `insert_batch_norm` costs on VGG-16: time against one forward pass, and peak memory.

::

    python benchmarks/retrofit_vgg16.py                        # 256 images of 224x224, three rounds: about ten minutes
    python benchmarks/retrofit_vgg16.py --images 16 --rounds 1 # a quick look

Each measurement runs in a process of its own: the peak memory of a process never goes down again. In each round a
process that runs the model over the images (a plain forward pass, without gradients) is followed by one that inserts BN
with the same images for calibration. The ratios are taken within rounds.

What is promised, and checked by the exit code (1: not kept):

- insertion takes at most 1.25 times as long as the forward pass, in processor time, which other work on the machine
  disturbs less than it disturbs the clock on the wall; both are shown;
- its peak memory stays below that of the model plus two batches. A batch is what a forward pass needs beside the model:
  its input and the activations that are alive together.

The weights are random: neither time nor memory depends on them. The data are made batch by batch and never all there.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from bnlab.experiments.conduct import versions
from bnlab.experiments.result import Result

ALLOWED = 1.25
MIB = 2**20


def batches(images, size):
    """Yield made-up photos, `size` at a time."""
    import torch

    generator = torch.Generator().manual_seed(0)
    for start in range(0, images, size):
        yield torch.randn(min(size, images - start), 3, 224, 224, generator=generator)


def measure(what, images, size):
    """In a fresh process: run `what` ("forward" or "insert") once and print one line of JSON."""
    import torch

    from bnlab.models import VGG
    from bnlab.retrofit import insert_batch_norm

    torch.manual_seed(0)
    model = VGG(16).eval()
    before = _peak()
    wall, cpu = time.perf_counter(), time.process_time()
    if what == "forward":
        with torch.no_grad():
            for x in batches(images, size):
                model(x)
    else:
        normalized = insert_batch_norm(model, batches(images, size))
    row = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    row |= {"model_mib": before, "peak_mib": _peak()}
    if what == "insert":
        with torch.no_grad():
            x = next(batches(2, 2))
            y = model(x)
            row["relative_error"] = ((normalized(x) - y).abs().max() / y.abs().max()).item()
    print(json.dumps(row))


def _peak():
    """The largest resident memory of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MIB if sys.platform == "darwin" else peak / 1024  # bytes there, KiB elsewhere


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32, help="images in a batch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--measure", choices=["forward", "insert"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure, options.images, options.batch)
        return 0

    rows, start = [], time.perf_counter()
    print(f"VGG-16, {options.images} images of 224x224 in batches of {options.batch}, {options.threads} threads\n")
    print("round  what     seconds  CPU seconds  peak MiB  ratio: wall  CPU")
    for number in range(options.rounds):
        for what in ("forward", "insert"):
            rows.append({"round": number, "what": what, **_in_a_process(what, options)})
            row = rows[-1]
            ratios = ""
            if what == "insert":
                forward = rows[-2]
                row["ratio"] = row["seconds"] / forward["seconds"]
                row["cpu_ratio"] = row["cpu_seconds"] / forward["cpu_seconds"]
                ratios = f"{row['ratio']:11.2f} {row['cpu_ratio']:5.2f}"
            times = f"{row['seconds']:7.1f}  {row['cpu_seconds']:11.1f}  {row['peak_mib']:8.0f}"
            print(f"{number:5}  {what:7}  {times}  {ratios}", flush=True)

    forward, insert = ([row for row in rows if row["what"] == what] for what in ("forward", "insert"))
    cpu_ratio = sorted(row["cpu_ratio"] for row in insert)[len(insert) // 2]
    model = max(row["model_mib"] for row in rows)
    batch = min(row["peak_mib"] for row in forward) - model
    peak = max(row["peak_mib"] for row in insert)
    error = max(row["relative_error"] for row in insert)
    print(f"\ntime    {cpu_ratio:.2f} forward passes (median of {len(insert)}); allowed {ALLOWED}")
    print(f"memory  {peak:.0f} MiB; allowed {model + 2 * batch:.0f} = model {model:.0f} + 2 x batch {batch:.0f}")
    print(f"error   {error:.1e} of the largest output; allowed 1e-6")
    if options.output:
        Result(
            experiment="retrofit_vgg16",
            budget="full",
            device="cpu",
            seeds=[0],
            settings={"images": options.images, "batch": options.batch, "threads": options.threads},
            rows=[
                *rows,
                {"what": "summary", "cpu_ratio": cpu_ratio, "model_mib": model, "batch_mib": batch, "peak_mib": peak},
            ],
            seconds=time.perf_counter() - start,
            provenance=_provenance(),
        ).save(options.output)
        print(f"saved   {options.output}")
    return 0 if cpu_ratio <= ALLOWED and peak <= model + 2 * batch and error < 1e-6 else 1


def _in_a_process(what, options):
    command = [sys.executable, __file__, "--measure", what, "--images", options.images, "--batch", options.batch]
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, "OMP_NUM_THREADS": str(options.threads)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def _provenance():
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent)
    changed = subprocess.run(
        ["git", "status", "--porcelain", "bnlab"], capture_output=True, text=True, cwd=Path(__file__).parents[1]
    )
    model = platform.processor() or platform.machine()
    if sys.platform == "linux":
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    return {
        "command": " ".join(["python", *sys.argv]),
        "commit": (commit.stdout.strip() or "unknown") + (" with changes" if changed.stdout.strip() else ""),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{model}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        **versions(),
    }


if __name__ == "__main__":
    sys.exit(main())
