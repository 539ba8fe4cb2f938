"""Stitched prediction: logits of overlapping windows blended, then the winning class at each voxel (equation 1).

Logits of all classes are never held for the whole volume: windows go along the longest axis, and a buffer of one
window's length moves with them; what no later window reaches is settled and dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from Agg2ExpLib.case.windows import Windows
from Agg2ExpLib.device import autocast, dtype_of
from Agg2ExpLib.errors import Agg2ExpError
from Agg2ExpLib.progress import Progress

Network = Callable[[torch.Tensor], torch.Tensor]

#: Bytes that the moving buffer of logits may take before classes are split into groups.
BUFFER_BYTES = 4 * 1024**3
# Bytes of settled logits handed on at one time: what is computed from them takes as much again.
_SLAB_BYTES = 256 * 1024**2


@dataclass(frozen=True)
class Segmentation:
    """A stitched prediction on the model's grid; arrays have the volume's shape (i, j, k).

    Attributes
    ----------
    labels : ndarray of uint8 or uint16
        Winning class at each voxel.
    winning_logit : ndarray of float32, or float64 when computed so
        Its stitched logit: f_c(x)[v] where M_c[v] = 1.
    confidence : ndarray of the same type
        Its softmax probability.
    forward_passes : int
        Windows run.
    """

    labels: np.ndarray
    winning_logit: np.ndarray
    confidence: np.ndarray
    forward_passes: int


def segment(
    network: Network,
    x: torch.Tensor,
    windows: Windows,
    n_classes: int,
    *,
    batch_size: int = 1,
    device: torch.device | str = "cpu",
    precision: str = "float32",
    buffer_bytes: int = BUFFER_BYTES,
    progress: Progress | None = None,
) -> Segmentation:
    """Predict a volume.

    Parameters
    ----------
    network : callable
        Logits [B, K, ...] of windows [B, 1, ...]; on ``device`` and of the precision's type already.
    x : Tensor, shape (i, j, k)
        Preprocessed volume.
    windows : Windows
        Over that volume.
    n_classes : int
        K.
    batch_size : int
        Windows per pass.
    device, precision
        Where and how exactly; see :mod:`Agg2ExpLib.device`.
    buffer_bytes : int
        When the moving buffer would be larger, classes are processed in groups and the network runs once per group.
    progress : Progress
        One unit a window.

    Returns
    -------
    Segmentation
        Labels, winning logits and their probabilities.

    Raises
    ------
    Agg2ExpError
        The network answers another number of classes, or logits that are not numbers.
    """
    device, progress = torch.device(device), progress or Progress()
    dtype = dtype_of(precision, device)
    axis = windows.rolling_axis
    cross = np.prod(windows.padded_shape) // windows.padded_shape[axis] * windows.window[axis]
    size = max(1, min(n_classes, int(buffer_bytes // (int(cross) * dtype.itemsize))))
    groups = [range(first, min(first + size, n_classes)) for first in range(0, n_classes, size)]
    padded = windows.pad(x.to(device=device, dtype=dtype))
    best = torch.full(windows.padded_shape, -torch.inf, dtype=dtype)
    label = torch.zeros(windows.padded_shape, dtype=torch.int32)
    total = torch.full(windows.padded_shape, -torch.inf, dtype=dtype)
    progress.stage("segmentation", len(windows) * len(groups))
    for group in groups:
        runs = _logits(network, padded, windows, n_classes, group, batch_size, precision, progress)
        for where, logits in settled(runs, windows, len(group), dtype, device):
            value, index = (tensor.cpu() for tensor in logits.max(dim=0))
            if not torch.isfinite(value).all():
                raise Agg2ExpError("the network answered logits that are not finite numbers; try --precision float32")
            higher = value > best[where]
            label[where] = torch.where(higher, index.to(torch.int32) + group.start, label[where])
            best[where] = torch.maximum(value, best[where])
            total[where] = torch.logaddexp(total[where], logits.logsumexp(dim=0).cpu())
    kind = np.uint8 if n_classes <= 256 else np.uint16
    return Segmentation(
        labels=np.ascontiguousarray(windows.unpad(label).numpy().astype(kind)),
        winning_logit=np.ascontiguousarray(windows.unpad(best).numpy()),
        confidence=np.ascontiguousarray(windows.unpad((best - total).exp()).numpy()),
        forward_passes=len(windows) * len(groups),
    )


def _logits(
    network: Network,
    padded: torch.Tensor,
    windows: Windows,
    n_classes: int,
    group: range,
    batch_size: int,
    precision: str,
    progress: Progress,
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield (window, logits [len(group), ...]) window by window."""
    for indices in batches(range(len(windows)), batch_size):
        batch = torch.stack([padded[windows.slices(index)][None] for index in indices])
        with torch.no_grad(), autocast(precision, padded.device):
            answer = network(batch)
        check_answer(answer, batch, n_classes)
        for index, logits in zip(indices, answer, strict=True):
            yield index, logits[group.start : group.stop].to(padded.dtype)
            progress.advance()


def settled(
    runs: Iterator[tuple[int, torch.Tensor]], windows: Windows, count: int, dtype: torch.dtype, device: torch.device
) -> Iterator[tuple[tuple[slice, ...], torch.Tensor]]:
    """Blend windows into a moving buffer; yield (slices in the padded volume, stitched logits) as they are settled."""
    axis, side = windows.rolling_axis, windows.window[windows.rolling_axis]
    shape = list(windows.padded_shape)
    shape[axis] = side
    buffer = torch.zeros([count, *shape], dtype=dtype, device=device)
    weight = windows.weight.to(device=device, dtype=dtype)
    position = int(windows.starts[0, axis])

    row_bytes = count * dtype.itemsize * int(np.prod(shape)) // side
    slab = max(1, _SLAB_BYTES // row_bytes)

    def settle(rows: int) -> Iterator[tuple[tuple[slice, ...], torch.Tensor]]:
        for first in range(0, rows, slab):
            last = min(first + slab, rows)
            where = [slice(None)] * 3
            where[axis] = slice(position + first, position + last)
            done = buffer.narrow(axis + 1, first, last - first)
            yield tuple(where), done / windows.total_weight[tuple(where)].to(device=device, dtype=dtype)

    for index, logits in runs:
        box = list(windows.slices(index))
        if box[axis].start > position:
            rows = min(box[axis].start - position, side)
            yield from settle(rows)
            # Class by class: a second buffer of all classes would be gigabytes more.
            for layer in buffer:
                kept = layer.narrow(axis, rows, side - rows).clone()
                layer.zero_()
                layer.narrow(axis, 0, side - rows).copy_(kept)
            position = box[axis].start
        box[axis] = slice(0, side)
        buffer[(slice(None), *box)] += weight * logits
    yield from settle(min(side, windows.padded_shape[axis] - position))


def batches(indices: Sequence[int], size: int) -> Iterator[list[int]]:
    """Split window indices into batches."""
    for first in range(0, len(indices), size):
        yield list(indices[first : first + size])


def check_answer(answer: torch.Tensor, batch: torch.Tensor, n_classes: int) -> None:
    """Refuse an answer that is not one logit per class and voxel."""
    expected = (len(batch), n_classes, *batch.shape[2:])
    if tuple(answer.shape) != expected:
        raise Agg2ExpError(
            f"the network answers shape {tuple(answer.shape)}, expected {expected}; is the label set right?"
        )


def stitched_logits(
    network: Network,
    x: torch.Tensor,
    windows: Windows,
    n_classes: int,
    *,
    batch_size: int = 1,
    device: torch.device | str = "cpu",
    precision: str = "float32",
) -> torch.Tensor:
    """Return the stitched logits f(x) [K, i, j, k] of a volume small enough to hold them all."""
    device = torch.device(device)
    dtype = dtype_of(precision, device)
    padded = windows.pad(x.to(device=device, dtype=dtype))
    out = torch.zeros([n_classes, *windows.padded_shape], dtype=dtype, device=device)
    runs = _logits(network, padded, windows, n_classes, range(n_classes), batch_size, precision, Progress())
    for where, logits in settled(runs, windows, n_classes, dtype, device):
        out[(slice(None), *where)] = logits
    return windows.unpad(out)
