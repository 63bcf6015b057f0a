"""What the tests of the website share: its pages, its address on localhost, and a browser."""

import browsing
import pytest
from browsing import SITE


@pytest.fixture(scope="session")
def pages():
    """Every page of the site: {path: parsed HTML}."""
    if not (SITE / "index.html").exists():
        browsing.absent("the site is not built: run `make book`")
    bs4 = pytest.importorskip("bs4", reason="reading pages needs beautifulsoup4: pip install '.[book]'")
    found = {path: path.read_text(encoding="utf-8") for path in sorted(SITE.rglob("*.html"))}
    return {path: bs4.BeautifulSoup(text, "html.parser") for path, text in found.items() if "_static" not in path.parts}


@pytest.fixture(scope="session")
def chapters(pages):
    """The pages a reader sees, without the one at the top that only leads on."""
    return {path: page for path, page in pages.items() if path != SITE / "index.html"}


@pytest.fixture(scope="session")
def address(pages):
    """The site on localhost."""
    with browsing.served(SITE) as address:
        yield address


@pytest.fixture(scope="session")
def browser():
    """Chromium without a window."""
    with browsing.chromium() as browser:
        yield browser


@pytest.fixture
def visit(request, browser):
    """A fresh tab, light unless the test asks for another color scheme."""
    visit = browsing.Visit(browser, getattr(request, "param", "light"))
    yield visit
    visit.context.close()
