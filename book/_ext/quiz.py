"""The directive `quiz`: a question, its answers, and an explanation of each of them.

    :::{quiz}
    The first paragraph asks. It may hold formulas, code and references, as all that follows may.

    - [ ] A wrong answer

      Why it isn't quite right. As many paragraphs as it takes.

    - [x] The right answer

      Why it is right.
    :::

Where several answers are right, `:several:` says so. Numbers, letters, "Right." and "Not quite." are not written: they
are put here. An answer becomes a <details> that opens to its explanation, so a quiz can be read without scripts and in
every other format; `_static/quiz.js` makes a form of it.
"""

import hashlib
import re
from dataclasses import dataclass, field
from string import ascii_uppercase
from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

ANSWER = re.compile(r"- \[(.?)\] *(.*)")
INDENT = "  "  # of what belongs to an answer


class QuizQuestion(nodes.Element):
    """A question with all that belongs to it: <div>."""


class QuizAsks(nodes.TextElement):
    """The sentence that asks: <p>."""


class QuizAnswer(nodes.Element):
    """An answer with its explanation: <details>."""


class QuizChoice(nodes.TextElement):
    """The answer itself: <summary>."""


class QuizWhy(nodes.Element):
    """The explanation of an answer: <div>."""


@dataclass
class Answer:
    """An answer as written: its first line in the directive, its mark, and its lines without their indentation."""

    start: int
    mark: str
    lines: list[str] = field(default_factory=list)

    @property
    def right(self):
        return self.mark == "x"

    @property
    def choice(self):
        """The lines of the first paragraph."""
        return self.lines[: self.lines.index("")] if "" in self.lines else self.lines

    @property
    def why(self):
        """The lines after the first paragraph."""
        return self.lines[len(self.choice) :]


def split(lines):
    """Return the lines before the first answer, the answers, and the numbers of lines that belong to neither."""
    asks, answers, strays = [], [], []
    for number, line in enumerate(lines):
        if match := ANSWER.fullmatch(line):
            answers.append(Answer(number, match[1].lower(), [match[2]]))
        elif not answers:
            asks.append(line)
        elif not line.strip() or line.startswith(INDENT):
            answers[-1].lines.append(line.removeprefix(INDENT).rstrip())
        else:
            if "" in answers[-1].lines:  # else it goes on with the answer's first paragraph, as anywhere in Markdown
                strays.append(number)
            answers[-1].lines.append(line)
    return asks, answers, strays


def mistakes(asks, answers, strays, several):
    """Yield (line of the content, what is wrong and what to do); the line is None for the question as a whole."""
    if not "".join(asks).strip():
        yield None, "a quiz has no question: its first paragraph asks, the answers follow"
    if len(answers) < 2:
        yield None, f"a quiz has {len(answers)} answer(s): write two or more, as '- [ ] wrong' and '- [x] right'"
    if len(answers) > len(ascii_uppercase):
        yield None, f"a quiz has {len(answers)} answers: there are {len(ascii_uppercase)} letters for them"
    right = [answer for answer in answers if answer.right]
    if answers and not right:
        yield None, "a quiz has no right answer: mark it as '- [x]'"
    for answer in right[1:] if not several else ():
        yield answer.start, "a quiz has a second right answer: write ':several:' at its top, or '- [ ]' here"
    for answer in answers:
        if answer.mark not in {"x", " "}:
            yield answer.start, f"an answer of a quiz is marked '[{answer.mark}]': right is '[x]', wrong is '[ ]'"
        if not "".join(answer.choice).strip():
            yield answer.start, "an answer of a quiz is empty: write it behind its mark"
        elif not "".join(answer.why).strip():
            yield (
                answer.start,
                f"an answer of a quiz has no explanation: after {answer.choice[0]!r} leave a blank line, then say why, "
                "indented by two spaces",
            )
    for number in strays:
        yield number, "this line belongs to no answer of the quiz: indent it by two spaces"


class Quiz(SphinxDirective):
    """One question; its docstring is the module's."""

    has_content = True
    option_spec: ClassVar = {"several": directives.flag}

    def run(self):
        lines = [line.rstrip() for line in self.content]
        asks, answers, strays = split(lines)
        several = "several" in self.options
        found = list(mistakes(asks, answers, strays, several))
        for number, what in found:
            line = self.lineno if number is None else self.lineno + self.content_offset + number + 1
            logging.getLogger(__name__).error(what, location=(self.env.docname, line))
        if found:
            return []

        number = self.env.new_serialno("quiz") + 1
        text = "\n".join(lines)
        question = QuizQuestion(
            ids=[f"question-{number}"],
            # An answer that a browser keeps belongs to this text; after a change it is forgotten.
            data={"question": hashlib.sha256(text.encode()).hexdigest()[:8]},
        )
        if several:
            question["data"]["several"] = ""
        self.set_source_info(question)
        first, *body = self.parse(asks, 0)
        question += QuizAsks("", "", label(f"{number}."), *first.children)
        if several:
            question += nodes.paragraph("", "Choose all that apply.")
        question += body
        question += [self.answer(*item) for item in zip(ascii_uppercase, answers, strict=False)]
        return [question]

    def answer(self, letter, answer):
        """Return the node of `answer`."""
        choice = self.parse(answer.choice, answer.start)
        why = self.parse(answer.why, answer.start + len(answer.choice))
        word = ("Right.", "bn-quiz-right") if answer.right else ("Not quite.", "bn-quiz-wrong")
        verdict = nodes.strong("", word[0], classes=[word[1]])
        if isinstance(why[0], nodes.paragraph):
            why[0].insert(0, [verdict, nodes.Text(" ")])
        else:
            why.insert(0, nodes.paragraph("", "", verdict))
        node = QuizAnswer(data={"right": ""} if answer.right else {})
        node += QuizChoice("", "", label(f"{letter}."), *(child for block in choice for child in block.children))
        node += QuizWhy("", *why)
        return node

    def parse(self, lines, number):
        """Return the nodes of `lines`, the first of which is line `number` of the directive."""
        parent = nodes.Element()
        self.state.nested_parse(StringList(lines, self.get_source_info()[0]), self.content_offset + number, parent)
        return parent.children


def label(text):
    """Return the number of a question or the letter of an answer, and a space."""
    return nodes.inline("", text + " ", classes=["bn-quiz-label"])


def html(tag, css):
    """Return the two functions that write a node as HTML."""

    def visit(self, node):
        data = {f"data-{name}": value for name, value in node.get("data", {}).items()}
        self.body.append(self.starttag(node, tag, "", CLASS=css, **data))

    def depart(self, node):
        self.body.append(f"</{tag}>\n")

    return visit, depart


# In the other formats an answer is a paragraph, and its explanation follows it.
PASS = (lambda self, node: None, lambda self, node: None)
PARAGRAPH = (lambda self, node: self.visit_paragraph(node), lambda self, node: self.depart_paragraph(node))
TAGS = {
    QuizQuestion: ("div", "bn-quiz", PASS),
    QuizAsks: ("p", "bn-quiz-asks", PARAGRAPH),
    QuizAnswer: ("details", "bn-quiz-answer", PASS),
    QuizChoice: ("summary", "bn-quiz-choice", PARAGRAPH),
    QuizWhy: ("div", "bn-quiz-why", PASS),
}


def add_scripts(app, pagename, templatename, context, doctree):
    """Send the scripts to pages with a quiz only."""
    if doctree and next(doctree.findall(QuizQuestion), None):
        app.add_css_file("quiz.css")
        app.add_js_file("kept.js", loading_method="defer", priority=600)
        app.add_js_file("quiz.js", loading_method="defer", priority=700)


def setup(app):
    """Connect to Sphinx."""
    app.add_directive("quiz", Quiz)
    for node, (tag, css, others) in TAGS.items():
        app.add_node(node, html=html(tag, css), latex=others, text=others)
    app.connect("html-page-context", add_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
