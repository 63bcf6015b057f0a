"""Formulas set while a book is built (book/_ext/typeset.py), on a small book of their own."""

import re

import browsing
import bs4
import pytest
import small_book

PAGE = r"""# Formulas with $\gamma$

The variance $\varb = \frac{1}{m} \sum_i (x_i - \mub)^2$ in a line.

$$
y = \gamma \xhat + \beta
$$ (transform)

Equation {eq}`transform`, and two lines of one:

$$
a &= b \\
  &= c
$$

```{math}
a = 1

b = 2
```

:::{quiz}
Is $x > 0$?

- [x] $\sqrt{2}$

  Because of $\mathbb{R}$.

- [ ] No

  It isn't.
:::
"""
MACROS = r"""
mathjax3_config = {"tex": {"macros": {
    "mub": r"\mu_{\mathcal{B}}", "varb": r"\sigma^2_{\mathcal{B}}", "xhat": r"\hat{x}",
}}}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("formulas")
    pages = {"index": "# Book\n\n```{toctree}\nformulas\n```\n", "formulas": PAGE}
    site, warnings = small_book.build(folder, pages, settings=MACROS)
    assert not warnings
    return site


@pytest.fixture(scope="module")
def page(site):
    return bs4.BeautifulSoup((site / "formulas.html").read_text(encoding="utf-8"), "html.parser")


def spoken(formula):
    """The MathML of a formula as text, without space."""
    return re.sub(r"\s", "", formula.select_one("mjx-assistive-mml math").get_text())


def test_every_formula_is_set_for_eyes_and_for_screen_readers(page):
    formulas = page.select("article .math")
    assert [spoken(formula) for formula in formulas] == [
        "γ", "σB2=1m∑i(xi−μB)2", "y=γx^+β", "a=b=c", "a=1b=2", "x>0", "2", "R",
    ]  # fmt: skip
    for formula in formulas:
        assert len(formula.select("mjx-container > mjx-math[aria-hidden=true] mjx-c")) >= 1
        assert "\\" not in formula.get_text()
    assert len(formulas[1].select("math mfrac")) == 1  # the macro's and the formula's structure, not only its letters
    assert len(formulas[3].select("math mtr")) == 2
    assert formulas[2].select_one(".eqno").get_text().startswith("(1)")
    assert formulas[2].select_one("mjx-container")["display"] == "true"


def test_no_script_sets_formulas(page):
    assert "mathjax" not in " ".join(tag["src"] for tag in page.select("script[src]")).lower()
    assert page.select_one('link[href*="math/math.css"]')


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        (r"a + \mistaken", r"Undefined control sequence \mistaken"),
        (r"\frac{1}{2", "Missing close brace"),
        (r"\begin{array} a", "Missing \\end{array}"),
    ],
)
def test_a_mistake_is_a_warning_with_its_place(tmp_path, formula, said):
    _, warnings = small_book.build(tmp_path, {"index": f"# Book\n\nText.\n\nA ${formula}$ here.\n"})
    assert "index.md:5: WARNING: a formula can't be set" in warnings
    assert said in warnings
    assert warnings.count("WARNING") == 1


def test_labels_and_definitions_of_one_formula_do_not_reach_the_next(tmp_path):
    page = "# Book\n\n$$\n\\label{one} a\n$$\n\n$$\n\\label{one} b\n$$\n"
    assert not small_book.build(tmp_path, {"index": page})[1]


def test_an_epub_holds_mathml_and_latex_stays_latex(tmp_path):
    book, _ = small_book.build(tmp_path, {"index": "# Book\n\nA $x^2$ here.\n"}, builder="epub")
    text = (book / "index.xhtml").read_text(encoding="utf-8")
    assert "<msup>" in text and "mjx-" not in text
    book, _ = small_book.build(tmp_path, {"index": "# Book\n\nA $x^2$ here.\n"}, builder="latex")
    assert r"\(x^2\)" in next(book.glob("*.tex")).read_text(encoding="utf-8")


@pytest.mark.browser
def test_glyphs_come_from_the_fonts(browser, site):
    with browsing.served(site) as address, small_book.visit(browser) as tab:
        tab.goto(f"{address}/formulas.html")
        tab.evaluate("() => document.fonts.ready")
        fonts = tab.evaluate("() => [...document.fonts].filter(f => f.status === 'loaded').map(f => f.family)")
        assert {"MJXTEX", "MJXTEX-I"} <= {name.strip('"') for name in fonts}
        fraction = tab.locator("mjx-mfrac").first.bounding_box()
        assert 10 < fraction["height"] < 60 and fraction["width"] > 3
        clip = tab.locator("mjx-assistive-mml").first.evaluate("mathml => getComputedStyle(mathml).clip")
        assert clip == "rect(1px, 1px, 1px, 1px)"  # there for screen readers, not for the eye
