"""DICOM structure sets (RTSTRUCT): contours drawn slice by slice, filled to voxels.

A contour has no voxels of its own. It is filled on a grid along its own planes: a slice for each plane, and pixels of a
quarter of a millimetre, larger only where a structure would need too many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from Agg2ExpLib.regions.region import Region
from Agg2ExpLib.volume import Grid, refuse
from Agg2ExpLib.volume.dicom import found_in, text_of

_PIXELS = (0.25, 0.5, 1.0)  # millimetres, the finest that is not too many
_MOST_VOXELS = 100_000_000
_FLAT = 0.1  # millimetres that a point may lie off its contour's plane
_PARALLEL = 0.9999  # cosine between the planes' normal and an axis of the scan
_XOR = ("CLOSEDPLANAR_XOR", "CLOSED_PLANAR_XOR")
_CLOSED = ("CLOSED_PLANAR", *_XOR)

# A filled contour: its columns, its rows, and which pixels of them are inside.
_Part = tuple[slice, slice, np.ndarray]


def contour_regions(path: Path, data: Any, sha256: str) -> list[Region]:
    """Return the regions of a structure set that pydicom has read.

    Raises
    ------
    InputError
        Contours that do not lie in parallel planes, or no closed contour at all.
    """
    drawn: dict[int, list[Any]] = {}
    for one in data.get("ROIContourSequence") or ():
        drawn.setdefault(int(one.ReferencedROINumber), []).extend(one.get("ContourSequence") or ())
    structures = [_structure(path, roi, drawn) for roi in data.get("StructureSetROISequence") or ()]
    if not structures:
        refuse(path, "the structure set has no contoured region", "export it again")
    smallest = min((gap for one in structures if (gap := _gap(one.places))), default=0.0)
    return [_filled(path, one, smallest, sha256) for one in structures]


@dataclass(frozen=True)
class _Structure:
    """The closed contours of one structure: points along two axes within the planes and along their normal."""

    name: str
    axes: np.ndarray
    flat: tuple[np.ndarray, ...]
    places: np.ndarray
    slab: float
    xor: bool
    frame: str
    notes: tuple[str, ...]


def _structure(path: Path, roi: Any, drawn: Mapping[int, Sequence[Any]]) -> _Structure:
    name = text_of(roi, "ROIName") or f"region {int(roi.ROINumber)}"
    given = drawn.get(int(roi.ROINumber), ())
    closed = [one for one in given if text_of(one, "ContourGeometricType").upper() in _CLOSED]
    left = len(given) - len(closed)
    notes = (f"{name}: {left} points or open lines enclose nothing and were left out.",) if left else ()
    slab = float((found_in((given[0],), "ContourSlabThickness") if given else 0) or 0)
    read = [np.array([float(value) for value in one.ContourData]).reshape(-1, 3) for one in closed]
    contours = [points for points in read if len(points) >= 3]
    axes = _axes(contours) if contours else np.eye(3)
    flat = tuple(points @ axes.T for points in contours)
    bent = max((float(np.ptp(points[:, 2])) for points in flat), default=0.0)
    if bent > 2 * _FLAT:
        cause = f"the contours of {name} do not lie in parallel planes (off by {bent:.3g} mm)"
        refuse(path, cause, "export it as a segmentation")
    places = np.array([points[:, 2].mean() for points in flat])
    xor = any(text_of(one, "ContourGeometricType").upper() in _XOR for one in closed)
    return _Structure(name, axes, flat, places, slab, xor, text_of(roi, "ReferencedFrameOfReferenceUID"), notes)


def _filled(path: Path, drawn: _Structure, smallest: float, sha256: str) -> Region:
    about: dict[str, Any] = {"source": str(path), "sha256": sha256, "frame_of_reference": drawn.frame}
    name, flat, places = drawn.name, drawn.flat, drawn.places
    if not flat:
        empty = np.zeros((1, 1, 1), dtype=bool)
        return Region.from_mask(name, empty, Grid((1, 1, 1), np.eye(4)), notes=drawn.notes, **about)
    slices, step, why = _slices(path, drawn, smallest)
    low = np.min([points[:, :2].min(axis=0) for points in flat], axis=0)
    high = np.max([points[:, :2].max(axis=0) for points in flat], axis=0)
    count = int(slices.max()) + 1
    fine = (one for one in _PIXELS if np.prod((high - low) / one + 3) * count <= _MOST_VOXELS)
    pixel = next(fine, 0.0)
    if not pixel:
        wide = " x ".join(f"{size:.3g}" for size in high - low)
        refuse(path, f"the contours of {name} span {wide} mm on {count} planes", "export it again")
    columns, rows = (int(size) for size in np.ceil((high - low) / pixel) + 2)
    if columns * rows * count > 10 * _MOST_VOXELS:
        refuse(path, f"the contours of {name} span {columns * rows * count:.2g} voxels", "check its coordinates")
    mask = np.zeros((columns, rows, count), dtype=bool)
    twice = joined = 0
    for k in np.unique(slices):
        corners = [(flat[n][:, :2] - low) / pixel + 0.5 for n in np.flatnonzero(slices == k)]
        mask[:, :, k], equal, overlapping = _enclosed(corners, (columns, rows), drawn.xor)
        twice, joined = twice + equal, joined + overlapping
    notes = list(drawn.notes)
    if twice:
        notes.append(f"{name}: {twice} contours equal another one on their slice and were left out.")
    if joined:
        notes.append(
            f"{name}: contours overlap in part on {joined} slices; what any of them encloses was taken as inside."
        )
    affine = np.eye(4)
    affine[:3, :3] = drawn.axes.T * (pixel, pixel, step)
    affine[:3, 3] = drawn.axes.T @ [*(low - 0.5 * pixel), places.min()]
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    region = Region.from_mask(name, mask, Grid((columns, rows, count), affine), notes=tuple(notes), **about)
    return replace(region, slab=_slab_told(name, step, why, slices))


def _slab_told(name: str, step: float, why: str, slices: np.ndarray) -> str:
    told = f"{name}: each contour was taken to be {step:.4g} mm thick, {why}."
    missing = int(np.ptp(slices)) + 1 - len(np.unique(slices))
    if missing:
        told += f" It has no contour on {missing} slices between its first and its last; they are empty."
    return told


def as_thick_as_slices(region: Region, scan: Grid) -> Region:
    """Return a contoured region with each contour as thick as the scan's slices, where it was drawn on such slices.

    A contour says where its plane is, not how far it reaches. The gap to the next one tells that only where every slice has
    a contour.
    """
    across = region.grid.affine[:3, 2]
    step = float(np.linalg.norm(across))
    cosines = abs(across / step @ (scan.affine[:3, :3] / scan.spacing))
    axis = int(np.argmax(cosines))
    spacing = float(scan.spacing[axis])
    full = np.flatnonzero(region.inside.any(axis=(0, 1)))
    places = (full + region.box[2].start) * step
    slices = np.rint(places / spacing).astype(int)
    apart = abs(places - slices * spacing).max(initial=0.0) > max(_FLAT, 0.1 * spacing)
    if not len(full) or cosines[axis] < _PARALLEL or apart or len(np.unique(slices)) < len(full):
        return region
    first, count = int(slices.min()), int(np.ptp(slices)) + 1
    # Many empty slices between contours must not take the memory: coarser pixels then, by whole numbers.
    every = next((one for one in (1, 2) if region.inside[::one, ::one, 0].size * count <= _MOST_VOXELS), 4)
    starts = [part.start + -part.start % every for part in region.box[:2]]
    kept = [slice(start - part.start, None, every) for start, part in zip(starts, region.box[:2], strict=True)]
    drawn = region.inside[kept[0], kept[1]]
    inside = np.zeros((*drawn.shape[:2], count), dtype=bool)
    inside[:, :, slices - first] = drawn[:, :, full]
    i, j = (start // every for start in starts)
    affine = region.grid.affine.copy()
    affine[:3, :3] *= (every, every, spacing / step)
    columns, rows = (-(-size // every) for size in region.grid.shape[:2])
    return replace(
        region,
        inside=inside,
        box=(slice(i, i + inside.shape[0]), slice(j, j + inside.shape[1]), slice(first, first + count)),
        grid=Grid((columns, rows, first + count), affine),
        slab=_slab_told(region.name, spacing, "the scan's distance of slices", slices),
    )


def _axes(contours: Sequence[np.ndarray]) -> np.ndarray:
    """Rows: two directions within the planes, and their normal."""
    largest = max(contours, key=lambda points: float(np.ptp(points, axis=0).sum()))
    normal = np.linalg.svd(largest - largest.mean(axis=0), full_matrices=False)[2][2]
    # The patient's own axes where the planes run along them: no rounding by a rotation of almost nothing.
    if abs(normal).max() > 1 - 1e-6:
        normal = np.rint(normal)
    normal = normal * np.sign(normal[np.argmax(abs(normal))])
    along = np.eye(3)[int(np.argmin(abs(normal)))]
    first = along - (along @ normal) * normal
    first /= np.linalg.norm(first)
    return np.array([first, np.cross(normal, first), normal])


def _gap(places: np.ndarray) -> float:
    """The usual one of the smallest distances between planes; 0 with a single plane."""
    apart = np.diff(np.sort(places))
    apart = apart[apart > _FLAT]
    return float(np.median(apart[apart < 1.5 * apart.min()])) if len(apart) else 0.0


def _slices(path: Path, drawn: _Structure, smallest: float) -> tuple[np.ndarray, float, str]:
    """Which slice each contour is in, the thickness of slices, and why it was taken."""
    own = _gap(drawn.places)
    places = drawn.places - drawn.places.min()
    tries = [
        (drawn.slab, "as the structure set says"),
        (smallest, "the smallest distance of contours in the structure set"),
        (own, "the smallest distance of its own contours"),
        (0.0 if own else 1.0, "because the structure set says no thickness"),
    ]
    for stated, why in tries:
        if not stated > 0 or (own and stated > 1.1 * own):
            continue
        last = int(np.rint(places.max() / stated))
        # Distances of two contours are rounded; that of the first and the last tells the step better.
        step = float(places.max() / last) if last and stated != drawn.slab else stated
        slices = np.rint(places / step).astype(int)
        if abs(places - slices * step).max() <= max(_FLAT, 0.1 * step):
            return slices, step, why
    apart = np.diff(np.sort(places))
    apart = apart[apart > _FLAT]
    cause = f"the contours of {drawn.name} lie at uneven places ({apart.min():.3g} to {apart.max():.3g} mm apart)"
    refuse(path, cause, "export it as a segmentation")


def _enclosed(corners: Sequence[np.ndarray], shape: tuple[int, int], xor: bool) -> tuple[np.ndarray, int, bool]:
    """Return what contours of one slice enclose, how many equal another one, and whether some overlap in part.

    A contour wholly within another one is a hole (and one within a hole is solid again); others are joined, unless the
    file asks for the exclusive or.
    """
    parts = _largest_first(corners, shape)
    within, equal, overlapping = _nested(parts, shape)
    depth: list[int] = []
    for outers in within:
        depth.append(1 + max((depth[outer] for outer in outers), default=-1))
    result = np.zeros(shape, dtype=bool)
    for number, (columns, rows, filled) in enumerate(parts):
        if number in equal:
            continue
        if xor:
            result[columns, rows] ^= filled
        elif depth[number] % 2 == 0:
            solid = np.zeros(shape, dtype=bool)
            solid[columns, rows] = filled
            for hole, outers in enumerate(within):
                if number in outers and depth[hole] == depth[number] + 1:
                    solid[parts[hole][:2]] &= ~parts[hole][2]
            result |= solid
    return result, len(equal), overlapping and not xor


def _largest_first(corners: Sequence[np.ndarray], shape: tuple[int, int]) -> list[_Part]:
    parts = []
    for points in corners:
        low = np.floor(points.min(axis=0)).astype(int).clip(0)
        high = (np.ceil(points.max(axis=0)).astype(int) + 1).clip(low, shape)
        # One that touches itself to go around a hole leaves it out.
        inside = fill_polygon(points - low, (int(high[0] - low[0]), int(high[1] - low[1])))
        if inside.any():
            parts.append((slice(low[0], high[0]), slice(low[1], high[1]), inside))
    return sorted(parts, key=lambda part: -int(part[2].sum()))


def _nested(parts: Sequence[_Part], shape: tuple[int, int]) -> tuple[list[list[int]], set[int], bool]:
    """Which parts each one lies within, which equal an earlier one, and whether some overlap otherwise."""
    within: list[list[int]] = [[] for _ in parts]
    equal: set[int] = set()
    overlapping = False
    sizes = [int(filled.sum()) for _, _, filled in parts]
    for outer, (columns, rows, filled) in enumerate(parts[:-1]):
        if outer in equal:
            continue
        whole = np.zeros(shape, dtype=bool)
        whole[columns, rows] = filled
        for inner in range(outer + 1, len(parts)):
            shared = int((whole[parts[inner][:2]] & parts[inner][2]).sum())
            if shared == sizes[inner] == sizes[outer]:
                equal.add(inner)
            elif shared == sizes[inner]:
                within[inner].append(outer)
            elif shared:
                overlapping = True
    return within, equal, overlapping


def fill_polygon(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return which pixel centres lie inside a closed polygon, by the even-odd rule.

    Parameters
    ----------
    points : ndarray of shape (n, 2)
        Corners in pixels; whole numbers are pixel centres.
    shape : tuple of int
        Pixels along both axes.

    Examples
    --------
    >>> fill_polygon(np.array([[0.5, 0.5], [2.5, 0.5], [2.5, 2.5], [0.5, 2.5]]), (4, 4)).sum()
    np.int64(4)
    """
    crossings = np.zeros((shape[0] + 1, shape[1]), dtype=np.int32)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if y0 == y1:
            continue
        (xa, ya), (xb, yb) = ((x0, y0), (x1, y1)) if y0 < y1 else ((x1, y1), (x0, y0))
        # Half-open, so that a corner between two edges counts once.
        rows = np.arange(max(int(np.ceil(ya)), 0), min(int(np.ceil(yb)), shape[1]))
        at = xa + (rows - ya) * (xb - xa) / (yb - ya)
        np.add.at(crossings, (np.ceil(at).astype(int).clip(0, shape[0]), rows), 1)
    return np.cumsum(crossings[:-1], axis=0) % 2 == 1
