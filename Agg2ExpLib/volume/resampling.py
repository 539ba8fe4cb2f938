"""Volumes on other grids: orientation, cropping and resampling; every value stays where it is in the patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.volume.grid import SIDES, Grid, spaced_numbers
from Agg2ExpLib.volume.headers import MAX_VOXELS
from Agg2ExpLib.volume.volume import Volume

_SMALL = 1e-3  # voxels: two positions nearer than this are the same position


def reorient(volume: Volume, axcodes: str = "RAS") -> Volume:
    """Permute and flip the axes so that they run towards ``axcodes``; no voxel value changes.

    ``reorient(reorient(volume, codes), volume.grid.axcodes)`` gives the first volume back.

    Raises
    ------
    InputError
        When ``axcodes`` does not name each of R/L, A/P, S/I once.
    """
    axes, flips = _axis_moves(volume.grid.axcodes, axcodes)
    if axes == (0, 1, 2) and not any(flips):
        return volume
    turned = volume.voxels.transpose(axes)[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    # A copy, because torch refuses negative strides and sums over another memory order round differently.
    return replace(volume, voxels=np.ascontiguousarray(turned), grid=_turned_grid(volume.grid, axes, flips))


def crop(volume: Volume, slices: Sequence[slice]) -> Volume:
    """Return the part of the volume within three slices (step 1); every voxel stays where it is in the patient.

    Raises
    ------
    InputError
        When the slices are not three, have a step, or leave nothing.
    """
    if len(slices) != 3 or any(part.step not in (None, 1) for part in slices):
        raise InputError("a crop needs three slices without a step")
    bounds = [part.indices(count)[:2] for part, count in zip(slices, volume.shape, strict=True)]
    if any(stop <= start for start, stop in bounds):
        raise InputError(
            f"the crop {[tuple(bound) for bound in bounds]} leaves nothing of a volume of shape {volume.shape}"
        )
    affine = volume.affine.copy()
    affine[:3, 3] = volume.grid.index_to_world([start for start, _ in bounds])
    i, j, k = (stop - start for start, stop in bounds)
    part = volume.voxels[tuple(slice(*bound) for bound in bounds)]
    return replace(volume, voxels=part, grid=Grid((i, j, k), affine))


def model_grid(grid: Grid, spacing: float | Sequence[float] | None = None, orientation: str | None = "RAS") -> Grid:
    """Return the grid a network sees: the scan's field of view in the network's orientation and spacing.

    Parameters
    ----------
    grid : Grid
        The scan's own grid.
    spacing : float or sequence of float, optional
        Millimetres, along the axes of ``orientation``. An axis within a thousandth of it keeps its spacing; ``None`` keeps all.
    orientation : str, optional
        Axis codes. Axes are permuted and flipped only, so an oblique scan stays oblique. ``None`` keeps the scan's own.

    Returns
    -------
    Grid
        Centred on the scan's field of view and covering all of it; exactly the reoriented grid where the spacing is kept.

    Raises
    ------
    InputError
        When the spacing is not positive or the orientation is not one.
    """
    oriented = grid if orientation is None else _turned_grid(grid, *_axis_moves(grid.axcodes, orientation))
    if spacing is None:
        return oriented
    wanted = np.broadcast_to(np.asarray(spacing, dtype=np.float64), (3,))
    if not (np.isfinite(wanted).all() and (wanted > 0).all()):
        raise InputError(f"the model's spacing must be positive, not {spaced_numbers(wanted)} mm")
    own = np.asarray(oriented.spacing)
    kept = abs(wanted - own) <= 1e-3 * own
    if kept.all():
        return oriented
    wanted = np.where(kept, own, wanted)
    counts = np.ceil(np.asarray(oriented.shape) * own / wanted - 1e-3).clip(1)
    counts = np.where(kept, oriented.shape, counts)
    if counts.prod() > MAX_VOXELS:
        raise InputError(
            f"at a spacing of {spaced_numbers(wanted)} mm the scan would have {counts.prod():.2g} voxels; use a coarser --spacing"
        )
    affine = np.eye(4)
    affine[:3, :3] = np.where(kept, oriented.affine[:3, :3], oriented.direction * wanted)
    affine[:3, 3] = oriented.centre - affine[:3, :3] @ ((counts - 1) / 2)
    i, j, k = (int(count) for count in counts)
    return Grid((i, j, k), affine)


def to_grid(
    volume: Volume, grid: Grid, interpolation: Literal["linear", "nearest"] = "linear", outside: float = 0
) -> Volume:
    """Resample a volume onto any grid.

    Where the new voxels coincide with old ones (the same grid, another orientation of it, a crop of it) the old values are
    copied untouched. Within half a voxel beyond the outermost voxel centres, which is still field of view, the edge value holds.

    Parameters
    ----------
    volume : Volume
        What to resample.
    grid : Grid
        The new grid.
    interpolation : {"linear", "nearest"}
        ``"linear"`` gives float32 unless the values could be copied; ``"nearest"`` keeps the dtype (for labels).
    outside : float
        The value beyond the volume's field of view.

    Returns
    -------
    Volume
        On exactly ``grid``.
    """
    if interpolation not in ("linear", "nearest"):
        raise InputError(f"interpolation {interpolation!r} is unknown; use 'linear' or 'nearest'")
    mapping = np.linalg.solve(volume.affine, grid.affine)
    axes = _shared_axes(mapping, grid.shape)
    if axes is None:
        voxels = _interpolate(volume.voxels, mapping, grid.shape, interpolation, outside)
        return replace(volume, voxels=voxels, grid=grid)
    # Everything is computed in the volume's own axis order, then turned: ties of "nearest" and rounding are so the same
    # however the target happens to be stored.
    flips = [bool(mapping[axes[axis], axis] < 0) for axis in range(3)]
    unturned = [axes.index(axis) for axis in range(3)]
    steps, starts = np.empty(3), np.empty(3)
    for axis, target_axis in enumerate(unturned):
        steps[axis], starts[axis] = _snapped(
            abs(mapping[axis, target_axis]),
            mapping[axis, 3]
            + (mapping[axis, target_axis] * (grid.shape[target_axis] - 1) if flips[target_axis] else 0),
            volume.shape[axis],
            grid.shape[target_axis],
        )
    counts = [grid.shape[target_axis] for target_axis in unturned]
    positions = [start + step * np.arange(count) for start, step, count in zip(starts, steps, counts, strict=True)]
    aligned = _resample_aligned(volume.voxels, positions, interpolation, outside)
    turned = aligned.transpose(axes)[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    return replace(volume, voxels=np.ascontiguousarray(turned), grid=grid)


def labels_to_input_grid(labels: Volume, input_grid: Grid) -> Volume:
    """Bring a label map from the model's grid back onto the scan's own grid, by the nearest voxel.

    Without a change of spacing this is the exact inverse of the reorientation.
    """
    return to_grid(labels, input_grid, interpolation="nearest", outside=0)


def preprocess(
    volume: Volume,
    *,
    spacing: float | Sequence[float] | None,
    orientation: str | None,
    intensity_range: tuple[float, float],
) -> Volume:
    """Turn a CT into what the network sees, before padding.

    Parameters
    ----------
    volume : Volume
        The CT in Hounsfield units.
    spacing, orientation
        See :func:`model_grid`.
    intensity_range : tuple of float
        Hounsfield units that become 0 and 1; values beyond are clipped.

    Returns
    -------
    Volume
        float32 within 0 to 1 on ``model_grid(volume.grid, spacing, orientation)``, the same bits however the scan was stored.
    """
    low, high = (float(value) for value in intensity_range)
    if not (np.isfinite([low, high]).all() and high > low):
        raise InputError(f"the intensity range must be two rising numbers of HU, not {low:g} and {high:g}")
    target = model_grid(volume.grid, spacing, orientation)
    # The reorientation comes first, so that a flipped or permuted storage of the same scan gives the same bits.
    oriented = volume if orientation is None else reorient(volume, orientation)
    scaled = np.clip(oriented.voxels, low, high).astype(np.float32)
    scaled -= np.float32(low)
    scaled /= np.float32(high - low)
    np.clip(scaled, 0, 1, out=scaled)
    return to_grid(replace(oriented, voxels=scaled), target, "linear", outside=0)


def _axis_moves(current: str, wanted: str) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """For each new axis: the old axis it comes from, and whether it is flipped."""
    pair_of = {letter: row for row, pair in enumerate(SIDES) for letter in pair}
    wanted = "".join(wanted).upper()
    if sorted(pair_of.get(letter, -1) for letter in wanted) != [0, 1, 2]:
        raise InputError(
            f"the orientation {wanted!r} is not one; name each of R or L, A or P, S or I once, such as 'RAS'"
        )
    rows = [pair_of[letter] for letter in current]
    axes = tuple(rows.index(pair_of[letter]) for letter in wanted)
    return axes, tuple(current[axis] != letter for axis, letter in zip(axes, wanted, strict=True))


def _turned_grid(grid: Grid, axes: Sequence[int], flips: Sequence[bool]) -> Grid:
    affine = np.eye(4)
    first = np.zeros(3)
    for new_axis, (axis, flip) in enumerate(zip(axes, flips, strict=True)):
        affine[:3, new_axis] = -grid.affine[:3, axis] if flip else grid.affine[:3, axis]
        first[axis] = grid.shape[axis] - 1 if flip else 0
    affine[:3, 3] = grid.index_to_world(first)
    i, j, k = (grid.shape[axis] for axis in axes)
    return Grid((i, j, k), affine)


def _shared_axes(mapping: np.ndarray, shape: Sequence[int]) -> tuple[int, ...] | None:
    """The source axis that each target axis runs along, or None when the grids are rotated against each other."""
    linear = abs(mapping[:3, :3])
    axes = tuple(int(row) for row in linear.argmax(axis=0))
    if sorted(axes) != [0, 1, 2]:
        return None
    across = linear.copy()
    across[list(axes), range(3)] = 0
    return axes if (across @ (np.asarray(shape) - 1)).max() < 10 * _SMALL else None


def _snapped(step: float, start: float, count: int, new_count: int) -> tuple[float, float]:
    """Free the step and the start (in source voxels) of rounding noise, so that equal geometries give equal bits."""
    # Affines pass through float32 headers; that noise is below these roundings, and these are far below a voxel.
    step = round(step, 6)
    if abs(step - 1) * new_count < _SMALL:
        step = 1.0
    centred = ((count - 1) - step * (new_count - 1)) / 2
    if abs(start - centred) < _SMALL:
        return step, centred
    if step == 1.0 and abs(start - round(start)) < _SMALL:
        return step, float(round(start))
    return step, round(start, 6)


def _resample_aligned(
    voxels: np.ndarray, positions: Sequence[np.ndarray], interpolation: str, outside: float
) -> np.ndarray:
    copied = all((position == np.floor(position)).all() for position in positions)
    if copied or interpolation == "nearest":
        nearest = [_nearest(position, count) for position, count in zip(positions, voxels.shape, strict=True)]
        result = voxels[np.ix_(*nearest)]
    else:
        mapping = np.eye(4)
        for axis, position in enumerate(positions):
            mapping[axis, axis] = position[1] - position[0] if len(position) > 1 else 1.0
            mapping[axis, 3] = position[0]
        result = _interpolate(voxels, mapping, [len(position) for position in positions], "linear", None)
    for axis, (position, count) in enumerate(zip(positions, voxels.shape, strict=True)):
        beyond = (position < -0.5 - _SMALL) | (position > count - 0.5 + _SMALL)
        if beyond.any():
            result[(slice(None),) * axis + (beyond,)] = outside
    return result


def _nearest(position: np.ndarray, count: int) -> np.ndarray:
    """The voxel next to each position; of two equally near ones the one towards the middle.

    Ties are not rare (every third voxel from 1.5 to 1 mm). Always taking the upper one would shift a label map.
    """
    lower = np.floor(position)
    beyond = position - lower - 0.5
    upper = np.where(abs(beyond) < 1e-6, position < (count - 1) / 2, beyond > 0)
    return (lower + upper).astype(np.int64).clip(0, count - 1)


def _interpolate(
    voxels: np.ndarray, mapping: np.ndarray, shape: Sequence[int], interpolation: str, outside: float | None
) -> np.ndarray:
    """Resample in index space; ``mapping`` takes new to old indices, ``outside=None`` repeats the edge."""
    import SimpleITK as sitk

    dtype = voxels.dtype
    if interpolation == "linear":
        dtype = np.dtype(np.float32)
    work = voxels.astype(np.uint8 if dtype.kind == "b" else dtype, copy=False)
    image = sitk.GetImageFromArray(np.ascontiguousarray(work.transpose(2, 1, 0)))
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize([int(count) for count in shape])
    resampler.SetTransform(sitk.AffineTransform(mapping[:3, :3].ravel().tolist(), mapping[:3, 3].tolist()))
    resampler.SetInterpolator(sitk.sitkLinear if interpolation == "linear" else sitk.sitkNearestNeighbor)
    if outside is None:
        resampler.SetUseNearestNeighborExtrapolator(True)
    else:
        resampler.SetDefaultPixelValue(float(outside))
    result = sitk.GetArrayFromImage(resampler.Execute(image)).transpose(2, 1, 0)
    return np.ascontiguousarray(result.astype(dtype, copy=False))
