"""DICOM structure sets (RTSTRUCT): contours drawn slice by slice, filled to voxels.

A contour has no voxels of its own. It is filled on a grid along its own planes: a slice for each plane, and pixels of a
quarter of a millimetre, larger only where a structure would need too many.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from Agg2ExpLib.regions.region import Region
from Agg2ExpLib.volume import Grid, refuse
from Agg2ExpLib.volume.dicom import found_in, text_of

_PIXELS = (0.25, 0.5, 1.0)  # millimetres, the finest that is not too many
_MOST_VOXELS = 100_000_000
_FLAT = 0.1  # millimetres that a point may lie off its contour's plane
_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR", "CLOSED_PLANAR_XOR")


def contour_regions(path: Path, data: Any, sha256: str) -> list[Region]:
    """Return the regions of a structure set that pydicom has read.

    Raises
    ------
    InputError
        Contours that do not lie in parallel planes, or no closed contour at all.
    """
    drawn = {
        int(one.ReferencedROINumber): one.get("ContourSequence") or () for one in data.get("ROIContourSequence") or ()
    }
    regions = []
    for roi in data.get("StructureSetROISequence") or ():
        name = text_of(roi, "ROIName") or f"region {int(roi.ROINumber)}"
        contours, open_ones = [], 0
        for one in drawn.get(int(roi.ROINumber), ()):
            if text_of(one, "ContourGeometricType").upper() in _CLOSED:
                contours.append(np.array([float(value) for value in one.ContourData]).reshape(-1, 3))
            else:
                open_ones += 1
        notes = (f"{name}: {open_ones} points or open lines enclose nothing and were left out.",) if open_ones else ()
        slab = next((found_in((one,), "ContourSlabThickness") for one in drawn.get(int(roi.ROINumber), ())), None)
        frame = text_of(roi, "ReferencedFrameOfReferenceUID")
        regions.append(_filled(path, name, contours, float(slab or 0), (sha256, frame), notes))
    if not regions:
        refuse(path, "the structure set has no contoured region", "export it again")
    return regions


def _filled(
    path: Path, name: str, contours: Sequence[np.ndarray], slab: float, ids: tuple[str, str], notes: tuple[str, ...]
) -> Region:
    about: dict[str, Any] = {"source": str(path), "sha256": ids[0], "frame_of_reference": ids[1]}
    contours = [points for points in contours if len(points) >= 3]
    if not contours:
        empty = np.zeros((1, 1, 1), dtype=bool)
        return Region.from_mask(name, empty, Grid((1, 1, 1), np.eye(4)), notes=notes, **about)
    axes = _axes(contours)
    flat = [points @ axes.T for points in contours]
    bent = max(float(np.ptp(points[:, 2])) for points in flat)
    if bent > 2 * _FLAT:
        cause = f"the contours of {name} do not lie in parallel planes (off by {bent:.3g} mm)"
        refuse(path, cause, "export it as a segmentation")
    places = np.array([points[:, 2].mean() for points in flat])
    slices, step, told = _slices(path, name, places, slab)
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
    for points, k in zip(flat, slices, strict=True):
        # A contour within another one is a hole, and one that touches itself to go around a hole leaves it out.
        mask[:, :, k] ^= fill_polygon((points[:, :2] - low) / pixel + 0.5, (columns, rows))
    affine = np.eye(4)
    affine[:3, :3] = axes.T * (pixel, pixel, step)
    affine[:3, 3] = axes.T @ [*(low - 0.5 * pixel), places.min()]
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    return Region.from_mask(name, mask, Grid((columns, rows, count), affine), notes=(*notes, *told), **about)


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


def _slices(path: Path, name: str, places: np.ndarray, slab: float) -> tuple[np.ndarray, float, tuple[str, ...]]:
    """Which slice each contour is in, the distance of slices, and what is to be told."""
    apart = np.diff(np.unique(places.round(2)))
    apart = apart[apart > _FLAT]
    if not len(apart):
        step = slab or 1.0
        told = () if slab else (f"{name} is drawn on one slice only and says no thickness; 1 mm was taken.",)
        return np.zeros(len(places), dtype=int), step, told
    step = float(np.median(apart[apart < 1.5 * apart.min()]))
    slices = np.rint((places - places.min()) / step).astype(int)
    if abs((places - places.min()) - slices * step).max() > max(_FLAT, 0.1 * step):
        cause = f"the contours of {name} lie at uneven places ({apart.min():.3g} to {apart.max():.3g} mm apart)"
        refuse(path, cause, "export it as a segmentation")
    missing = int(slices.max()) + 1 - len(np.unique(slices))
    told = (
        (f"{name} has no contour on {missing} slices between its first and its last; they are empty.",)
        if missing
        else ()
    )
    return slices, step, told


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
