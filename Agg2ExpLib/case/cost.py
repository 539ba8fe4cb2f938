"""What an explanation will cost: windows, network passes, seconds and memory, from one window timed on the device."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch

from Agg2ExpLib.case.context import Explains
from Agg2ExpLib.case.recomputing import Recomputing
from Agg2ExpLib.case.segmentation import BUFFER_BYTES
from Agg2ExpLib.case.stitched import Network
from Agg2ExpLib.case.windows import Windows
from Agg2ExpLib.device import Compute, choose_device, dtype_of, running
from Agg2ExpLib.models import Model, Part
from Agg2ExpLib.models.interface import Triple

#: A pass backward in passes forward, where it was not timed: about as long, a little more.
BACKWARD = 1.2


@dataclass(frozen=True)
class Estimate:
    """Cost of one explanation.

    Where a class lies is known only after the segmentation, so passes and seconds are given as a range: from every
    class within one window to every class in all of them.

    Attributes
    ----------
    windows, classes, points : int
        Windows over the scan, classes to explain, and gradients per window and class (coalitions per window, at most, of
        methods that remove supervoxels).
    passes_at_least, passes_at_most : int
        One window forward, or one window backward for one class; the segmentation included.
    seconds_at_least, seconds_at_most : float
        From one forward and one backward pass timed on the device just now.
    memory_bytes : int
        Of the device (of the process, on the CPU).
    device : str
        Where it would run.
    """

    windows: int
    classes: int
    points: int
    passes_at_least: int
    passes_at_most: int
    seconds_at_least: float
    seconds_at_most: float
    memory_bytes: int
    device: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def cost_of(model: Model, shape: Triple, method: Explains, classes: int, compute: Compute) -> Estimate:
    """Time one window on the device and count what the whole would take.

    Parameters
    ----------
    model : Model
        Its first network is moved to the device.
    shape : tuple of int
        Voxels of the scan on the model's grid.
    method : Method
        Its passes are counted.
    classes : int
        Classes to explain.
    compute : Compute
        Where and how exactly.
    """
    device, card = choose_device(compute.device), model.card
    compute = replace(compute, device=str(device))
    windows = [Windows.over(shape, part.tiling or card.tiling) for part in model.parts]
    count, labels = sum(map(len, windows)), len(card.labels)
    side = windows[0].window
    forward, backward, memory = _time_batch(model.parts[0], side, len(card.channels), device, compute)
    points, _ = method.passes(method.players(labels)) if method.removes_supervoxels else method.passes()
    least, most = ((count + ahead, back) for ahead, back in passes_of(method, count, classes, labels))
    return Estimate(
        count,
        classes,
        points,
        sum(least),
        sum(most),
        least[0] * forward + least[1] * backward,
        most[0] * forward + most[1] * backward,
        memory + _arrays(shape, windows[0], labels, classes, compute),
        str(device),
    )


def passes_of(method: Explains, windows: int, classes: int, labels: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the passes forward and backward that attributions take at least and at most, the segmentation left out.

    Parameters
    ----------
    method : Method
        Its passes are counted.
    windows, classes, labels : int
        Windows over the scan, classes to explain, and classes of the model.
    """
    if method.removes_supervoxels:
        coalitions, _ = method.passes(method.players(labels))
        # A scan whose classes lie in one window that holds but one supervoxel; and every window played in full.
        return (2, 0), (windows * coalitions, 0)
    points, backwards = method.passes()
    return (points, classes * backwards), (windows * points, classes * windows * backwards)


def _time_batch(
    part: Part, window: Sequence[int], channels: int, device: torch.device, compute: Compute
) -> tuple[float, float, int]:
    """Return the seconds of a window forward and backward, in a batch as in the run, and the bytes at the peak.

    The first pass warms up.
    """
    dtype, count = dtype_of(compute.precision, device), compute.windows_at_once
    network: Network = part.build(device, dtype)
    if compute.recompute:
        network = Recomputing(network, partial(running, compute.precision, device))
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    forward = backward = 0.0
    for _ in range(2):
        batch = torch.full((count, channels, *window), 0.5, dtype=dtype, device=device, requires_grad=True)
        begin = _now(on_gpu)
        with running(compute.precision, device):
            logits = network(batch)
        middle = _now(on_gpu)
        forward = (middle - begin) / count
        if part.no_gradient:
            continue
        torch.autograd.grad(logits[:, 0].sum(), batch)
        backward = (_now(on_gpu) - middle) / count
    return forward, backward, torch.cuda.max_memory_allocated(device) if on_gpu else process_peak()


def _now(on_gpu: bool) -> float:
    if on_gpu:
        torch.cuda.synchronize()
    return time.perf_counter()


def process_peak() -> int:
    """Peak resident bytes of this process; 0 where the system does not tell (Windows)."""
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _arrays(shape: Sequence[int], windows: Windows, labels: int, classes: int, compute: Compute) -> int:
    """Bytes of what is held beside the network: scan, label map and logits, the moving buffer, attributions."""
    voxels = 1
    for size in shape:
        voxels *= size
    axis = windows.rolling_axis
    cross = voxels // shape[axis] * windows.window[axis]
    # Float32: input, padded input, best, total, weight, winning logit, confidence; int32 labels twice.
    held = 9 * 4 * voxels
    return held + min(BUFFER_BYTES, 2 * labels * cross * 4) + min(compute.memory_budget, classes * voxels * 4)
