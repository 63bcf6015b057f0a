"""Serve the built website on this machine alone: `make serve`, or `make serve PORT=9000`.

Missing pages are answered with 404.html, as GitHub Pages and GitLab Pages do.
"""

import argparse
import errno
import http.server
import sys
from functools import partial
from pathlib import Path

SITE = Path(__file__).parents[1] / "_build" / "html"


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files, and the site's own page for what isn't there."""

    def send_error(self, code, message=None, explain=None):
        """Answer with 404.html where there is one."""
        page = Path(self.directory) / "404.html"
        if code != 404 or not page.is_file():
            return super().send_error(code, message, explain)
        body = page.read_bytes()
        self.send_response(404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_request(self, code="-", size="-"):
        """Say nothing of what went well."""
        if int(code) >= 400:
            super().log_request(code, size)


def main():
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--site", type=Path, default=SITE)
    options = parser.parse_args()
    if not (options.site / "index.html").is_file():
        sys.exit(f"There is no website in {options.site}: run `make book` first.")
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", options.port), partial(Handler, directory=options.site))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        sys.exit(
            f"Port {options.port} is taken: stop the program that uses it, or choose another: make serve PORT=9000"
        )
    with server:
        print(f"The website: http://127.0.0.1:{server.server_port}/     (Ctrl-C ends it)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
