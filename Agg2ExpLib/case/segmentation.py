"""Stitched prediction: logits of overlapping windows blended, then the decision at each voxel (equation 1).

Logits of all classes are never held for the whole volume, unless they are asked for: windows go along the longest axis, and
a buffer of one window's length moves with them; what no later window reaches is settled and dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from Agg2ExpLib.case.stitched import StitchedNetwork
from Agg2ExpLib.case.windows import Windows
from Agg2ExpLib.errors import Agg2ExpError, InputError
from Agg2ExpLib.models.interface import Decision, SigmoidRegions, Softmax
from Agg2ExpLib.progress import Progress

#: Bytes that the moving buffer of logits may take before classes are split into groups.
BUFFER_BYTES = 4 * 1024**3
# Bytes of settled logits handed on at one time: what is computed from them takes as much again.
_SLAB_BYTES = 256 * 1024**2
_NOT_FINITE = "the network answered logits that are not finite numbers; try --precision float32"


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A stitched prediction on the model's grid; arrays have the volume's shape (i, j, k).

    Attributes
    ----------
    labels : ndarray of uint8 or uint16
        Class at each voxel. Of overlapping regions the one that the model paints last.
    classes : tuple of int
        Class that each channel of the network answers.
    decision : Softmax or SigmoidRegions
        How the labels came about.
    winning_logit : ndarray of float32, or float64 when computed so
        Softmax: its stitched logit, f_c(x)[v] where M_c[v] = 1.
    confidence : ndarray of the same type
        Softmax: its probability.
    logits : ndarray of float32, shape (K, i, j, k), optional
        All stitched logits: of overlapping regions always, else when they were asked for.
    forward_passes : int
        Windows run.
    own_labels : ndarray, optional
        What the network itself decides, where another prediction was given as the labels.
    """

    labels: np.ndarray
    classes: tuple[int, ...]
    decision: Decision
    winning_logit: np.ndarray | None
    confidence: np.ndarray | None
    logits: np.ndarray | None
    forward_passes: int
    own_labels: np.ndarray | None = None

    def channel(self, class_index: int) -> int:
        """Return the network's channel of a class.

        Raises
        ------
        InputError
            A class that this network does not answer.
        """
        if class_index not in self.classes:
            raise InputError(f"class {class_index} has no logit in this network, so it cannot be explained by it")
        return self.classes.index(class_index)

    def mask(self, class_index: int) -> np.ndarray:
        """M_c: where the decision says c. Regions may overlap."""
        channel = self.channel(class_index)
        if isinstance(self.decision, SigmoidRegions) and self.logits is not None:
            return np.asarray(self.logits[channel] > 0)
        return np.asarray(self.labels == class_index)

    def logit(self, class_index: int, box: tuple[slice, ...]) -> np.ndarray:
        """Return f_c(x) within a box; right only where M_c is 1."""
        if self.winning_logit is not None:
            return np.asarray(self.winning_logit[box])
        assert self.logits is not None  # of overlapping regions
        return np.asarray(self.logits[self.channel(class_index)][box])

    def probability(self, class_index: int, box: tuple[slice, ...]) -> np.ndarray:
        """Return the probability of c within a box; right only where M_c is 1."""
        if self.confidence is not None:
            return np.asarray(self.confidence[box])
        return np.asarray(1.0 / (1.0 + np.exp(-self.logit(class_index, box).astype(np.float64))))


def segment(
    stitched: StitchedNetwork,
    classes: Sequence[int],
    decision: Decision | None = None,
    *,
    given: np.ndarray | None = None,
    keep_logits: torch.dtype | None = None,
    buffer_bytes: int = BUFFER_BYTES,
    progress: Progress | None = None,
) -> Segmentation:
    """Predict a volume.

    Parameters
    ----------
    stitched : StitchedNetwork
        Network, scan and windows.
    classes : sequence of int
        Class that each of the network's K channels answers.
    decision : Softmax or SigmoidRegions
        One label a voxel by default.
    given : ndarray of int, shape (i, j, k), optional
        Class at each voxel that is explained in place of the network's own decision; classes of other parts count as background.
    keep_logits : torch.dtype, optional
        Keep the stitched logits of all channels so; those of overlapping regions are kept in any case, as they are.
    buffer_bytes : int
        When the moving buffer would be larger, channels are processed in groups and the network runs once per group.
    progress : Progress
        One unit a window.

    Raises
    ------
    Agg2ExpError
        The network answers another number of classes, or logits that are not numbers.
    """
    decision, progress = decision or Softmax(), progress or Progress()
    windows, count = stitched.windows, len(classes)
    groups = _groups(windows, count, stitched.dtype, buffer_bytes)
    padded = stitched.padded(stitched.x)
    progress.stage("segmentation", len(windows) * len(groups))
    kept_type = stitched.dtype if isinstance(decision, SigmoidRegions) else keep_logits
    kept = torch.zeros((count, *windows.padded_shape), dtype=kept_type) if kept_type is not None else None
    if given is not None and not isinstance(decision, Softmax):
        raise InputError(
            "a given prediction cannot be explained with overlapping regions, which one label map does not tell"
        )
    winner = None
    if isinstance(decision, Softmax):
        winner = _Winner(windows, stitched.dtype, None if given is None else _channels(given, classes))
    for group in groups:
        runs = _logits(stitched, padded, count, group, progress)
        for where, logits in settled(runs, windows, len(group), stitched.dtype, stitched.device):
            if winner is not None:
                winner.add(where, logits, group.start)
            elif not torch.isfinite(logits).all():
                raise Agg2ExpError(_NOT_FINITE)
            if kept is not None:
                kept[(slice(group.start, group.stop), *where)] = logits.to(kept.dtype).cpu()
    lookup = np.asarray(classes, dtype=np.uint8 if max(classes, default=0) < 256 else np.uint16)
    logits_kept = None if kept is None else np.ascontiguousarray(windows.unpad(kept).numpy())
    passes = len(windows) * len(groups)
    if winner is not None:
        channel, best, confidence = winner.unpadded(windows)
        labels, own = lookup[channel], None
        if given is not None:
            labels, own = lookup[_channels(given, classes).numpy()], labels
        return Segmentation(labels, tuple(classes), decision, best, confidence, logits_kept, passes, own)
    assert logits_kept is not None and isinstance(decision, SigmoidRegions)  # regions keep them
    labels = np.zeros(windows.volume_shape, dtype=lookup.dtype)
    for channel_index in decision.order:
        labels[logits_kept[channel_index] > 0] = lookup[channel_index]
    return Segmentation(labels, tuple(classes), decision, None, None, logits_kept, passes)


class _Winner:
    """The highest logit of each voxel so far, its channel, and the sum that its probability needs."""

    def __init__(self, windows: Windows, dtype: torch.dtype, given: torch.Tensor | None = None) -> None:
        self.given = None if given is None else windows.pad(given, 0)
        self.given_logit = None if given is None else torch.zeros(windows.padded_shape, dtype=dtype)
        self.best = torch.full(windows.padded_shape, -torch.inf, dtype=dtype)
        self.channel = torch.zeros(windows.padded_shape, dtype=torch.int32)
        self.total = torch.full(windows.padded_shape, -torch.inf, dtype=dtype)

    def add(self, where: tuple[slice, ...], logits: torch.Tensor, first: int) -> None:
        """Take the settled logits of some channels, from ``first`` on."""
        value, index = (tensor.cpu() for tensor in logits.max(dim=0))
        if not torch.isfinite(value).all():
            raise Agg2ExpError(_NOT_FINITE)
        higher = value > self.best[where]
        self.channel[where] = torch.where(higher, index.to(torch.int32) + first, self.channel[where])
        self.best[where] = torch.maximum(value, self.best[where])
        self.total[where] = torch.logaddexp(self.total[where], logits.logsumexp(dim=0).cpu())
        if self.given is not None and self.given_logit is not None:
            wanted = self.given[where] - first
            picked = logits.cpu().gather(0, wanted.clamp(0, len(logits) - 1)[None])[0]
            here = (wanted >= 0) & (wanted < len(logits))
            self.given_logit[where] = torch.where(here, picked, self.given_logit[where])

    def unpadded(self, windows: Windows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the winning channel on the volume, and logit and probability of it, or of the given channel."""
        logit = self.best if self.given_logit is None else self.given_logit
        parts = (self.channel, logit, (logit - self.total).exp())
        channel, best, confidence = (np.ascontiguousarray(windows.unpad(part).numpy()) for part in parts)
        return channel, best, confidence


def _channels(given: np.ndarray, classes: Sequence[int]) -> torch.Tensor:
    """Return the channel of each voxel's class; the first where it is of another part."""
    lookup = np.zeros(max(int(given.max()), *classes) + 1, dtype=np.int64)
    lookup[list(classes)] = np.arange(len(classes))
    return torch.from_numpy(lookup[given])


def _groups(windows: Windows, count: int, dtype: torch.dtype, buffer_bytes: int) -> list[range]:
    axis = windows.rolling_axis
    cross = np.prod(windows.padded_shape) // windows.padded_shape[axis] * windows.window[axis]
    size = max(1, min(count, int(buffer_bytes // (int(cross) * dtype.itemsize))))
    return [range(first, min(first + size, count)) for first in range(0, count, size)]


def _logits(
    stitched: StitchedNetwork, padded: torch.Tensor, count: int, group: range, progress: Progress
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield (window, logits [len(group), ...]) window by window."""

    def run(indices: list[int]) -> torch.Tensor:
        batch = stitched.batch(padded, indices)
        with torch.no_grad():
            answer = stitched.run(batch)
        check_answer(answer, batch, count)
        return answer

    for indices, answer in stitched.in_batches(range(len(stitched.windows)), run):
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


def check_answer(answer: torch.Tensor, batch: torch.Tensor, count: int) -> None:
    """Refuse an answer that is not one logit per channel and voxel."""
    expected = (len(batch), count, *batch.shape[2:])
    if tuple(answer.shape) != expected:
        raise Agg2ExpError(
            f"the network answers shape {tuple(answer.shape)}, expected {expected}; is the label set right?"
        )


def stitched_logits(stitched: StitchedNetwork, count: int) -> torch.Tensor:
    """Return the stitched logits f(x) [K, i, j, k] of a volume small enough to hold them all."""
    windows = stitched.windows
    padded = stitched.padded(stitched.x)
    out = torch.zeros([count, *windows.padded_shape], dtype=stitched.dtype, device=stitched.device)
    runs = _logits(stitched, padded, count, range(count), Progress())
    for where, logits in settled(runs, windows, count, stitched.dtype, stitched.device):
        out[(slice(None), *where)] = logits
    return windows.unpad(out)
