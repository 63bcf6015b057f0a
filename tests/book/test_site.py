"""The built website: complete, self-contained, readable by everybody, on a phone and in the dark.

These tests look at _build/html as it is. They don't build it: that is `make book`. Without a site, or for the tests
marked `browser` without Chromium, they are skipped with a message; in CI (the environment variable CI is set) they
fail instead. What a page says is not tested here.
"""

import itertools
import json
import re
import zipfile
from html import escape
from urllib.parse import unquote, urlsplit

import pytest
from browsing import ROOT, SITE

LOADING_LINKS = {"stylesheet", "icon", "preload", "prefetch", "modulepreload", "manifest", "apple-touch-icon"}
CSS_URL = re.compile(r"""url\(\s*["']?([^"')]+)|@import\s+["']([^"']+)""")


# --- the files -------------------------------------------------------------------------------------------------------


def loaded(page):
    """Yield the address of everything a browser fetches to show `page`."""
    for tag in page.find_all(["script", "img", "iframe", "source", "video", "audio", "embed", "track"], src=True):
        yield tag["src"]
    for tag in page.find_all(["img", "source"], srcset=True):
        yield from (candidate.split()[0] for candidate in tag["srcset"].split(","))
    for tag in page.find_all("object", data=True):
        yield tag["data"]
    for tag in page.find_all("link", href=True):
        if LOADING_LINKS & set(tag.get("rel", [])):
            yield tag["href"]
    for tag in page.find_all("style"):
        yield from css_addresses(tag.get_text())
    for tag in page.find_all(style=True):
        yield from css_addresses(tag["style"])


def css_addresses(text):
    """Yield what a style sheet loads."""
    for match in CSS_URL.finditer(text):
        yield match[1] or match[2]


def is_remote(address):
    """Tell whether `address` names a host, with or without a scheme."""
    return bool(urlsplit(address).netloc)


def is_inline(address):
    """Tell whether `address` holds its own data, or a place on the same page."""
    return address.startswith(("data:", "blob:", "#"))


def target(path, address):
    """Return the file that `address`, written in the file `path`, leads to."""
    return (path.parent / unquote(urlsplit(address).path)).resolve()


def report(problems):
    """Fail with one line per problem."""
    problems = sorted(set(problems))
    assert not problems, "\n" + "\n".join(problems)


def test_pages_load_nothing_from_other_hosts(pages):
    report(f"{path.relative_to(SITE)}: {url}" for path, page in pages.items() for url in loaded(page) if is_remote(url))


def test_style_sheets_load_nothing_from_other_hosts(pages):
    sheets = SITE.rglob("*.css")
    report(
        f"{path.relative_to(SITE)}: {url}"
        for path in sheets
        for url in css_addresses(path.read_text(encoding="utf-8"))
        if is_remote(url)
    )


def test_what_pages_load_is_there(pages):
    report(
        f"{path.relative_to(SITE)}: {url}"
        for path, page in pages.items()
        for url in loaded(page)
        if not is_remote(url) and not is_inline(url) and not target(path, url).is_file()
    )


def test_what_style_sheets_load_is_there(pages):
    report(
        f"{path.relative_to(SITE)}: {url}"
        for path in SITE.rglob("*.css")
        for url in css_addresses(path.read_text(encoding="utf-8"))
        if not is_remote(url) and not is_inline(url) and not target(path, url).is_file()
    )


def test_links_inside_the_site_lead_somewhere(pages):
    names = {path: {tag["id"] for tag in page.find_all(id=True)} for path, page in pages.items()}
    problems = []
    for path, page in pages.items():
        for tag in page.find_all("a", href=True):
            parts = urlsplit(tag["href"])
            if parts.scheme or parts.netloc:
                continue
            there = target(path, tag["href"]) if parts.path else path
            place = unquote(parts.fragment)
            if not there.is_file():
                problems.append(f"{path.relative_to(SITE)}: {tag['href']} is not there")
            elif place and there in names and place not in names[there]:
                problems.append(f"{path.relative_to(SITE)}: {tag['href']} names no place on that page")
    report(problems)


def test_every_image_is_described(pages):
    problems = []
    for path, page in pages.items():
        for image in page.find_all("img"):
            decoration = "logo__image" in image.get("class", [])  # beside the title, which says it all
            if "alt" not in image.attrs or not (image["alt"].strip() or decoration):
                problems.append(f"{path.relative_to(SITE)}: {image['src']} has no alt text")
            elif re.search(r"_images/|\.(png|svg)$", image["alt"]):
                problems.append(f"{path.relative_to(SITE)}: {image['src']} has its file name for alt text")
    report(problems)


def test_every_page_has_a_language_a_title_and_one_main_heading(pages):
    problems = []
    for path, page in pages.items():
        headings = len(page.select("h1:not(.onlyprint h1)"))  # the theme repeats it for paper
        if not page.html.get("lang"):
            problems.append(f"{path.relative_to(SITE)}: no language")
        if not page.title or not page.title.get_text(strip=True):
            problems.append(f"{path.relative_to(SITE)}: no title")
        if headings != 1:
            problems.append(f"{path.relative_to(SITE)}: {headings} main headings")
    report(problems)


def test_headings_do_not_skip_a_level(chapters):
    problems = []
    for path, page in chapters.items():
        levels = [int(tag.name[1]) for tag in page.select("article h1, article h2, article h3, article h4, article h5")]
        for before, after in itertools.pairwise(levels):
            if after > before + 1:
                problems.append(f"{path.relative_to(SITE)}: h{after} follows h{before}")
    report(problems)


def test_pages_show_no_path_of_the_machine_that_built_them(pages):
    report(str(path.relative_to(SITE)) for path, page in pages.items() if f"{ROOT}/" in str(page))


def test_no_page_and_no_download_holds_a_solution():
    """The book with solutions is built to another place."""
    from bnlab.exercises.source import find_sources

    model_answers = []
    for source in find_sources(ROOT / "exercises"):
        cells = {cell.metadata.get("nbgrader", {}).get("grade_id"): cell.source for cell in source.notebook.cells}
        model_answers += [cells[name].strip() for name in source.problem_set.written_answers]
    assert len(model_answers) >= 8
    for path in SITE.rglob("*.html"):
        page = path.read_text(encoding="utf-8")
        assert not [text for text in [*model_answers, "BEGIN SOLUTION"] if text in page or escape(text) in page], path
    archives = {archive.name: archive for archive in SITE.rglob("ps*.zip")}
    assert len(archives) == 8
    for name, archive in archives.items():
        with zipfile.ZipFile(archive) as packed:
            (notebook,) = (json.loads(packed.read(entry)) for entry in packed.namelist() if entry.endswith(".ipynb"))
        cells = ["".join(cell["source"]) for cell in notebook["cells"]]
        answers = [cell["source"] for cell in notebook["cells"] if cell["metadata"].get("nbgrader", {}).get("solution")]
        assert len(answers) >= 6
        for answer in map("".join, answers):
            assert answer == "YOUR ANSWER HERE" or "raise NotImplementedError()" in answer, name
        assert not [text for text in [*model_answers, "SOLUTION"] if any(text in cell for cell in cells)], name


def test_every_quiz_explains_every_answer(chapters):
    problems, questions = [], 0
    for path, page in chapters.items():
        for quiz in page.select(".bn-quiz"):
            questions += 1
            name = f"{path.relative_to(SITE)}: {quiz.select_one('.bn-quiz-asks').get_text()}"
            answers = quiz.select("details")
            if len(answers) < 2:
                problems.append(f"{name}: {len(answers)} answers")
            for answer in answers:
                verdict, _, why = answer.select_one(".bn-quiz-why").get_text().strip().partition(". ")
                if verdict != ("Right" if answer.has_attr("data-right") else "Not quite") or not why.strip():
                    problems.append(f"{name}: {answer.summary.get_text()!r} is explained by {verdict[:40]!r}")
            if not quiz.select("details[data-right]"):
                problems.append(f"{name}: no right answer")
        if page.select(".admonition.bn-quiz"):
            problems.append(f"{path.relative_to(SITE)}: a quiz in the old form")
    assert questions, "no page has a quiz"
    report(problems)


def test_every_chapter_has_a_quiz_and_a_box_to_tick(chapters):
    numbered = {path: page for path, page in chapters.items() if page.select("article h1 .section-number")}
    assert len(numbered) >= 16
    report(
        f"{path.relative_to(SITE)}: {len(page.select('.bn-quiz'))} questions, {len(page.select('.bn-read'))} boxes"
        for path, page in numbered.items()
        if len(page.select(".bn-quiz")) < 3 or len(page.select(".bn-read")) != 1
    )


def test_every_formula_is_set(chapters):
    """For the eye and for screen readers, in the text and in what cells show; and nothing waits for a script."""
    problems, formulas = [], 0
    for path, page in chapters.items():
        name = path.relative_to(SITE)
        if page.article is None:  # 404.html
            continue
        for formula in page.select("article :is(span, div).math"):
            formulas += 1
            if not formula.select("mjx-container > mjx-math mjx-c") or not formula.select("mjx-assistive-mml math > *"):
                problems.append(f"{name}: not set: {formula.get_text()[:60]}")
        problems += [f"{name}: a formula has an error: {error}" for error in page.select("mjx-merror, merror")]
        words = "".join(
            text for text in page.article.find_all(string=True) if not text.find_parents(["pre", "code", "script"])
        )
        problems += [f"{name}: TeX as text: {tex}" for tex in re.findall(r"\\[(\[].{0,40}|\$\$.{0,40}", words)]
    assert formulas > 500
    report(problems)


def test_mathjax_comes_with_its_license():
    folder = ROOT / "book" / "_ext" / "vendor" / "mathjax"
    assert "Apache License" in (folder / "LICENSE").read_text(encoding="utf-8")
    assert "sha256" in (folder / "README.md").read_text(encoding="utf-8")


# --- in a browser ----------------------------------------------------------------------------------------------------


@pytest.mark.browser
def test_every_page_works_on_desktop_and_phone(visit, address, chapters):
    tab = visit.tab
    for path in chapters:
        visit.open(address, path.relative_to(SITE).as_posix())
        tab.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; d.hidden = false; })")
        for width in (1280, 390, 360):
            tab.set_viewport_size({"width": width, "height": 800})
            needed = tab.evaluate("document.documentElement.scrollWidth")
            if needed > width:
                visit.note(f"scrolls sideways: {needed} px wide on a screen of {width} px")
        tab.set_viewport_size({"width": 1280, "height": 900})
    report(visit.problems)


@pytest.mark.browser
@pytest.mark.parametrize("visit", ["light", "dark"], indirect=True)
def test_text_stands_out_from_the_page(visit, address, chapters):
    contrast = """() => {
        const light = element => {  // relative luminance as WCAG 2 defines it
            const [r, g, b] = element.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
                .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const page = light(getComputedStyle(document.body).backgroundColor);
        const text = light(getComputedStyle(document.querySelector("article p")).color);
        return [page, (Math.max(page, text) + 0.05) / (Math.min(page, text) + 0.05)];
    }"""
    visit.open(address, "book/index.html")
    page, ratio = visit.tab.evaluate(contrast)
    assert page > 0.8 if visit.theme == "light" else page < 0.1
    assert ratio > 7
    drawing = visit.tab.locator("article .cell_output img").first
    shown = drawing.evaluate("image => getComputedStyle(image).filter")
    assert ("invert" in shown) == (visit.theme == "dark")
    report(visit.problems)


@pytest.mark.browser
def test_the_top_of_the_site_leads_to_the_front_page(visit, address):
    visit.tab.goto(f"{address}/")
    visit.tab.wait_for_url("**/book/index.html")
    report(visit.problems)


@pytest.mark.browser
def test_search_finds_a_word(visit, address):
    visit.open(address, "search.html?q=variance")
    visit.tab.locator("#search-results li a").first.wait_for(timeout=10_000)
    report(visit.problems)


@pytest.mark.browser
def test_a_quiz_is_answered_by_keyboard(visit, address, chapters):
    path = next((path for path, page in chapters.items() if page.select(".bn-quiz")), None)
    assert path, "no page has a quiz"
    visit.open(address, path.relative_to(SITE).as_posix())
    quiz = visit.tab.locator(".bn-quiz").first
    quiz.get_by_role("radio").first.focus()
    visit.tab.keyboard.press("Space")
    visit.tab.keyboard.press("Enter")
    said = quiz.get_by_role("status").inner_text()
    assert re.match(r"A\. (Right|Not quite)\. .", said)
    report(visit.problems)
