"""The errors that a person is meant to read: one sentence with the file, the cause and the next step."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class Agg2ExpError(Exception):
    """Anything that Agg2Exp itself reports; its text is one clear sentence."""


class InputError(Agg2ExpError, ValueError):
    """A file, an option or a value given by the user cannot be used (exit code 2 on the command line)."""


class OutputError(Agg2ExpError, OSError):
    """A result cannot be written (exit code 2 on the command line)."""


class Cancelled(Agg2ExpError):
    """The user stopped the work; nothing that looks complete was left behind (exit code 130)."""


def nearest_names(name: str, known: Iterable[str], count: int = 3) -> str:
    """Return "did you mean a, b?" for an unknown name, or the first known names when none is near.

    Examples
    --------
    >>> nearest_names("hart", ["heart", "trachea"])
    'did you mean heart?'
    """
    known = list(known)
    near = difflib.get_close_matches(name.lower().replace(" ", "_"), known, n=count, cutoff=0.6)
    if near:
        return f"did you mean {', '.join(near)}?"
    shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
    return f"known names: {shown}"
