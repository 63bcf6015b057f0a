"""Every page reaches everybody: light enough for a phone, still while it loads, readable by machine and by keyboard.

How fast pages are is measured by benchmarks/website.py: here the bound on the largest paint is generous, for a test has
no quiet machine.
"""

import gzip

import pytest
from browsing import SITE
from test_site import report

SENT = 350_000  # bytes, at most, from a host that compresses, as those for pages do
WEIGHT = 800_000  # bytes as they lie on the disk
REFERENCE = {"book/api.html"}  # long lists to look things up in
EXPLORABLES = "/explorables/"  # figures that move bring their data when the reader comes near
PHONE = {"width": 412, "height": 823}
OBSERVE = """
window.bnShifts = [];
window.bnLargest = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    bnShifts.push([entry.value, entry.sources.map(({ node }) => node?.outerHTML?.slice(0, 100) ?? "")]);
  }
}).observe({ type: "layout-shift", buffered: true });
new PerformanceObserver((list) => { bnLargest = list.getEntries().at(-1).startTime; })
  .observe({ type: "largest-contentful-paint", buffered: true });
"""
SCROLL = """async () => {
  for (let y = 0; y < document.body.scrollHeight; y += 600) {
    scrollTo({ top: y, behavior: "instant" });
    await new Promise((done) => setTimeout(done, 25));
  }
}"""


def name(path):
    """Return the address of a page inside the site."""
    return path.relative_to(SITE).as_posix()


def measured(body):
    """Return the size of what is loaded as it is, and as it is sent."""
    return len(body), min(len(body), len(gzip.compress(body)))


def first_view(browser, address, page):
    """Return what is wrong with a first view of `page` on a phone."""
    problems, weights = [], {}
    context = browser.new_context(viewport=PHONE, device_scale_factor=2)
    tab = context.new_page()
    tab.add_init_script(OBSERVE)
    tab.on("response", lambda response: weights.update({response.url: measured(response.body())}))
    tab.context.new_cdp_session(tab).send("Emulation.setCPUThrottlingRate", {"rate": 4})
    tab.goto(f"{address}/{page}", wait_until="networkidle")
    counted = [sizes for url, sizes in weights.items() if EXPLORABLES not in url]
    weight, sent = (sum(sizes) for sizes in zip(*counted, strict=True))
    if (weight > WEIGHT or sent > SENT) and page not in REFERENCE:
        problems.append(f"{page}: {weight} bytes, {sent} compressed; the limits are {WEIGHT} and {SENT}")
    largest = tab.wait_for_function("bnLargest").json_value()
    if largest > 6000:
        problems.append(f"{page}: the largest paint comes after {largest} ms")
    tab.context.new_cdp_session(tab).send("Emulation.setCPUThrottlingRate", {"rate": 1})
    tab.evaluate(SCROLL)
    shifts = tab.evaluate("bnShifts")
    if sum(value for value, _ in shifts) >= 0.01:
        problems.append(f"{page}: moves by {shifts}")
    context.close()
    return problems


@pytest.mark.browser
@pytest.mark.timeout(900)
def test_a_first_view_on_a_phone_is_light_and_stays_still(browser, address, chapters):
    problems = []
    for page in map(name, chapters):
        for _ in range(3):  # on a busy machine a font may come late once
            found = first_view(browser, address, page)
            if not found:
                break
        problems += found
    report(problems)


@pytest.mark.browser
@pytest.mark.timeout(900)
@pytest.mark.parametrize("visit", ["light", "dark"], indirect=True)
@pytest.mark.parametrize("width", [1280, 360])
def test_axe_finds_nothing(visit, address, chapters, width):
    playwright = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install '.[dev]'")
    axe = playwright.Axe()
    visit.tab.set_viewport_size({"width": width, "height": 900})
    for page in map(name, chapters):
        visit.open(address, page)
        for violation in axe.run(visit.tab).response["violations"]:
            for node in violation["nodes"]:
                visit.note(f"{violation['id']} at {node['target']}: {node['html'][:120]}")
    report(visit.problems)


@pytest.mark.browser
def test_axe_would_find_a_fault(visit, address):
    playwright = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install '.[dev]'")
    visit.open(address, "book/index.html")
    visit.tab.evaluate("document.querySelector('article').insertAdjacentHTML('beforeend', '<button></button>')")
    assert [fault["id"] for fault in playwright.Axe().run(visit.tab).response["violations"]] == ["button-name"]


@pytest.mark.browser
def test_the_first_stop_of_the_keyboard_leads_past_the_navigation(visit, address):
    visit.open(address, "book/scaling.html")
    tab = visit.tab
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent.trim()") == "Skip to main content"
    assert tab.locator("#pst-skip-link").is_visible()
    tab.keyboard.press("Enter")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.querySelector('main').contains(document.activeElement)")
    report(visit.problems)


@pytest.mark.browser
@pytest.mark.parametrize("visit", ["light", "dark"], indirect=True)
def test_the_first_paint_has_the_right_colors(visit, address):
    """Before any script of the theme has run, and where storage is forbidden."""
    visit.tab.add_init_script(
        "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('no'); }});"
    )
    visit.tab.route("**/*.js", lambda route: route.abort())
    visit.tab.goto(f"{address}/book/index.html")
    assert visit.tab.evaluate("document.documentElement.dataset.theme") == visit.theme
    background = visit.tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, background.strip("rgb()").split(","))) < 200) == (visit.theme == "dark")


@pytest.mark.browser
def test_a_page_without_scripts_has_its_colors(browser, address):
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(f"{address}/book/index.html")
    link = tab.locator("article p a").last
    assert link.evaluate("link => getComputedStyle(link).color") != "rgb(0, 0, 0)"
    context.close()
