"""Numbers of a figure that take longer than a build should: measured once, and kept beside the results of experiments.

What isn't here: experiments. Those are in `bnlab.experiments`, and `recall` remembers them.
"""

import hashlib
import json
from os import replace
from pathlib import Path

from bnlab.experiments.conduct import cached


def remembered(source, experiment, measure):
    """Return what `measure()` returns, from the cache where nothing it depends on has changed.

    Parameters
    ----------
    source : str
        The file whose code measures: ``__file__``.
    experiment : str
        The experiment whose code it uses; the cache follows that code and the versions of what it uses.
    measure : callable
        Returns what JSON can hold.
    """
    path = cached(experiment, "small")
    own = hashlib.sha256(Path(source).read_bytes()).hexdigest()[:12]
    path = path.with_name(f"{path.stem}-{Path(source).stem}-{own}.json")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(measure(), allow_nan=False), encoding="utf-8")
        replace(part, path)
    return json.loads(path.read_text(encoding="utf-8"))
