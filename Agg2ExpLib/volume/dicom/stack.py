"""Slices checked against each other and put in order along one common normal.

A slice that does not fit is refused with its name and place: a number computed on a scan that was put together wrongly is
worse than none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from Agg2ExpLib.volume.dicom.headers import Plane
from Agg2ExpLib.volume.headers import refuse

#: Millimetres by which a place may differ from the straight and even stack.
TOLERANCE = 0.1
# Two slices nearer than this share of the usual distance lie at the same place.
_SAME_PLACE = 0.01
# Several slices nearer than this share of the usual distance are of two volumes; one may be a block's overlap.
_NEAR = 0.1
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MISSING = {
    "position": "place in the patient (ImagePositionPatient)",
    "axes": "orientation (ImageOrientationPatient)",
    "spacing": "pixel size (PixelSpacing)",
}


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices in order along their normal.

    Attributes
    ----------
    planes : tuple of Plane
        The lowest along the normal first.
    places : ndarray of shape (n,)
        Millimetres along the normal from the first slice.
    even : ndarray of shape (m,)
        The places of an even stack that covers them.
    uneven : bool
        The slices do not lie at the even places and have to be interpolated.
    shifts : ndarray of shape (n, 2) or None
        How far slices lie aside, in pixels along rows and columns, when a tilted gantry was found.
    affine : ndarray of shape (4, 4)
        Of the straight and even stack, index (column, row, slice) to RAS millimetres.
    tilt : float
        Degrees.
    """

    planes: tuple[Plane, ...]
    places: np.ndarray
    even: np.ndarray
    uneven: bool
    shifts: np.ndarray | None
    affine: np.ndarray
    tilt: float


def stacked(path: Path, planes: Sequence[Plane], notes: list[str]) -> Stack:
    """Check slices and sort them.

    Parameters
    ----------
    path : Path
        What the user gave, for sentences.
    planes : sequence of Plane
        In any order.
    notes : list of str
        A sentence is added for uneven places and for a tilt.

    Raises
    ------
    InputError
        The slices do not make one volume.
    """
    _check_complete(path, planes)
    usual = _check_alike(path, planes)
    assert usual.axes is not None and usual.spacing is not None
    row, column = usual.axes / np.linalg.norm(usual.axes, axis=1)[:, None]
    normal = np.cross(row, column)
    normal /= np.linalg.norm(normal)
    positions = np.array([plane.position for plane in planes])
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    ordered = tuple(planes[index] for index in order)
    positions, places = positions[order], along[order] - along[order[0]]
    _check_apart(path, ordered, places)
    aside, slope = _aside(path, ordered, positions, places, np.stack([row, column]))
    tilt = float(np.degrees(np.arctan(np.linalg.norm(slope))))
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = row * usual.spacing[0], column * usual.spacing[1]
    affine[:3, 3] = positions[0]
    even, uneven = _even(path, ordered, places, notes)
    affine[:3, 2] = normal * (even[1] - even[0] if len(even) > 1 else 1.0)
    if aside is not None:
        notes.append(
            f"The gantry was tilted by {tilt:.1f} degrees; each slice was moved within its plane to a straight grid, and what "
            "no slice reaches is air."
        )
    shifts = None if aside is None else aside / usual.spacing
    return Stack(ordered, places, even, uneven, shifts, _LPS_TO_RAS @ affine, tilt)


def placed_planes(path: Path, planes: Sequence[Plane], step: float, thickness: float) -> tuple[np.ndarray, np.ndarray]:
    """Return which slice of an even stack each plane is: several may be the same one, and some may have no plane.

    Parameters
    ----------
    path : Path
        For sentences.
    planes : sequence of Plane
        In any order.
    step : float
        Millimetres between slices as the file tells them; 0 when it does not.
    thickness : float
        Millimetres, for planes that all lie at one place; 0 when the file tells none. Slices may be thinner than their
        distance, so it is no step.

    Returns
    -------
    ndarray of int, shape (n,)
        From 0, along the normal.
    ndarray of shape (4, 4)
        Index (column, row, slice) to RAS millimetres.

    Raises
    ------
    InputError
        The planes do not belong to one straight and even stack.
    """
    _check_complete(path, planes)
    usual = _check_alike(path, planes)
    assert usual.axes is not None and usual.spacing is not None
    row, column = usual.axes / np.linalg.norm(usual.axes, axis=1)[:, None]
    normal = np.cross(row, column)
    positions = np.array([plane.position for plane in planes])
    along = positions @ normal
    places = along - along.min()
    first = positions[int(along.argmin())]
    aside = np.linalg.norm(positions - first - places[:, None] * normal, axis=1)
    if aside.max() > TOLERANCE:
        odd = planes[int(aside.argmax())]
        refuse(
            path, f"{odd.name} lies {aside.max():.3g} mm aside of the other slices", "resample it to a straight grid"
        )
    gaps = np.diff(np.unique(places.round(3)))
    gaps = gaps[gaps > _SAME_PLACE]
    tries = [step, *((gaps.min() / parts for parts in range(1, 5)) if len(gaps) else (thickness or 1.0,))]
    fits = [
        one for one in tries if one > 0 and abs(places - np.rint(places / one) * one).max() <= min(TOLERANCE, 0.2 * one)
    ]
    if not fits:
        refuse(path, f"its slices lie at uneven places ({gaps.min():.3g} to {gaps.max():.3g} mm apart)", "resample it")
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = row * usual.spacing[0], column * usual.spacing[1]
    affine[:3, 2], affine[:3, 3] = normal * fits[0], first
    return np.rint(places / fits[0]).astype(int), _LPS_TO_RAS @ affine


def _check_complete(path: Path, planes: Sequence[Plane]) -> None:
    for name, words in _MISSING.items():
        lacking = [plane for plane in planes if getattr(plane, name) is None]
        if lacking:
            refuse(path, f"{_some(lacking)} without {words}", "export the series again with its geometry")
    for plane in planes:
        assert plane.position is not None and plane.spacing is not None and plane.axes is not None
        if not (np.isfinite(plane.spacing).all() and (plane.spacing > 0).all()):
            spacing = " x ".join(f"{value:g}" for value in plane.spacing)
            cause = f"the voxel spacing of {plane.name} is zero, negative or no number ({spacing} mm)"
            refuse(path, cause, "export the series with its spacing")
        lengths = np.linalg.norm(plane.axes, axis=1)
        straight = abs(lengths - 1).max() < 1e-2 and abs(plane.axes[0] @ plane.axes[1]) < 1e-2
        if not (np.isfinite(plane.position).all() and straight):
            refuse(path, f"{plane.name} states an impossible place or orientation", "export the series again")


def _check_alike(path: Path, planes: Sequence[Plane]) -> Plane:
    """Refuse a slice unlike most others; return one of those."""
    size, count = Counter(plane.size for plane in planes).most_common(1)[0]
    if count < len(planes):
        odd = [plane for plane in planes if plane.size != size]
        told = " x ".join(map(str, odd[0].size))
        cause = f"{_some(odd)} of another size ({told} pixels, most slices have {' x '.join(map(str, size))})"
        refuse(path, cause, "keep the slices of one volume")
    extent = np.array(size)
    spacings = np.array([plane.spacing for plane in planes])
    usual = int(np.argmin(abs(spacings - np.median(spacings, axis=0)).sum(axis=1)))
    wrong = (abs(spacings - spacings[usual]) * extent).max(axis=1) > TOLERANCE
    if wrong.any():
        odd = [plane for plane, is_odd in zip(planes, wrong, strict=True) if is_odd]
        told = " x ".join(f"{value:g}" for value in spacings[wrong][0])
        most = " x ".join(f"{value:g}" for value in spacings[usual])
        refuse(
            path, f"{_some(odd)} with another pixel size ({told} mm, most have {most} mm)", "keep one volume's slices"
        )
    axes = np.array([plane.axes for plane in planes])
    usual = int(np.argmin(abs(axes - np.median(axes, axis=0)).sum(axis=(1, 2))))
    reach = np.linalg.norm(axes - axes[usual], axis=2) * spacings[usual] * extent
    wrong = reach.max(axis=1) > TOLERANCE
    if wrong.any():
        odd = [plane for plane, is_odd in zip(planes, wrong, strict=True) if is_odd]
        refuse(path, f"{_some(odd)} with another orientation than most", "keep the slices of one volume")
    return planes[usual]


def _check_apart(path: Path, planes: Sequence[Plane], places: np.ndarray) -> None:
    gaps = np.diff(places)
    if not len(gaps):
        return
    apart = gaps[gaps > 1e-3]
    close = np.flatnonzero(gaps <= max(1e-3, _SAME_PLACE * float(np.median(apart)) if len(apart) else 1e-3))
    if len(close):
        one, other = planes[close[0]], planes[close[0] + 1]
        more = f" and {len(close) - 1} more pairs do so" if len(close) > 1 else ""
        refuse(
            path,
            f"{one.name} and {other.name} are different slices at the same place, {one.place}{more} (several time points or "
            "phases, or a slice sent again?)",
            "keep one slice for each place, or export one time point",
        )
    near = np.flatnonzero(gaps < _NEAR * np.quantile(gaps, 0.75))
    if len(near) > 2:
        one, other = planes[near[0]], planes[near[0] + 1]
        refuse(
            path,
            f"{one.name} and {other.name} lie only {gaps[near[0]]:.3g} mm apart, at {one.place}, and {len(near) - 1} more "
            f"pairs so near, where others lie {np.quantile(gaps, 0.75):.3g} mm apart (several time points or acquisitions?)",
            "keep the slices of one of them, or choose another series with --series",
        )


def _aside(
    path: Path, planes: Sequence[Plane], positions: np.ndarray, places: np.ndarray, axes: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray]:
    """Millimetres by which slices lie aside along rows and columns when a tilt explains it, and the tilt's slope."""
    aside = (positions - positions[0]) @ axes.T
    if abs(aside).max() <= TOLERANCE or len(places) < 3:
        if abs(aside).max() > TOLERANCE:
            refuse(path, f"{planes[-1].name} does not lie above {planes[0].name}", "export the series again")
        return None, np.zeros(2)
    # A line through the first place: the median of slopes does not mind a single slice that lies wrong.
    slope = np.median(np.diff(aside, axis=0) / np.diff(places)[:, None], axis=0)
    steps = np.diff(aside, axis=0) - np.diff(places)[:, None] * slope
    off = np.flatnonzero(abs(steps).max(axis=1) > TOLERANCE)
    if len(off):
        one, other = planes[off[0]], planes[off[0] + 1]
        refuse(
            path,
            f"{other.name} at {other.place} lies {np.linalg.norm(steps[off[0]]):.3g} mm aside of {one.name} at {one.place} (a "
            "shifted table, or another field of view?)",
            "keep the slices of one volume",
        )
    fitted = np.linalg.lstsq(np.stack([places, np.ones_like(places)], axis=1), aside, rcond=None)[0]
    if abs(aside - np.stack([places, np.ones_like(places)], axis=1) @ fitted).max() > TOLERANCE:
        refuse(path, "the slices drift aside unevenly", "resample them to a straight grid")
    # Every slice is moved by what its own header says.
    return aside, fitted[0]


def _even(path: Path, planes: Sequence[Plane], places: np.ndarray, notes: list[str]) -> tuple[np.ndarray, bool]:
    """The places of the even stack, and whether the slices lie elsewhere; a note when slices have to be interpolated for it."""
    gaps = np.diff(places)
    if not len(gaps):
        return places, False
    step = places[-1] / len(gaps)
    regular = step * np.arange(len(places))
    if abs(places - regular).max() <= min(TOLERANCE, 0.2 * step):
        return regular, False
    usual = float(np.median(gaps))
    count = round(places[-1] / usual) + 1
    widest = int(gaps.argmax())
    between = f"{planes[widest].name} and {planes[widest + 1].name}"
    if count > 2 * len(places):
        cause = f"more slices are missing than there are; the widest gap, {gaps.max():.3g} mm, is between {between}"
        refuse(path, cause, "export the series again, or one part of it")
    notes.append(
        f"The slices are not evenly spaced ({gaps.min():.3g} to {gaps.max():.3g} mm, the widest gap between {between}); "
        f"slices may be missing. {count} even slices were interpolated from {len(places)}, so that every place is right."
    )
    return places[-1] / (count - 1) * np.arange(count), True


def _some(planes: Sequence[Plane]) -> str:
    """Name slices in a sentence that goes on with what they are."""
    first = planes[0]
    where = f" at {first.place}" if first.position is not None else ""
    if len(planes) == 1:
        return f"{first.name}{where} is a slice"
    return f"{first.name}{where} and {len(planes) - 1} more are slices"
