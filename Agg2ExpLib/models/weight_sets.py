"""Which weights of a checkpoint are meant: wrappings, prefixes before a network's names, averages beside the trained ones.

Training programs wrap a network's weights in many ways: ``{"state_dict": ...}``, ``module.`` or ``_model.`` before every
name, a moving average beside them. What a file holds is listed and looked through for the network's own names.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from Agg2ExpLib.errors import InputError

if TYPE_CHECKING:
    import torch

    Tensors = dict[str, torch.Tensor]

_MAX_DEPTH = 4
_MAX_SETS = 64
_MAX_LOOKED = 10_000
_SHOWN = 3
_SHOWN_SETS = 8
# Numbers of the training, which are no weights of a network: whole names, for an "optimal_model" is one.
_NO_WEIGHTS = re.compile(
    r"((lr|grad|amp|loss)_?)?(optim|optimi[sz]er|sched|scheduler|scaler|loss)(s|es)?(_?(states?|dict))*"
    r"|hyper_?parameters|hparams|callbacks",
    re.IGNORECASE,
)
# What a dictionary of torch's optimizers is told by, whatever its name.
_OF_AN_OPTIMIZER = "param_groups"
_MARKS = "._/:-"
_AVERAGED = ("ema", "averag", "swa", "teacher")


@dataclass(frozen=True, eq=False)
class Weights:
    """The weights that were chosen.

    Attributes
    ----------
    name : str
        How the set is called: its key in the file and the prefix of its tensors; ``"weights"`` when it has neither.
    tensors : dict
        Under the network's own names.
    notes : tuple of str
        Which of several sets was taken; tensors that belong to no network.
    """

    name: str
    tensors: Tensors
    notes: tuple[str, ...] = ()


def sets_of(content: Any) -> dict[str, Tensors]:
    """Return every group of named tensors in a checkpoint, by its key (keys within keys joined by a dot).

    Examples
    --------
    >>> import torch
    >>> list(sets_of({"model": {"a": torch.ones(1)}, "ema": {"a": torch.ones(1)}, "optimizer": {"a": torch.ones(1)}}))
    ['model', 'ema']
    """
    import torch

    found: dict[str, Tensors] = {}
    for path, mapping in _mappings(content, ()):
        tensors = {str(key): value for key, value in mapping.items() if isinstance(value, torch.Tensor)}
        if tensors and len(found) < _MAX_SETS:
            found[".".join(path)] = tensors
    return found


def _mappings(content: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Mapping[Any, Any]]]:
    if not isinstance(content, Mapping) or len(path) > _MAX_DEPTH or _OF_AN_OPTIMIZER in content:
        return
    yield path, content
    for key, value in content.items():
        if isinstance(value, Mapping) and not _NO_WEIGHTS.fullmatch(str(key)):
            yield from _mappings(value, (*path, str(key)))


def found_instead(content: Any) -> str:
    """Return what a file without any set of named tensors holds, for a message.

    Examples
    --------
    >>> import torch
    >>> found_instead({"ema": {"shadow_params": [torch.ones(1), torch.ones(1)]}})
    "it holds 'ema.shadow_params' (list with 2 tensors)"
    """
    import torch

    parts: list[str] = []
    pending: deque[tuple[tuple[str, ...], Any]] = deque(
        [((), content)] if isinstance(content, (Mapping, list, tuple)) else []
    )
    for _ in range(_MAX_LOOKED):
        if not pending:
            break
        path, value = pending.popleft()
        items = list(value.items()) if isinstance(value, Mapping) else list(enumerate(value))
        count = sum(isinstance(item, torch.Tensor) for _, item in items)
        if count:
            kind = type(value).__name__ if isinstance(value, (list, tuple)) else "mapping"
            tensors = "1 tensor" if count == 1 else f"{count} tensors"
            parts.append(f"{'.'.join(path)!r} ({kind} with {tensors})" if path else f"a {kind} with {tensors}")
        pending += [((*path, str(key)), item) for key, item in items if isinstance(item, (Mapping, list, tuple))]
    if parts:
        more = f" and {len(parts) - _SHOWN_SETS} more" if len(parts) > _SHOWN_SETS else ""
        return f"it holds {', '.join(parts[:_SHOWN_SETS])}{more}"
    if isinstance(content, torch.Tensor):
        return "it holds one tensor without a name"
    keys = [repr(str(key)) for key in content] if isinstance(content, Mapping) else []
    return f"it holds no tensor, only {_some(keys)}" if keys else "it holds no tensor"


def choose(
    sets: Mapping[str, Tensors],
    names: Sequence[str],
    source: str | Path,
    *,
    wanted: str | None = None,
    preferred: str | None = None,
) -> Weights:
    """Return the weights of a network.

    Parameters
    ----------
    sets : mapping
        As of :func:`sets_of`.
    names : sequence of str
        Names of the network's tensors; all, or some that it has for certain.
    source : path
        Named in errors.
    wanted : str, optional
        Name of the set that the user chose.
    preferred : str, optional
        Key of the set that the model's own files name.

    Raises
    ------
    InputError
        No set is called ``wanted``.
    """
    candidates = _candidates(sets, names)
    if not candidates:
        if wanted is not None:
            raise InputError(
                f"{source}: holds no weights of this network that could be called {wanted!r}: {listed(sets)}"
            )
        key = max(sets, key=lambda one: len(sets[one]))
        return Weights(key or "weights", dict(sets[key]))
    chosen = _wanted(candidates, wanted, source) if wanted is not None else _first(candidates, preferred)
    notes = []
    others = [name for name in candidates if name != chosen]
    if others:
        notes.append(
            f"weights: {chosen!r} was taken; the file also holds {', '.join(map(repr, others))} (choose with --weights)"
        )
    key, prefix = candidates[chosen]
    kept = {name[len(prefix) :]: value for name, value in sets[key].items() if name.startswith(prefix)}
    if not prefix:
        # Other complete sets beside it are no tensors of this network.
        beside = [other for place, other in candidates.values() if place == key and other]
        kept = {name: value for name, value in kept.items() if not name.startswith(tuple(beside))} if beside else kept
    else:
        complete = [other for place, other in candidates.values() if place == key]
        rest = [name for name in sets[key] if not name.startswith(tuple(complete))]
        if rest:
            notes.append(f"weights: {_some(rest)} in the file {'is' if len(rest) == 1 else 'are'} not of the network")
    return Weights(chosen, kept, tuple(notes))


def identity(sha256: str, wanted: str | None, weights: Weights) -> str:
    """Return a model's identity: that of the file, unless a set in it was chosen."""
    return sha256 if wanted is None else hashlib.sha256(f"{sha256} {weights.name}".encode()).hexdigest()


def loaded_with(wanted: str | None) -> dict[str, Any]:
    """Return what a card says beside it, so that the same set is loaded again."""
    return {} if wanted is None else {"options": {"weights": wanted}}


def listed(sets: Mapping[str, Tensors]) -> str:
    """Return what a file holds, for a message."""
    parts = [
        f"{key!r} with {len(tensors)} tensors ({_some(list(tensors))})"
        if key
        else f"{len(tensors)} tensors ({_some(list(tensors))})"
        for key, tensors in list(sets.items())[:_SHOWN_SETS]
    ]
    more = f", and {len(sets) - _SHOWN_SETS} more" if len(sets) > _SHOWN_SETS else ""
    return f"the file holds {', '.join(parts)}{more}"


def _candidates(sets: Mapping[str, Tensors], names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return name -> (key of the set, prefix) of each place where most of the network's names are found."""
    scored: dict[tuple[str, str], int] = {}
    # Prefixes that end in another mark than a dot: only where all of the network's names follow, and no dotted one fits.
    marked: dict[tuple[str, str], int] = {}
    probes = sorted({names[0], names[len(names) // 2], names[-1]})
    for key, tensors in sets.items():
        for prefix in {name[: -len(probe)] for name in tensors for probe in probes if name.endswith(probe)}:
            if not prefix or prefix[-1] in _MARKS:
                score = sum(prefix + name in tensors for name in names)
                if not prefix or prefix.endswith("."):
                    scored[key, prefix] = score
                elif score == len(names):
                    marked[key, prefix] = score
    if max(scored.values(), default=0) < len(names) and marked:
        scored = marked
    best = max(scored.values(), default=0)
    # In the order of the file, so that what the training program wrote first comes first.
    places = sorted(
        (place for place, score in scored.items() if score == best), key=lambda one: list(sets).index(one[0])
    )
    return {_called(key, prefix): (key, prefix) for key, prefix in places}


def _called(key: str, prefix: str) -> str:
    return ".".join(part for part in (key, prefix.rstrip(_MARKS)) if part) or "weights"


def _wanted(candidates: Mapping[str, tuple[str, str]], wanted: str, source: str | Path) -> str:
    lower = wanted.lower()
    found = [
        name
        for name, (key, prefix) in candidates.items()
        if lower in (name.lower(), key.lower(), prefix.lower(), prefix.lower().rstrip(_MARKS))
    ] or [name for name in candidates if f".{lower}." in f".{name.lower()}."]
    if len(found) == 1:
        return found[0]
    raise InputError(
        f"{source}: {'several sets are' if found else 'no set of weights is'} called {wanted!r}; there "
        f"{'is' if len(candidates) == 1 else 'are'} {', '.join(map(repr, candidates))}"
    )


def _first(candidates: Mapping[str, tuple[str, str]], preferred: str | None) -> str:
    """The trained weights before their averages; what the model's own files name before all."""
    if preferred is not None:
        named = [name for name, (key, _) in candidates.items() if key == preferred]
        if named:
            return named[0]
    plain = [name for name in candidates if not any(word in name.lower() for word in _AVERAGED)]
    return next(iter(plain or candidates))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
