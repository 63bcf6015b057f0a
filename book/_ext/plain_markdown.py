"""The text of a chapter as Jupyter's Markdown, which knows neither roles nor directives.

What the site computes (glued numbers, the numbers of figures and equations, names of authors, titles of chapters) is
written out. Boxes become quotations, cells to try become code. The quiz, which Markdown can't fold, and figures that
move stay on the site.
"""

import re
from ast import literal_eval

from myst_nb.ext.glue.crossref import read_glue_cache

ROLE = re.compile(r"\{(term|ref|doc|numref|eq|cite:t|cite:p|cite|kbd|glue:text|download)\}`([^`]+)`")
TITLED = re.compile(r"(.+?)\s*<(.+)>", re.DOTALL)
LABEL = re.compile(r"^\([\w-]+\)=\n", re.MULTILINE)
DIRECTIVE = re.compile(
    r"^(?P<fence>`{3,}|:{3,})\{(?P<name>[\w-]+)\} *(?P<title>.*)\n"
    r"(?P<options>(?::[\w-]+:.*\n)*)"
    r"(?P<body>(?:.*\n)*?)(?P=fence) *$",
    re.MULTILINE,
)


class PlainMarkdown:
    """Rewrites the cells of one page; `app` must have read all pages, `site` is where links begin, or ""."""

    def __init__(self, app, page, site):
        self.env = app.env
        self.page = page
        self.site = site
        self.target_uri = app.builder.get_target_uri
        self.glued = read_glue_cache(str(app.env.mystnb_config.output_folder), page)

    def rewrite(self, text):
        """Return a Markdown cell without roles and directives."""
        text = LABEL.sub("", text)
        text = DIRECTIVE.sub(self.directive, text + "\n")
        return ROLE.sub(self.role, text).strip()

    def directive(self, match):
        """Return what stands for a directive."""
        name, title, body = match["name"], match["title"].strip(), self.rewrite(match["body"])
        if name == "math":
            label = re.search(r":label: *(\S+)", match["options"])
            tag = f" \\tag{{{self.equation(label[1])}}}" if label else ""
            return f"$$\n{match['body'].strip()}{tag}\n$$"
        if name == "quiz":
            return "*A question with answers to choose from: it is on the course's site.*"
        if name == "try-it":
            return f"**{title}**\n\n```python\n{match['body'].strip()}\n```"
        if name == "explorable":
            return f"*A figure that moves is here on the course's site.* {body}"
        if name in {"admonition", "tip", "warning", "note", "dropdown"}:
            box = f"**{title or name.capitalize()}**\n\n{body}"
            return "\n".join(f"> {line}".rstrip() for line in box.splitlines())
        return f"**{title}**\n\n{body}" if title else body

    def role(self, match):
        """Return what stands for a role."""
        name, text = match[1], match[2]
        titled = TITLED.fullmatch(text)
        title, target = titled.groups() if titled else (None, text)
        if name == "glue:text":
            return self.glue(text)
        if name == "eq":
            return f"({self.equation(target)})"
        if name == "numref":
            return self.figure(target)
        if name.startswith("cite"):
            cited = "; ".join(self.citation(key.strip(), in_text=name == "cite:t") for key in text.split(","))
            return cited if name == "cite:t" else f"({cited})"
        if name == "ref":
            return self.link(title, target)
        return title or target

    def glue(self, text):
        """Return a number that a cell has computed, formatted as the text asks."""
        key, _, form = text.partition(":")
        plain = self.glued[key]["data"]["text/plain"]
        try:
            value = literal_eval(plain)
        except (SyntaxError, ValueError):
            value = plain
        return format(value, form)

    def equation(self, label):
        """Return the number of an equation."""
        page, number = self.env.get_domain("math").equations[label]
        numbers = self.env.toc_fignumbers.get(page, {}).get("displaymath", {}).get(f"equation-{label}")
        return ".".join(map(str, numbers)) if numbers else number

    def figure(self, label):
        """Return a figure's name and number."""
        page, anchor = self.env.get_domain("std").anonlabels[label]
        numbers = self.env.toc_fignumbers.get(page, {}).get("figure", {}).get(anchor)
        return f"Fig. {'.'.join(map(str, numbers))}" if numbers else "the figure"

    def citation(self, key, in_text):
        """Return authors and year of a source."""
        entry = self.env.get_domain("cite").bibdata.data.entries[key]
        people = [" ".join(person.last_names) for person in entry.persons["author"]]
        names = people[0] + (f" and {people[1]}" if len(people) == 2 else " et al." if len(people) > 2 else "")
        year = entry.fields["year"]
        return f"{names} ({year})" if in_text else f"{names}, {year}"

    def link(self, title, label):
        """Return the title of a part of the course, linked to it where the site's address is known."""
        page, anchor, found = self.env.get_domain("std").labels[label.lower()]
        title = title or found
        return f"[{title}]({self.site}{self.target_uri(page)}#{anchor})" if self.site else f"*{title}*"
