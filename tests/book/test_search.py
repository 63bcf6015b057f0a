"""The search: for each question that students type, the page that answers it is among the first three."""

import json
import re
import sys

import pytest
from browsing import ROOT, SITE
from test_site import report

QUESTIONS = {
    "why does batch norm fail with small batches": "small_batches_and_relatives",
    "gamma and beta": "batch_norm_transform",
    "eval mode running mean": "training_and_evaluation",
    "where to put batch norm relu before after": "placement_and_bias",
    "fold batch norm into conv": "folding",
    "difference between normalization and standardization": "scaling",
    "min-max scaling outliers": "scaling",
    "what is covariate shift": "covariate_shift",
    "internal covariate shift true?": "internal_covariate_shift",
    "backward pass derivation": "backward_pass",
    "gradient of batch norm numpy": "backward_pass",
    "does batch norm speed up training": "training_speed",
    "batch norm learning rate": "training_speed",
    "batch norm dropout regularization": "regularization",
    "bias before batch norm": "placement_and_bias",
    "momentum pytorch vs keras": "frameworks",
    "add batch norm to vgg": "vgg_retrofitting",
    "batchnorm slow on gpu": "what_bn_costs",
    "layer norm vs group norm": "small_batches_and_relatives",
    "common batch norm bugs": "bugs_in_the_wild",
    "initialization exploding gradients": "initialization_and_gradients",
    "AdaBN domain adaptation": "covariate_shift",
    "how do I submit the homework": "how_to_do",
    "grade a class with nbgrader": "grading_a_class",
    "running mean": "training_and_evaluation",
    "model.eval()": "training_and_evaluation",
}


def search(tab, question):
    """Type `question` and return the pages found."""
    tab.get_by_role("searchbox", name="A question").fill(question)
    tab.keyboard.press("Enter")
    links = tab.locator("#search-results a.bn-result").evaluate_all("links => links.map(link => link.href)")
    return [re.search(r"([\w-]+)\.html", link)[1] for link in links]


@pytest.mark.browser
def test_each_question_leads_to_its_page(visit, address):
    visit.open(address, "search.html")
    assert len(QUESTIONS) >= 20
    for question, page in QUESTIONS.items():
        first = search(visit.tab, question)[:3]
        if page not in first:
            visit.note(f"{question!r} finds {first}, not {page}")
    report(visit.problems)


def test_results_show_no_keys_and_no_page_that_is_left_out(pages):
    text = (SITE / "_static" / "course_search_index.js").read_text(encoding="utf-8")
    sections = json.loads(text.partition("=")[2].strip().removesuffix(";"))["sections"]
    report(
        f"{page}: {excerpt}"
        for page, _, _, excerpt in sections
        if re.search(r"\b(eq|fig|sec|ch)-[a-z]|\b[a-z]+\d{4}[a-z]+", excerpt) or page.endswith("_in_page")
    )


@pytest.mark.browser
def test_it_works_from_a_folder_and_with_an_unfinished_word(browser, pages):
    context = browser.new_context()
    tab = context.new_page()
    tab.goto((SITE / "search.html").as_uri() + "?q=standardiz")
    results = tab.locator("#search-results a.bn-result")
    assert results.count() > 3
    results.first.click()
    tab.wait_for_url("**/book/*.html?highlight=*")
    context.close()


@pytest.mark.browser
def test_it_says_what_it_found(visit, address):
    visit.open(address, "search.html?q=qwertz")
    assert visit.tab.get_by_text("Nothing for “qwertz”. Try other words").is_visible()
    assert search(visit.tab, "the of and") == []
    search(visit.tab, "variance")
    assert re.search(r"pages for “variance”", visit.tab.locator("#bn-found").inner_text())
    search(visit.tab, "<b>constructor</b> __proto__ hasOwnProperty")
    report(visit.problems)


@pytest.mark.browser
def test_the_page_and_the_build_agree_on_every_word(visit, address):
    """course_search.js takes a question apart as course_search.py does the text."""
    visit.open(address, "search.html")
    text = (SITE / "_static" / "course_search_index.js").read_text(encoding="utf-8")
    index = json.loads(text.removeprefix("window.bnSearchIndex = ").rstrip(";\n"))
    assert len(index["terms"]) > 2000
    excerpts = [excerpt for _, _, _, excerpt in index["sections"]]
    assert [text for text in excerpts if "\\" in text or re.search(r"\bch-[a-z]", text)] == []  # TeX, names of labels
    words = sorted(set(re.findall("[a-z]+", " ".join(excerpts).lower())))
    assert len(words) > 1000
    stems = visit.tab.evaluate(
        "words => { const s = new Stemmer(); return words.map(word => s.stemWord(word)); }", words
    )
    sys.path.append(str(ROOT / "book" / "_ext"))
    from course_search import stem

    assert {word: (there, stem(word)) for word, there in zip(words, stems, strict=True) if there != stem(word)} == {}


@pytest.mark.browser
def test_without_scripts_the_page_says_what_to_do(browser, address):
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(f"{address}/search.html")
    assert tab.locator("main noscript").bounding_box()["height"] > 10
    assert "The search needs scripts." in tab.locator("main noscript").inner_text()
    context.close()
