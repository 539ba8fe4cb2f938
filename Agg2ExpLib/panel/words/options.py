"""The options of a method that have no control of their own in the panel, as the method declares them. No Qt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.methods import METHODS, Option


def options_of(method: str) -> tuple[Option, ...]:
    """Return the options that controls are made for; none of an unknown method.

    Examples
    --------
    >>> [one.name for one in options_of("smoothgrad")]
    ['sigma']
    """
    every = METHODS[method].options() if method in METHODS else ()
    return tuple(one for one in every if one.name not in bound_options(method))


def bound_options(method: str) -> set[str]:
    """Return the names of those options that a box of the panel stands for, whichever method is chosen: samples and seed."""
    every = METHODS[method].options() if method in METHODS else ()
    # A number of samples that the method chooses itself is no number of the box.
    return {one.name for one in every if one.name in ("samples", "seed") and one.default is not None}


def allowed(one: Option, value: Any) -> bool:
    """Whether an option takes a value, of a file for instance."""
    if one.kind is bool:
        return isinstance(value, bool)
    try:
        one.check(value, "")
    except InputError:
        return False
    return True


def given(options: Iterable[Option], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that an option takes and that are not its default.

    Examples
    --------
    >>> given(options_of("smoothgrad"), {"sigma": 0.2, "path": "uniform"}), given(options_of("smoothgrad"), {"sigma": 0.1})
    ({'sigma': 0.2}, {})
    """
    known = {one.name: one for one in options}
    return {
        name: value
        for name, value in values.items()
        if name in known and value != known[name].default and allowed(known[name], value)
    }
