"""Two repairs on the way from docstrings to the API page.

The fields of a NamedTuple come with a text of Python's own, "Alias for field number 0", though the class's docstring
has explained them. And an attribute line for several names, "gamma, beta : ndarray", would be read as the name beta of
type gamma: only without the space do the names stay together.
"""

import re

SEVERAL_NAMES = re.compile(r"^(\s*)(\w+(?:, \w+)+)( : .*)$")


def skip_field_aliases(app, what, name, member, skip, options):
    """Leave out what has no docstring of ours."""
    return True if (getattr(member, "__doc__", None) or "").startswith("Alias for field number") else None


def keep_names_together(app, what, name, member, options, lines):
    """Write "gamma,beta : ndarray" for napoleon, which runs later."""
    lines[:] = [SEVERAL_NAMES.sub(lambda m: m[1] + m[2].replace(", ", ",") + m[3], line) for line in lines]


def setup(app):
    """Connect to autodoc, before napoleon."""
    app.connect("autodoc-skip-member", skip_field_aliases)
    app.connect("autodoc-process-docstring", keep_names_together, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
