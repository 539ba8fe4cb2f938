"""Formats of models: what a source that a user names can be, each one entry. No torch until a model is loaded.

A format is found by asking each whether it knows the source, this project's own first; other packages offer theirs by the
entry-point group ``agg2exp.models``. A new format is one file with a :class:`Format`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.models.interface import Model

GROUP = "agg2exp.models"
# Modules of this package that register formats. The last ones take any folder and any file, so that what is wrong with one
# is said in detail; formats of other packages are asked before them.
_OWN: tuple[str, ...] = ("nnunet", "totalsegmentator", "monai_bundle", "program", "onnx")
_LAST = ("folder", "checkpoint")


@dataclass(frozen=True)
class Format:
    """One kind of source.

    Attributes
    ----------
    id : str
        Short name; ``id:rest`` names a source of this format for certain.
    name : str
        For people.
    knows : callable
        source -> bool: whether the source is of this format, by a look at names and small files alone.
    load : callable
        (source, options) -> Model, on the CPU. ``options`` are what the user gave beside it, of
        :data:`Agg2ExpLib.models.loading.OPTIONS`; one that the format cannot honour is refused by name: :func:`refuse_options`.
    asks : tuple of str
        What a source of this kind never says itself; keys of :data:`Agg2ExpLib.models.programs.ASKED`.
    """

    id: str
    name: str
    knows: Callable[[str], bool]
    load: Callable[[str, Mapping[str, Any]], Model]
    asks: tuple[str, ...] = ()


_FORMATS: dict[str, Format] = {}


def refuse_options(options: Mapping[str, Any], source: str, names: tuple[str, ...]) -> None:
    """Refuse options that a format does not have.

    Raises
    ------
    InputError
        The first of them that is given.
    """
    given = [name for name in names if name in options]
    if given:
        raise InputError(f"{source}: a model of this kind has no {given[0]} to choose; leave --{given[0]} out")


def register(found: Format) -> Format:
    """Add a format; one of the same id is replaced."""
    _FORMATS[found.id] = found
    return found


def formats() -> dict[str, Format]:
    """Return all formats by id, in the order in which they are asked.

    Raises
    ------
    InputError
        Another package offers something that is no format, named.
    """
    for name in (*_OWN, *_LAST):
        import_module(f"Agg2ExpLib.models.formats.{name}")
    found = {key: one for key, one in _FORMATS.items() if key not in _LAST}
    for entry in entry_points(group=GROUP):
        if entry.name in _FORMATS:
            continue
        try:
            offered = entry.load()
        except Exception as error:  # whatever another package does on import, it is named
            raise InputError(
                f"the model format {entry.name!r} of another package ({entry.value}) cannot be loaded: {error}; "
                "update or remove that package"
            ) from error
        if not isinstance(offered, Format):
            raise InputError(
                f"the entry point {entry.value} offers no Agg2Exp model format; update or remove that package"
            )
        found[offered.id] = offered
    return {**found, **{key: _FORMATS[key] for key in _LAST}}


def format_of(source: str) -> tuple[Format, str] | None:
    """Return the format that knows a source, and the source without the format's prefix; ``None`` when none does."""
    known = formats()
    prefix, colon, rest = source.partition(":")
    if colon and prefix in known and len(prefix) > 1:
        return known[prefix], rest
    return next(((one, source) for one in known.values() if one.knows(source)), None)
