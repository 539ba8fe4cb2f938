"""Vanilla gradient, SmoothGrad and integrated gradients of the stitched prediction (equations 3 to 5).

All three are means over *points* of the same thing: the gradient of F_c at a point x'. It is exact when each window's
vector-Jacobian product starts from ``a_c * weight_w / total_weight`` and the results are summed into x. A window in
which that is zero everywhere is not run. One forward pass of a window serves all classes that it holds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from Agg2ExpLib.case.objective import Objective
from Agg2ExpLib.case.segmentation import Network, batches
from Agg2ExpLib.case.windows import Slices, Windows
from Agg2ExpLib.device import autocast, dtype_of
from Agg2ExpLib.errors import Agg2ExpError, InputError
from Agg2ExpLib.methods import METHODS, PATHS
from Agg2ExpLib.progress import Progress

# Of the graded path. At 100 points a trained Swin UNETR then misses completeness by under 1%, on a uniform path by 20%.
_GRADING = 4


@dataclass
class PassCount:
    """Network passes, in windows: one window forward, or one window backward for one class."""

    forward: int = 0
    backward: int = 0


@dataclass(frozen=True, eq=False)
class SupervoxelValues:
    """What each supervoxel is worth to one class.

    Attributes
    ----------
    names : tuple of str
        Supervoxels 1 to p.
    voxels : ndarray of int, shape (p,)
        Their sizes.
    values, errors : ndarray, shape (p,)
        The value of each, and its standard error (0 where nothing was sampled).
    full, empty : float
        Value of the scan, and of the scan with every supervoxel set to air.
    coalitions : int
        Coalitions played: of the scan, or the most in one window.
    """

    names: tuple[str, ...]
    voxels: np.ndarray
    values: np.ndarray
    errors: np.ndarray
    full: float
    empty: float
    coalitions: int


@dataclass(frozen=True)
class Attribution:
    """E_c of one class.

    Attributes
    ----------
    class_index : int
        c.
    box : tuple of slice
        Where ``values`` lie in the volume; E_c is 0 elsewhere.
    values : ndarray of float32 (float64 when computed so)
        E_c within the box.
    windows_run : int
        Windows that the class needed.
    backward_passes : int
        Backward passes made for it.
    value, baseline_value : float
        F_c at the scan, and (integrated gradients; else NaN) at air.
    supervoxels : SupervoxelValues, optional
        Of methods that remove supervoxels.
    """

    class_index: int
    box: Slices
    values: np.ndarray
    windows_run: int
    backward_passes: int
    value: float
    baseline_value: float = math.nan
    supervoxels: SupervoxelValues | None = None

    def full(self, shape: Sequence[int]) -> np.ndarray:
        """Return E_c on the whole volume."""
        out = np.zeros(tuple(shape), dtype=self.values.dtype)
        out[self.box] = self.values
        return out

    @property
    def completeness_gap(self) -> float:
        """Relative difference of sum(E_c) from F_c(x) - F_c(x0); NaN for methods that promise no such sum."""
        change = self.value - self.baseline_value
        return abs(float(self.values.sum(dtype=np.float64)) - change) / max(abs(change), 1e-12)


@dataclass
class _Sum:
    """A class being summed up."""

    objective: Objective
    box: Slices
    values: torch.Tensor
    backward: int = 0
    baseline: float = math.nan
    windows: frozenset[int] = field(default_factory=frozenset)


@dataclass(frozen=True)
class _Job:
    """What stays the same during one call."""

    network: Network
    x: torch.Tensor
    windows: Windows
    weight: torch.Tensor
    method: str
    samples: int
    sigma: float
    path: str
    seed: int
    batch_size: int
    precision: str
    progress: Progress
    passes: PassCount
    names: Sequence[str]


def attribute(
    network: Network,
    x: torch.Tensor,
    windows: Windows,
    objectives: Sequence[Objective],
    *,
    method: str = "smoothgrad",
    samples: int | None = None,
    sigma: float = 0.1,
    path: str = "graded",
    seed: int = 0,
    batch_size: int = 1,
    device: torch.device | str = "cpu",
    precision: str = "float32",
    memory_budget: int = 2 * 1024**3,
    names: Sequence[str] = (),
    progress: Progress | None = None,
    passes: PassCount | None = None,
) -> Iterator[Attribution]:
    """Yield the attribution of each class that is present, in order.

    Parameters
    ----------
    network : callable
        Logits [B, K, ...] of windows [B, 1, ...]; its parameters must not ask for gradients.
    x : Tensor, shape (i, j, k)
        Preprocessed volume, 0 to 1.
    windows : Windows
        Over that volume.
    objectives : sequence of Objective
        What to explain.
    method, samples, sigma, seed
        Method; number of points; SmoothGrad's noise as a share of max x - min x; seed of the noise. Noise is drawn for
        the whole volume, so it depends on neither the classes nor the batch size nor the device.
    path : str
        Points of integrated gradients: a name of :data:`~Agg2ExpLib.methods.PATHS`.
    memory_budget : int
        Bytes of attributions summed up at one time; more classes are processed in groups.
    names : sequence of str
        Class names, for progress.
    passes : PassCount
        Counts the passes.

    Raises
    ------
    InputError
        An unknown method, or settings out of range.
    Agg2ExpError
        An attribution with values that are not numbers.
    """
    device, progress, passes = torch.device(device), progress or Progress(), passes or PassCount()
    known = [one.id for one in METHODS.values() if one.module == "gradients"]
    if method not in known:
        raise InputError(f"unknown method {method!r}: use {', '.join(known)}")
    if path not in PATHS:
        raise InputError(f"unknown path {path!r}: use {', '.join(PATHS)}")
    points = METHODS[method].samples if samples is None else samples
    points = 1 if METHODS[method].samples == 0 else points
    if points < 1 or sigma < 0 or batch_size < 1:
        raise InputError(
            f"samples ({points}) and batch size ({batch_size}) must be at least 1, sigma ({sigma:g}) at least 0"
        )
    dtype = dtype_of(precision, device)
    present = [objective for objective in objectives if objective.voxels]
    weight = (windows.weight.double() if dtype == torch.float64 else windows.weight).to(device)
    job = _Job(
        network,
        x.to(device=device, dtype=dtype),
        windows,
        weight,
        method,
        points,
        sigma,
        path,
        seed,
        batch_size,
        precision,
        progress,
        passes,
        names,
    )
    groups = list(_groups(present, windows, dtype, memory_budget))
    forward, backward = count_passes(groups, points)
    progress.stage("attributions", forward + backward)
    for group in groups:
        yield from _explain_group(job, group)


def count_passes(groups: Sequence[Sequence[Objective]], points: int) -> tuple[int, int]:
    """Return the forward and backward passes that groups of classes need."""
    forward = sum(len(set().union(*(o.windows for o in group))) for group in groups) * points
    return forward, sum(len(o.windows) for group in groups for o in group) * points


def _groups(
    objectives: Sequence[Objective], windows: Windows, dtype: torch.dtype, budget: int
) -> Iterator[list[Objective]]:
    """Split classes into groups whose sums fit the budget together; a class that alone does not still gets its turn."""
    group: list[Objective] = []
    taken = 0
    for objective in objectives:
        size = int(np.prod([part.stop - part.start for part in _reach(objective, windows)])) * dtype.itemsize
        if group and taken + size > budget:
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


def _explain_group(job: _Job, group: Sequence[Objective]) -> Iterator[Attribution]:
    sums = []
    for objective in group:
        box = _reach(objective, job.windows)
        shape = [part.stop - part.start for part in box]
        sums.append(
            _Sum(
                objective,
                box,
                torch.zeros(shape, dtype=job.x.dtype, device=job.x.device),
                windows=frozenset(objective.windows),
            )
        )
    needed = sorted(set().union(*(one.windows for one in sums)))
    for number in range(job.samples):
        position, weight = path_point(number, job.samples, job.path)
        padded = job.windows.pad(_point(job, number, position))
        suffix = f", sample {number + 1} of {job.samples}" if job.samples > 1 else ""
        for indices in batches(needed, job.batch_size):
            _add_gradients(job, sums, padded, indices, weight if job.method == "integrated-gradients" else 1.0, suffix)
    if job.method == "integrated-gradients":
        _add_baseline(job, sums)
    for one in sums:
        yield _finish(job, one)


def path_point(number: int, samples: int, path: str) -> tuple[float, float]:
    """Return a point a of the way from air to the scan, and its weight in the mean over points (equation 5).

    Normalisation layers make a network change most just above air. With a = t^4 the integral over a becomes one of
    4 t^3 VG_c over t, whose evenly spaced points lie densely there: the same integral, met with far fewer points.

    Examples
    --------
    >>> path_point(0, 2, "uniform"), path_point(1, 2, "uniform")
    ((0.25, 1.0), (0.75, 1.0))
    >>> path_point(1, 2, "graded")
    (0.31640625, 1.6875)
    """
    # Middle of each of the m intervals: the error of the integral falls with m squared.
    t = (number + 0.5) / samples
    return (t, 1.0) if path == "uniform" else (t**_GRADING, _GRADING * t ** (_GRADING - 1))


def _point(job: _Job, number: int, position: float) -> torch.Tensor:
    """The volume at which the gradient of sample ``number`` is taken."""
    if job.method == "smoothgrad":
        spread = job.sigma * float(job.x.max() - job.x.min())
        state = int(np.random.SeedSequence([job.seed, number]).generate_state(1, np.uint64)[0] >> 1)
        noise = torch.randn(job.x.shape, generator=torch.Generator().manual_seed(state))
        return job.x + spread * noise.to(job.x)
    return job.x * position if job.method == "integrated-gradients" else job.x


def _add_gradients(
    job: _Job, sums: Sequence[_Sum], padded: torch.Tensor, indices: list[int], weight: float, suffix: str
) -> None:
    """Run some windows forward once, and backward once for each class that they hold."""
    active = [one for one in sums if not one.windows.isdisjoint(indices)]
    batch = torch.stack([padded[job.windows.slices(index)][None] for index in indices]).requires_grad_(True)
    with torch.enable_grad(), autocast(job.precision, padded.device):
        logits = job.network(batch)
    job.passes.forward += len(indices)
    job.progress.advance(len(indices))
    for number, one in enumerate(active):
        start = torch.stack([output_gradient(job.windows, job.weight, one.objective, index) for index in indices])
        # A power of two, so that it is undone exactly: half precision must not lose small gradients.
        scale = 2.0 ** -math.ceil(math.log2(float(start.max())))
        target = logits[:, one.objective.class_index]
        (gradient,) = torch.autograd.grad(
            target, batch, (start * scale).to(target.dtype), retain_graph=number + 1 < len(active)
        )
        for index, value in zip(indices, gradient[:, 0], strict=True):
            if index in one.windows:
                volume, window = job.windows.inside(index)
                here = tuple(slice(v.start - b.start, v.stop - b.start) for v, b in zip(volume, one.box, strict=True))
                one.values[here] += value[window].to(one.values.dtype) * (weight / scale)
        used = len(one.windows.intersection(indices))
        one.backward += len(indices)
        job.passes.backward += len(indices)
        job.progress.advance(used, detail=_name(job, one) + suffix)


def output_gradient(windows: Windows, weight: torch.Tensor, objective: Objective, index: int) -> torch.Tensor:
    """Return ``a_c * weight_w / total_weight`` within a window: where its vector-Jacobian product starts."""
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
    of_padded = tuple(slice(c.start + p, c.stop + p) for c, p in zip(common, windows.pad_before, strict=True))
    share = torch.from_numpy(objective.weight[of_box]) / windows.total_weight[of_padded]
    out[here] = share.to(out) * weight[here]
    return out


def _add_baseline(job: _Job, sums: Sequence[_Sum]) -> None:
    """F_c(x0): over air every window answers the same, so one pass is enough."""
    air = torch.zeros((1, 1, *job.windows.window), dtype=job.x.dtype, device=job.x.device)
    with torch.no_grad(), autocast(job.precision, job.x.device):
        logits = job.network(air)[0]
    job.passes.forward += 1
    for one in sums:
        channel = logits[one.objective.class_index].double()
        starts = (output_gradient(job.windows, job.weight, one.objective, index) for index in one.objective.windows)
        one.baseline = sum(float((start.double() * channel).sum()) for start in starts)


def _finish(job: _Job, one: _Sum) -> Attribution:
    values = one.values / job.samples
    if job.method == "integrated-gradients":
        values = values * job.x[one.box]
    if not torch.isfinite(values).all():
        raise Agg2ExpError(
            f"the attribution of {_name(job, one)} has values that are not numbers; try --precision float32"
        )
    objective = one.objective
    return Attribution(
        objective.class_index,
        one.box,
        values.cpu().numpy(),
        len(objective.windows),
        one.backward,
        objective.value,
        one.baseline,
    )


def _name(job: _Job, one: _Sum) -> str:
    index = one.objective.class_index
    return job.names[index] if index < len(job.names) else f"class {index}"
