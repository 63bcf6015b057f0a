"""Headless Chromium and a server on localhost, for the tests that look at pages."""

import contextlib
import functools
import http.server
import os
import shutil
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[2]
SITE = ROOT / "_build" / "html"

CHROMIUM_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def absent(what):
    """Skip the test because of `what` is missing, or fail it in CI."""
    if os.environ.get("CI"):
        pytest.fail(what, pytrace=False)
    pytest.skip(what)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serve files without a line in the log for each."""

    def log_message(self, *args):
        """Say nothing."""


@contextlib.contextmanager
def served(folder, handler=QuietHandler):
    """Serve `folder` on localhost and give its address."""
    handler = functools.partial(handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextlib.contextmanager
def chromium():
    """Give a Chromium without a window."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not program:
        absent("no Chromium on PATH: install your system's package `chromium`")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        absent("the browser tests need playwright: pip install '.[dev]'")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


class Visit:
    """One tab that notes what goes wrong in it."""

    def __init__(self, browser, theme):
        self.context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=theme)
        self.theme = theme
        self.problems = []
        self.name = ""
        self.tab = self.context.new_page()
        self.tab.on("console", lambda message: message.type == "error" and self.note(f"console: {message.text}"))
        self.tab.on("pageerror", lambda error: self.note(f"script: {error}"))
        self.tab.on("requestfailed", lambda request: self.note(f"could not load {request.url}"))
        self.tab.on("response", lambda response: response.ok or self.note(f"{response.status} for {response.url}"))
        self.tab.route(lambda url: urlsplit(url).hostname != "127.0.0.1", self.refuse)

    def note(self, problem):
        """Remember `problem` together with the page it happened on."""
        self.problems.append(f"{self.name}: {problem}")

    def refuse(self, route):
        """Note a request to another host and don't let it out."""
        self.note(f"asks another host for {route.request.url}")
        route.abort()

    def open(self, address, name):
        """Load a page."""
        self.name = name
        self.tab.goto(f"{address}/{name}", wait_until="load")
