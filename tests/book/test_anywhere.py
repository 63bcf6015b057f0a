"""The site where readers have it: below any path, on disk, served by `make serve`, published by a host."""

import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import browsing
import pytest
import small_book
import yaml
from browsing import ROOT, SITE

HOST = re.compile(r"https?://[^\s\"']+")
PAGES = {
    "index": """# Front

A {term}`batch`, $x$.

:::{quiz}
Yes?

- [x] Yes

  It is.

- [ ] No

  It isn't.
:::

:::{toctree}
book/words
:::
""",
    "book/words": "# Words\n\n:::{glossary}\nbatch\n  Some.\n:::\n",
}


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """A small book with what all pages of the course have."""
    settings = 'extensions += ["findable", "tooltips"]\n'
    site, warnings = small_book.build(tmp_path_factory.mktemp("reach"), PAGES, settings=settings)
    assert not warnings
    return site


def broken_loads(browser, base, names):
    """Return what pages below the address `base` could not load, or loaded from elsewhere."""
    context = browser.new_context()
    tab = context.new_page()
    problems = []
    tab.on("requestfailed", lambda request: problems.append(f"{request.url} failed"))
    tab.on("response", lambda response: response.status < 400 or problems.append(f"{response.status}: {response.url}"))
    tab.on("request", lambda request: request.url.startswith((base, "data:", "blob:")) or problems.append(request.url))
    for name in names:
        tab.goto(base + name, wait_until="load")
        tab.wait_for_timeout(200)
        assert tab.locator("article h1, #search-results, main h1").first.inner_text() is not None
    context.close()
    return problems


# --- any place -------------------------------------------------------------------------------------------------------


@pytest.mark.browser
def test_a_book_works_below_any_path_and_from_disk(browser, book, tmp_path):
    names = ["index.html", "book/words.html", "search.html"]
    place = tmp_path / "some" / "deep" / "path"
    place.parent.mkdir(parents=True)
    place.symlink_to(book)
    with browsing.served(tmp_path) as address:
        assert broken_loads(browser, f"{address}/some/deep/path/", names) == []
    assert broken_loads(browser, f"{book.as_uri()}/", names) == []


@pytest.mark.browser
def test_the_course_works_below_any_path_and_from_disk(browser, pages, tmp_path):
    names = [f"book/{name}.html" for name in ("index", "scaling", "ps1_scaling", "progress", "glossary")]
    names += ["search.html"]
    place = tmp_path / "some" / "deep" / "path"
    place.parent.mkdir(parents=True)
    place.symlink_to(SITE)
    with browsing.served(tmp_path) as address:
        assert broken_loads(browser, f"{address}/some/deep/path/", names) == []
    assert broken_loads(browser, f"{SITE.as_uri()}/", names) == []


# --- make serve ------------------------------------------------------------------------------------------------------


def serve(*options):
    """Start scripts/serve.py."""
    command = [sys.executable, ROOT / "scripts" / "serve.py", *map(str, options)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_serve_says_where_and_answers_with_the_site_s_own_404(book):
    server = serve("--port", 0, "--site", book)
    try:
        said = server.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+/", said)[0]
        with urllib.request.urlopen(address) as answer:
            assert b"Front" in answer.read()
        with pytest.raises(urllib.error.HTTPError, match="404") as refused:
            urllib.request.urlopen(f"{address}a/b/nothing.html")
        assert b"Page not found" in refused.value.read()
    finally:
        server.terminate()
        server.communicate()


def test_serve_says_what_to_do_where_there_is_no_site(tmp_path):
    server = serve("--site", tmp_path)
    _, said = server.communicate(timeout=20)
    assert server.returncode == 1
    assert said == f"There is no website in {tmp_path}: run `make book` first.\n"


def test_serve_says_what_to_do_where_the_port_is_taken(book):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = serve("--site", book, "--port", port)
        _, said = server.communicate(timeout=20)
    assert server.returncode == 1
    assert said.startswith(f"Port {port} is taken: ")
    assert "make serve PORT=" in said


# --- workflow files --------------------------------------------------------------------------------------------------


def github():
    """Return the workflow for GitHub."""
    return yaml.safe_load((ROOT / ".github" / "workflows" / "pages.yml").read_text(encoding="utf-8"))


def gitlab():
    """Return the jobs for GitLab."""
    return yaml.safe_load((ROOT / ".gitlab-ci.yml").read_text(encoding="utf-8"))


def steps():
    """Return all steps of the workflow for GitHub."""
    return [step for job in github()["jobs"].values() for step in job["steps"]]


def test_the_workflows_build_with_targets_that_there_are():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    scripts = ["\n".join(step.get("run", "") for step in steps()), "\n".join(gitlab()["pages"]["script"])]
    for script in scripts:
        made = {target for line in re.findall(r"^make (.*)$", script, re.MULTILINE) for target in line.split()}
        assert {"book", "pdf", "epub"} <= made <= targets


def test_github_publishes_the_site_under_its_address():
    used = {step["uses"].partition("@")[0]: step for step in steps() if "uses" in step}
    assert used["actions/upload-pages-artifact"]["with"]["path"] == "_build/html"
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"]) for step in steps() if "uses" in step)
    assert github()["permissions"] == {"contents": "write", "id-token": "write", "pages": "write"}
    jobs = github()["jobs"]
    assert jobs["publish"]["needs"] == "build"
    (build,) = [step for step in steps() if step.get("run") == "make book"]
    name = used["actions/configure-pages"]["id"]
    assert build["env"]["SITE_ADDRESS"] == f"${{{{ steps.{name}.outputs.base_url }}}}"
    assert github()[True]["push"]["branches"] == ["main"]  # YAML 1.1 reads the key "on" so


def test_gitlab_publishes_what_it_built():
    job = gitlab()["pages"]
    assert job["script"][-1] == "cp -r _build/html public"
    assert "public" in job["artifacts"]["paths"]
    assert 'export SITE_ADDRESS="$CI_PAGES_URL"' in job["script"]


@pytest.mark.parametrize("name", [".github/workflows/pages.yml", ".gitlab-ci.yml"])
def test_workflows_name_no_host_but_their_own(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert [host for host in HOST.findall(text) if "$TOKEN" not in host] == []
    assert "index-url" not in text


def test_binder_gets_what_it_looks_for():
    for line in (ROOT / "binder" / "requirements.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("-c"):
            assert (ROOT / "binder" / line.split()[1]).resolve().is_file()
    assert (ROOT / "binder" / "postBuild").stat().st_mode & 0o111
