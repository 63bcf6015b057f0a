"""How light, fast and accessible is the website?

::

    make book && python benchmarks/website.py --output book/results/website.json    # on a quiet machine: 15 minutes
    python benchmarks/website.py --pages book/index.html --no-lighthouse            # a quick look

The built site is served on localhost and opened in headless Chromium, each page in a profile of its own, as on a phone
(412 x 823 pixels) with a processor four times slower:

- **weight**: the bytes of all that is loaded until the network is idle, without the data of figures that move; as they
  lie on the disk, and compressed with gzip, as web hosts send them;
- **largest paint** (LCP), the median of three visits, and **layout shift** (CLS) while somebody scrolls to the end;
- **axe**: violations in the light and in the dark theme, with its default rules.

Then Lighthouse, from npm into a temporary folder, with its phone profile (simulated slow 4G, processor four times
slower) on the front page and four chapters, from a server that compresses.
"""

import argparse
import contextlib
import functools
import gzip
import http.server
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bnlab.experiments.conduct import provenance

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_build" / "html"
sys.path.insert(0, str(ROOT / "tests" / "book"))  # where the site's tests have their browser

from browsing import chromium  # noqa: E402
from test_reach import EXPLORABLES, OBSERVE, PHONE, SCROLL  # noqa: E402

LIGHTHOUSE = "lighthouse@12.8.2"
CATEGORIES = ("performance", "accessibility", "best-practices", "seo")
MEASURED_BY_LIGHTHOUSE = ("index", "scaling", "batch_norm_transform", "backward_pass", "training_and_evaluation")
VISITS = 3
console = Console(stderr=True)


class Compressing(http.server.SimpleHTTPRequestHandler):
    """Serve files compressed, over connections that stay open, as hosts do."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        path = path / "index.html" if path.is_dir() else path
        if not path.is_file():
            self.send_error(404)
            return
        kind = self.guess_type(path)
        data = path.read_bytes()
        self.send_response(200)
        if kind.startswith(("text/", "image/svg")) or "javascript" in kind or "json" in kind:
            data = gzip.compress(data)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Type", f"{kind}; charset=utf-8" if kind.startswith("text/") else kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        """Say nothing."""


@contextlib.contextmanager
def served():
    """Serve the site on localhost and give its address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Compressing, directory=SITE)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", nargs="+", help="paths inside the site (default: all)")
    parser.add_argument("--no-lighthouse", action="store_true", help="leave Lighthouse out")
    parser.add_argument("--output", type=Path, help="a JSON file for the figures")
    options = parser.parse_args()
    if not (SITE / "index.html").exists():
        parser.error("the site is not built: run `make book`")
    command = f"python benchmarks/website.py {' '.join(sys.argv[1:])}"
    record = {"provenance": provenance(command, packages=("playwright", "axe-playwright-python", "sphinx"))}
    every = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html") if "_static" not in path.parts)
    pages = options.pages or [page for page in every if page != "index.html"]
    with served() as address:
        with chromium() as browser:
            record["chromium"] = browser.version
            record["pages"] = [measure(browser, address, page) for page in track(pages, "pages", console=console)]
        if not options.no_lighthouse:
            record["lighthouse"] = lighthouse(address)
    show(record)
    if options.output:
        options.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def measure(browser, address, page):
    """Return the figures of one page."""
    visits = [visit(browser, f"{address}/{page}") for _ in range(VISITS)]
    return {
        "page": page,
        "bytes": visits[0]["bytes"],
        "bytes_gzip": visits[0]["bytes_gzip"],
        "largest_paint_ms": round(statistics.median(one["largest_paint_ms"] for one in visits)),
        "layout_shift": max(one["layout_shift"] for one in visits),
        "axe": {theme: axe(browser, f"{address}/{page}", theme) for theme in ("light", "dark")},
    }


def visit(browser, url):
    """Open `url` as on a slow phone and scroll to its end."""
    context = browser.new_context(viewport=PHONE, device_scale_factor=2)
    tab = context.new_page()
    tab.add_init_script(OBSERVE)
    files = {}
    tab.on("response", lambda response: files.update({response.url: response.body()}))
    slow = context.new_cdp_session(tab)
    slow.send("Emulation.setCPUThrottlingRate", {"rate": 4})
    tab.goto(url, wait_until="networkidle")
    loaded = [data for name, data in files.items() if EXPLORABLES not in name]
    largest = tab.wait_for_function("bnLargest").json_value()
    slow.send("Emulation.setCPUThrottlingRate", {"rate": 1})
    tab.evaluate(SCROLL)
    shift = sum(value for value, _ in tab.evaluate("bnShifts"))
    context.close()
    sizes = sum(map(len, loaded)), sum(min(len(data), len(gzip.compress(data))) for data in loaded)
    return {"bytes": sizes[0], "bytes_gzip": sizes[1], "largest_paint_ms": largest, "layout_shift": round(shift, 4)}


def axe(browser, url, theme):
    """Return the names of the rules that `url` breaks."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=theme)
    tab = context.new_page()
    tab.goto(url)
    violations = Axe().run(tab).response["violations"]
    context.close()
    return [violation["id"] for violation in violations]


def lighthouse(address):
    """Return Lighthouse's scores, and what keeps them from 100, by page."""
    if not shutil.which("npm"):
        sys.exit("Lighthouse comes from npm, which is not on PATH: install Node.js 18 or newer, or use --no-lighthouse")
    environment = os.environ | {"CHROME_PATH": shutil.which("chromium") or shutil.which("google-chrome") or ""}
    rows = []
    with tempfile.TemporaryDirectory() as room:
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", LIGHTHOUSE], cwd=room, check=True)
        for name in track(MEASURED_BY_LIGHTHOUSE, "Lighthouse", console=console):
            report = Path(room) / f"{name}.json"
            command = [
                f"{room}/node_modules/.bin/lighthouse",
                f"{address}/book/{name}.html",
                "--output=json",
                "--quiet",
            ]
            command += [f"--output-path={report}", f"--only-categories={','.join(CATEGORIES)}"]
            command += ["--chrome-flags=--headless=new --no-sandbox --disable-gpu"]
            subprocess.run(command, env=environment, check=True, capture_output=True)
            rows.append(read(json.loads(report.read_text(encoding="utf-8")), f"book/{name}.html"))
    return rows


def read(report, page):
    """Return what is kept of one report."""
    weighted = {
        audit["id"]: report["audits"][audit["id"]]["score"]
        for category in CATEGORIES
        for audit in report["categories"][category]["auditRefs"]
        if audit["weight"]
    }
    return {
        "page": page,
        "version": report["lighthouseVersion"],
        **{category: round(100 * report["categories"][category]["score"]) for category in CATEGORIES},
        "largest_paint_ms": round(report["audits"]["largest-contentful-paint"]["numericValue"]),
        "below_90": sorted(name for name, score in weighted.items() if score is not None and score < 0.9),
    }


def show(record):
    """Print the tables."""
    table = Table("page", "kB", "kB gzip", "largest paint, ms", "layout shift", "axe light", "axe dark")
    for row in record["pages"]:
        sizes = f"{row['bytes'] / 1000:.0f}", f"{row['bytes_gzip'] / 1000:.0f}"
        faults = [", ".join(row["axe"][theme]) or "0" for theme in ("light", "dark")]
        table.add_row(row["page"], *sizes, str(row["largest_paint_ms"]), str(row["layout_shift"]), *faults)
    Console().print(table)
    if "lighthouse" in record:
        table = Table("page", *CATEGORIES, "largest paint, ms", "below 90")
        for row in record["lighthouse"]:
            scores = [str(row[category]) for category in CATEGORIES]
            table.add_row(row["page"], *scores, str(row["largest_paint_ms"]), ", ".join(row["below_90"]))
        Console().print(table)


if __name__ == "__main__":
    main()
