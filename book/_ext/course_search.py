"""An index for the page "Search" that answers the questions students type.

Sphinx's own index knows which words a page holds, not how much the page is about them. This one ranks by BM25F
(Robertson and Zaragoza, 2009), section by section: a word counts more in a title than in the text, more where it is
rare, and less in a long section. Words are stemmed, and words that mean the same here ("norm", "BN", "normalization")
are one. All weights are computed while the site is built; `_static/course_search.js` adds them up. The index is a
classic script, so that a search works from a folder too; only the search page loads it.
"""

import json
import math
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import snowballstemmer
from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.search.en import english_stopwords

INDEX = "course_search_index.js"
WORD = re.compile(r"[a-z]+|\d+")
# What stands in a question without saying what it is about.
STOPWORDS = english_stopwords | set(
    "what why how when where which who do does did can could should would my i me you we our your its it's has have "
    "had so than from about use used using get am be been any some one two vs model".split()
)
# Words by their stem that count as others.
SAME = {
    "norm": "normal",
    "batchnorm": "batch normal",
    "bn": "batch normal",
    "layernorm": "layer normal",
    "groupnorm": "group normal",
    "epsilon": "ep",
    "eval": "evalu",
    "infer": "evalu",
    "test": "evalu",
    "conv": "convolut",
    "std": "standard deviat",
    "lr": "learn rate",
    "scaler": "scale",
    "fuse": "fold",
    "merg": "fold",
    "slow": "cost",
    "speed": "cost",
    "gradient": "gradient backward",
    "backprop": "backward",
    "backpropag": "backward",
    "deriv": "gradient backward",
    "exercis": "problem set",
    "homework": "problem set",
    "assign": "problem set",
    "gpu": "gpu graphic card",
    "tini": "small",
    "microbatch": "small batch",
    "nan": "bug",
    "wrong": "bug",
    "error": "bug",
    "keras": "framework",
    "tensorflow": "framework",
    "jax": "framework",
    "flax": "framework",
    "onnx": "framework",
}
WEIGHTS = {"page": 6.0, "heading": 4.0, "description": 3.0, "text": 1.0}
KEYS = {"eq", "numref"}  # references whose text is a key until the page is written
K1, B = 1.2, 0.6  # how soon more of a word adds little; how much length counts
REFERENCE = 0.5  # of the weight of other pages: lists of names hold every word
LISTS = {"api", "bibliography"}
STEMMER = snowballstemmer.stemmer("porter")  # the same as in Sphinx's language_data.js


@dataclass
class Section:
    """What a result of the search leads to."""

    page: str
    title: str
    anchor: str = ""
    words: dict = field(default_factory=lambda: defaultdict(list))  # by field
    excerpt: str = ""


def stem(word):
    """Return the stem of `word` as language_data.js has it, which leaves words of two letters alone."""
    return STEMMER.stemWord(word) if len(word) > 2 else word


def terms(text):
    """Return the terms of `text`, as course_search.js does with a question."""
    found = []
    for word in WORD.findall(text.lower()):
        if word not in STOPWORDS and len(word) > 1:
            found += SAME.get(stem(word), stem(word)).split()
    return found


def own_text(section, titles, *, plain=False):
    """Return the text of a section without code and without the sections in it.

    `titles` are those of labels. `plain` is for reading: formulas are left out where they are more than a letter.
    """
    words = []

    def walk(node):
        if isinstance(node, nodes.section | nodes.literal_block | nodes.comment | nodes.raw | nodes.title):
            return
        if isinstance(node, pending_xref) and node.get("reftype") == "ref" and node["reftarget"] in titles:
            words.append(titles[node["reftarget"]])
        elif isinstance(node, pending_xref) and (node.get("refdomain") == "cite" or node.get("reftype") in KEYS):
            words.append("…" if plain else "")
        elif plain and isinstance(node, nodes.math | nodes.math_block) and not node.astext().isalnum():
            words.append("…" if isinstance(node, nodes.math) else "")
        elif isinstance(node, nodes.Text):
            words.append(str(node))
        else:
            for child in node.children:
                walk(child)
            if not isinstance(node, nodes.Inline):
                words.append(" ")

    for child in section.children:
        walk(child)
    return re.sub(r"\s+", " ", "".join(words)).strip()


def sections(name, doctree, titles):
    """Return the sections of a page; `titles` are those of labels."""
    headings = [title.astext() for title in doctree.findall(nodes.title) if isinstance(title.parent, nodes.section)]
    if not headings:
        return []
    metas = [meta for meta in doctree.findall(nodes.meta) if meta.get("name") in {"description", "keywords"}]
    described = " ".join(meta["content"] for meta in metas)
    found = []
    for node in doctree.findall(nodes.section):
        first = not found
        text = own_text(node, titles)
        section = Section(
            name, node[0].astext(), "" if first else node["ids"][0], excerpt=shorten(own_text(node, titles, plain=True))
        )
        section.words["page"] = terms(headings[0])
        section.words["heading"] = terms(section.title)
        section.words["description"] = terms(described) if first else []
        section.words["text"] = terms(text)
        found.append(section)
    return found


def shorten(text, length=170):
    """Return the beginning of `text`, to the end of a word."""
    return text if len(text) <= length else text[:length].rpartition(" ")[0] + " …"


def weigh(found):
    """Return {term: {index of a section: weight}} by BM25F."""
    sizes = {part: [len(section.words[part]) for section in found] for part in WEIGHTS}
    means = {part: max(sum(lengths) / max(sum(map(bool, lengths)), 1), 1) for part, lengths in sizes.items()}
    frequency = defaultdict(Counter)
    for index, section in enumerate(found):
        for part, weight in WEIGHTS.items():
            length = 1 - B + B * sizes[part][index] / means[part]
            for term in section.words[part]:
                frequency[term][index] += weight / length
    index = {}
    for term, where in frequency.items():
        rarity = math.log(1 + (len(found) - len(where) + 0.5) / (len(where) + 0.5))
        index[term] = {
            number: round(100 * rarity * count / (K1 + count) * (REFERENCE if base(found[number]) in LISTS else 1))
            for number, count in where.items()
        }
    return index


def base(section):
    """Return the name of a section's page without its folder."""
    return section.page.rpartition("/")[2]


def write_index(app, problem):
    """Write the index of all pages, as the script that the search page loads."""
    if problem or app.builder.format != "html" or app.builder.name == "epub":
        return
    documents = sorted(name for name in app.env.found_docs if "nosearch" not in app.env.metadata[name])
    titles = {label: title for label, (_, _, title) in app.env.domains["std"].labels.items()}
    found = [section for name in documents for section in sections(name, app.env.get_doctree(name), titles)]
    data = {
        "pages": {name: app.env.titles[name].astext() for name in documents if name in app.env.titles},
        "sections": [[section.page, section.anchor, section.title, section.excerpt] for section in found],
        # A list of numbers, section and weight in turn, is half as long as an object.
        "terms": {
            term: [part for pair in where.items() for part in pair] for term, where in sorted(weigh(found).items())
        },
        "same": SAME,
        "stopwords": sorted(STOPWORDS),
        "suffix": app.builder.link_suffix,
    }
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    (Path(app.outdir) / "_static" / INDEX).write_text(f"window.bnSearchIndex = {text};\n", encoding="utf-8")


def setup(app):
    """Connect to Sphinx; the page itself is the template search.html."""
    app.connect("build-finished", write_index)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
