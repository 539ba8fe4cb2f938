"""Means over *points* of the exact gradient of the stitched F_c: what the three gradient methods share (equations 3 to 5).

The gradient at a point x' is exact when each window's vector-Jacobian product starts from ``a_c * weight_w / total_weight``
and the results are summed into x. A window in which that is zero everywhere is not run. One forward pass of a window serves
all classes that it holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from Agg2ExpLib.case.attribution import Attribution, Slices
from Agg2ExpLib.case.objective import Objective, output_gradient, output_share
from Agg2ExpLib.case.stitched import StitchedNetwork
from Agg2ExpLib.case.windows import Windows
from Agg2ExpLib.errors import Agg2ExpError
from Agg2ExpLib.methods.base import Context


@dataclass(frozen=True)
class Points:
    """Where gradients are taken: number -> (scan (C, i, j, k), weight in the mean); the scan itself by default."""

    count: int
    at: Callable[[int], tuple[torch.Tensor, float]] | None = None


@dataclass
class _Sum:
    """A class being summed up."""

    objective: Objective
    box: Slices
    values: torch.Tensor
    share: torch.Tensor
    windows: frozenset[int]
    backward: int = 0
    baseline: float = math.nan


def mean_gradients(
    stitched: StitchedNetwork,
    objectives: Sequence[Objective],
    points: Points,
    context: Context,
    *,
    from_nothing: bool = False,
) -> Iterator[Attribution]:
    """Yield the mean gradient of each class that is present, in order.

    Parameters
    ----------
    stitched : StitchedNetwork
        Network, scan and windows.
    objectives : sequence of Objective
        What to explain.
    points : Points
        Where.
    context : Context
        Progress and passes.
    from_nothing : bool
        Multiply by x - x0 and tell F_c(x0), x0 the scan of nothing.
    """
    present = [objective for objective in objectives if objective.voxels]
    groups = list(_groups(present, stitched))
    forward, backward = count_passes(groups, points.count)
    context.progress.stage("attributions", forward + backward)
    for group in groups:
        yield from _explain_group(stitched, group, points, context, from_nothing)


def count_passes(groups: Sequence[Sequence[Objective]], points: int) -> tuple[int, int]:
    """Return the forward and backward passes that groups of classes need."""
    forward = sum(len(set().union(*(o.windows for o in group))) for group in groups) * points
    return forward, sum(len(o.windows) for group in groups for o in group) * points


def _groups(objectives: Sequence[Objective], stitched: StitchedNetwork) -> Iterator[list[Objective]]:
    """Split classes into groups whose sums fit the budget together; a class that alone does not still gets its turn."""
    group: list[Objective] = []
    taken = 0
    for objective in objectives:
        reach = _reach(objective, stitched.windows)
        voxels = math.prod(part.stop - part.start for part in reach) * stitched.channels + objective.weight.size
        size = voxels * stitched.dtype.itemsize
        if group and taken + size > stitched.compute.memory_budget:
            yield group
            group, taken = [], 0
        group.append(objective)
        taken += size
    if group:
        yield group


def _reach(objective: Objective, windows: Windows) -> Slices:
    """The box outside of which the class's gradient is zero: the union of its windows."""
    boxes = [windows.inside(index)[0] for index in objective.windows]
    parts = [slice(min(b[axis].start for b in boxes), max(b[axis].stop for b in boxes)) for axis in range(3)]
    return parts[0], parts[1], parts[2]


def _explain_group(
    stitched: StitchedNetwork, group: Sequence[Objective], points: Points, context: Context, from_nothing: bool
) -> Iterator[Attribution]:
    sums = []
    for objective in group:
        box = _reach(objective, stitched.windows)
        shape = (stitched.channels, *(part.stop - part.start for part in box))
        values = torch.zeros(shape, dtype=stitched.dtype, device=stitched.device)
        sums.append(_Sum(objective, box, values, output_share(stitched, objective), frozenset(objective.windows)))
    needed = sorted(set().union(*(one.windows for one in sums)))
    for number in range(points.count):
        x, weight = points.at(number) if points.at else (stitched.x, 1.0)
        padded = stitched.padded(x)
        suffix = f", sample {number + 1} of {points.count}" if points.count > 1 else ""

        def run(indices: list[int], padded: torch.Tensor = padded) -> list[tuple[_Sum, torch.Tensor, float]]:
            return _gradients(stitched, sums, padded, indices)

        for indices, found in stitched.in_batches(needed, run):
            _add_gradients(stitched, found, indices, weight, context, suffix)
    if from_nothing:
        _add_baseline(stitched, sums, context)
    for one in sums:
        values = one.values / points.count
        if from_nothing:
            values = values * (stitched.x - stitched.nothing())[(slice(None), *one.box)]
        yield _finish(stitched, one, values)


def _gradients(
    stitched: StitchedNetwork, sums: Sequence[_Sum], padded: torch.Tensor, indices: list[int]
) -> list[tuple[_Sum, torch.Tensor, float]]:
    """Run some windows forward once, and backward once for each class that they hold; return its gradients, scaled."""
    active = [one for one in sums if not one.windows.isdisjoint(indices)]
    batch = stitched.batch(padded, indices).requires_grad_(True)
    with torch.enable_grad():
        logits = stitched.run(batch)
    found = []
    for number, one in enumerate(active):
        start = torch.stack([output_gradient(stitched, one.objective, index, one.share) for index in indices])
        # A power of two, so that it is undone exactly: half precision must not lose small gradients.
        scale = 2.0 ** -math.ceil(math.log2(float(start.max())))
        target = logits[:, one.objective.channel]
        (gradient,) = torch.autograd.grad(
            target, batch, (start * scale).to(target.dtype), retain_graph=number + 1 < len(active)
        )
        found.append((one, gradient, scale))
    return found


def _add_gradients(
    stitched: StitchedNetwork,
    found: Sequence[tuple[_Sum, torch.Tensor, float]],
    indices: list[int],
    weight: float,
    context: Context,
    suffix: str,
) -> None:
    """Add the gradients of some windows to their classes' sums."""
    context.passes.forward += len(indices)
    context.progress.advance(len(indices))
    for one, gradient, scale in found:
        for index, value in zip(indices, gradient, strict=True):
            if index in one.windows:
                volume, _ = stitched.windows.inside(index)
                here = tuple(slice(v.start - b.start, v.stop - b.start) for v, b in zip(volume, one.box, strict=True))
                inside = stitched.windows.gather(index, value)
                one.values[(slice(None), *here)] += inside.to(one.values.dtype) * (weight / scale)
        used = len(one.windows.intersection(indices))
        one.backward += len(indices)
        context.passes.backward += len(indices)
        context.progress.advance(used, detail=stitched.name(one.objective.class_index) + suffix)


def _add_baseline(stitched: StitchedNetwork, sums: Sequence[_Sum], context: Context) -> None:
    """F_c(x0): over a scan of nothing every window answers the same, so one pass is enough, unless padding differs."""
    padded = stitched.padded(stitched.nothing())
    windows = sorted(set().union(*(one.windows for one in sums)))
    alike = stitched.pads_with_nothing
    for one in sums:
        one.baseline = 0.0
    logits = None
    for index in windows:
        if logits is None or not alike:
            with torch.no_grad():
                logits = stitched.run(stitched.batch(padded, [index]))[0]
            context.passes.forward += 1
        for one in sums:
            if index in one.windows:
                start = output_gradient(stitched, one.objective, index, one.share).double()
                one.baseline += float((start * logits[one.objective.channel].double()).sum())


def _finish(stitched: StitchedNetwork, one: _Sum, values: torch.Tensor) -> Attribution:
    objective = one.objective
    if not torch.isfinite(values).all():
        raise Agg2ExpError(
            f"the attribution of {stitched.name(objective.class_index)} has values that are not numbers; "
            "try --precision float32"
        )
    channels: np.ndarray = values.cpu().numpy()
    return Attribution(
        objective.class_index,
        one.box,
        channels,
        len(objective.windows),
        one.backward,
        objective.value,
        one.baseline,
    )
