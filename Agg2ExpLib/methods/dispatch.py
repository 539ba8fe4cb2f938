"""One call for every method: the entry of the table of methods says which file computes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from inspect import signature
from typing import Any

import torch

from Agg2ExpLib.case.objective import Objective
from Agg2ExpLib.case.segmentation import Network
from Agg2ExpLib.case.windows import Windows
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.methods import METHODS, default_samples
from Agg2ExpLib.methods.gradients import Attribution


def attribute(
    network: Network,
    x: torch.Tensor,
    windows: Windows,
    objectives: Sequence[Objective],
    *,
    method: str,
    kind: str = "semantic",
    **options: Any,
) -> Iterator[Attribution]:
    """Yield the attribution of each class that is present, by any method.

    Parameters
    ----------
    network, x, windows, objectives
        As :func:`Agg2ExpLib.methods.gradients.attribute`.
    method : str
        A key of :data:`Agg2ExpLib.methods.METHODS`.
    kind : str
        Kind of the supervoxels, which the default number of samples depends on.
    **options
        Settings of all methods; each takes those that it knows. ``samples=None`` is the default.

    Raises
    ------
    InputError
        An unknown method, or settings that it refuses.
    """
    if method not in METHODS:
        raise InputError(f"unknown method {method!r}: use {', '.join(METHODS)}")
    function = import_module(f"Agg2ExpLib.methods.{METHODS[method].module}").attribute
    # A method's own signature says what it knows; there is no second list of it.
    known = signature(function).parameters
    taken = {key: value for key, value in options.items() if key in known}
    if "method" in known:
        taken["method"] = method
    elif "samples" in known and taken.get("samples") is None:
        taken["samples"] = default_samples(method, kind)
    found: Iterator[Attribution] = function(network, x, windows, objectives, **taken)
    return found
