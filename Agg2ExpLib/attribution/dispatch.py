"""One call for every method: the entry of the table of methods says which file computes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

import torch

from Agg2ExpLib.attribution import METHODS, default_samples
from Agg2ExpLib.attribution.gradients import Attribution
from Agg2ExpLib.attribution.objective import Objective
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.segmentation import Network
from Agg2ExpLib.windows import Windows

_COMMON = ("batch_size", "device", "precision", "names", "progress", "passes")
#: Options that only some methods know. What is in no list belongs to the gradients.
_OWN = {
    "kernelshap": (
        "supervoxels",
        "samples",
        "seed",
        "estimator",
        "scope",
        "ridge",
        "value",
        "truth",
        "prediction",
        "n_classes",
        "voxel_ml",
        "checkpoint",
    ),
    "occlusion": ("supervoxels", "checkpoint"),
    "gradcam": ("layer",),
}
_NOT_OF_GRADIENTS = set().union(*_OWN.values()) - {"samples", "seed"}


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
        As :func:`Agg2ExpLib.attribution.gradients.attribute`.
    method : str
        A key of :data:`Agg2ExpLib.attribution.METHODS`.
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
    module = METHODS[method].module
    if module == "gradients":
        taken = {"method": method, **{k: v for k, v in options.items() if k not in _NOT_OF_GRADIENTS}}
    else:
        known = (*_COMMON, *_OWN[module])
        taken = {key: value for key, value in options.items() if key in known}
        if taken.get("samples", 0) is None:
            taken["samples"] = default_samples(method, kind)
    function = import_module(f"Agg2ExpLib.attribution.{module}").attribute
    found: Iterator[Attribution] = function(network, x, windows, objectives, **taken)
    return found
