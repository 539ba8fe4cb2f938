"""The aggregated function F_c(x) = A_v(M_c[v] f_c(x)[v]) (equation 2), as fixed weights: F_c(x) = sum_v a_c[v] f_c(x)[v].

M_c, and the probabilities of the weighted mean, are taken once from the clean input and stay fixed while x varies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from Agg2ExpLib.case import REDUCTIONS
from Agg2ExpLib.case.segmentation import Segmentation
from Agg2ExpLib.case.stitched import StitchedNetwork
from Agg2ExpLib.case.windows import Slices, Windows
from Agg2ExpLib.errors import InputError


@dataclass(frozen=True)
class Objective:
    """F_c of one class.

    Attributes
    ----------
    class_index, channel : int
        c, and its channel of the network.
    box : tuple of slice
        Bounding box of M_c in the volume.
    weight : ndarray of bool or float64, the box's shape
        a_c; 0 outside M_c.
    windows : tuple of int
        Windows that hold a voxel of M_c: the only ones whose gradient is not zero.
    value : float
        F_c at the clean input.
    voxels : int
        Size of M_c; 0 when the class is absent.
    """

    class_index: int
    channel: int
    box: Slices
    weight: np.ndarray
    windows: tuple[int, ...]
    value: float
    voxels: int


def objectives(
    segmentation: Segmentation, windows: Windows, classes: Sequence[int], reduction: str = "sum"
) -> list[Objective]:
    """Return F_c for each class; an absent class has no voxels and no windows.

    Raises
    ------
    InputError
        An unknown reduction.
    """
    if reduction not in REDUCTIONS:
        raise InputError(f"unknown reduction {reduction!r}: use {', '.join(REDUCTIONS)}")
    return [_objective(segmentation, windows, index, reduction) for index in classes]


def _objective(segmentation: Segmentation, windows: Windows, index: int, reduction: str) -> Objective:
    mask, channel = segmentation.mask(index), segmentation.channel(index)
    voxels = int(mask.sum())
    if not voxels:
        empty = slice(0, 0)
        return Objective(index, channel, (empty, empty, empty), np.zeros((0, 0, 0)), (), float("nan"), 0)
    box = bounding_box(mask)
    # Of a sum the mask itself: an eighth of the memory, which a hundred classes need.
    weight = mask[box].copy()
    if reduction == "mean":
        weight = weight / voxels
    elif reduction == "probability":
        weight = weight * segmentation.probability(index, box).astype(np.float64)
        weight /= weight.sum()
    value = float((weight * segmentation.logit(index, box)).sum(dtype=np.float64))
    return Objective(index, channel, box, weight, tuple(windows.touching(mask)), value, voxels)


def bounding_box(mask: np.ndarray) -> Slices:
    """Return the smallest box that holds every true voxel of a mask that has some."""
    parts = []
    for axis in range(3):
        line = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        parts.append(slice(int(line[0]), int(line[-1]) + 1))
    return parts[0], parts[1], parts[2]


def output_share(
    stitched: StitchedNetwork, objective: Objective, part: tuple[slice, ...] = (slice(None),) * 3
) -> torch.Tensor:
    """Return ``a_c / total_weight`` within (a part of) the class's box, on the device: what windows and samples have in common."""
    windows = stitched.windows
    first = [b.start + p for b, p in zip(objective.box, windows.pad_before, strict=True)]
    i, j, k = (slice(f, f + n) for f, n in zip(first, objective.weight.shape, strict=True))
    found = torch.from_numpy(objective.weight[part]) / windows.total_weight[i, j, k][part]
    return found.to(stitched.weight)


def output_gradient(
    stitched: StitchedNetwork, objective: Objective, index: int, share: torch.Tensor | None = None
) -> torch.Tensor:
    """Return ``a_c * weight_w / total_weight`` within a window: where its vector-Jacobian product starts.

    Many windows share the first factor: :func:`output_share`.
    """
    windows, weight = stitched.windows, stitched.weight
    out = torch.zeros(windows.window, dtype=weight.dtype, device=weight.device)
    volume, window = windows.inside(index)
    common = [slice(max(v.start, b.start), min(v.stop, b.stop)) for v, b in zip(volume, objective.box, strict=True)]
    if any(part.start >= part.stop for part in common):
        return out
    here = tuple(
        slice(c.start - v.start + w.start, c.stop - v.start + w.start)
        for c, v, w in zip(common, volume, window, strict=True)
    )
    of_box = tuple(slice(c.start - b.start, c.stop - b.start) for c, b in zip(common, objective.box, strict=True))
    out[here] = (output_share(stitched, objective, of_box) if share is None else share[of_box]) * weight[here]
    return out
