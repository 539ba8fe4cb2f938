"""What the numbers of a scan, a label map, a mask or a map must be, and what is repaired or told when they are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from Agg2ExpLib.volume.headers import refuse

#: Hounsfield units that stand in for voxels without a finite value: air.
AIR_HU = -1024.0
# Labels that were stored with a slope come back as 2.9999; fractions of a resampled label map differ by far more.
_NEARLY_WHOLE = 0.01
# HU; nothing but air is so low.
_LIKE_AIR = -900.0


def as_ct(path: Path, array: np.ndarray, notes: list[str]) -> np.ndarray:
    """Return Hounsfield units as float32; voxels without a finite value become air, and what looks odd is noted."""
    voxels = _finite(path, array, notes, AIR_HU, " HU")
    notes.extend(_odd_intensities(float(voxels.min()), float(voxels.max())))
    return voxels


def as_scan(path: Path, array: np.ndarray, notes: list[str]) -> np.ndarray:
    """Return intensities of MR and the like as float32; voxels without a finite value become 0."""
    voxels = _finite(path, array, notes, 0.0, "")
    low, high = float(voxels.min()), float(voxels.max())
    if low == high:
        notes.append(f"All voxels have the same value, {low:g}.")
    elif low <= _LIKE_AIR:
        notes.append(
            f"The values run from {low:g} to {high:g}, as in CT, and the model does not take CT; check that this is its scan."
        )
    return voxels


def _finite(path: Path, array: np.ndarray, notes: list[str], instead: float, unit: str) -> np.ndarray:
    voxels = np.ascontiguousarray(array, dtype=np.float32)
    if array.dtype.kind == "f":
        wrong = ~np.isfinite(voxels)
        count = int(wrong.sum())
        if count == voxels.size:
            refuse(path, "no voxel holds a number (all are NaN or infinite)", "export the scan again")
        if count:
            voxels = np.where(wrong, np.float32(instead), voxels)
            verb = "voxel had no finite value and was" if count == 1 else "voxels had no finite value and were"
            notes.append(f"{count} {verb} set to {instead:g}{unit}.")
    return voxels


def _odd_intensities(low: float, high: float) -> list[str]:
    """A sentence when the values can hardly be Hounsfield units of a patient."""
    found = f"The values run from {low:g} to {high:g}"
    if low == high:
        return [f"All voxels have the same value, {low:g}."]
    if low < -32768 or high > 32767:
        return [f"{found}, beyond anything a CT scanner gives; check that they are Hounsfield units."]
    if high <= 0:
        return [f"{found}, so there is no soft tissue; check that they are Hounsfield units."]
    if low > -20:
        cause = "as in a CT that lost its offset of -1024" if high > 600 else "as in MR or in a scan scaled beforehand"
        return [f"{found}, {cause}; check that they are Hounsfield units."]
    return []


def as_labels(path: Path, array: np.ndarray, notes: list[str]) -> np.ndarray:
    """Return whole numbers from 0 on, or refuse."""
    low, high = array.min(), array.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        refuse(path, "the label map holds voxels without a finite value", "save it again with whole numbers")
    if array.dtype.kind == "f":
        array = _whole(path, array, notes)
        low, high = array.min(), array.max()
    if low < 0 or high > np.iinfo(np.int32).max:
        refuse(
            path, f"the values run from {low:g} to {high:g}, so this is no label map", "give whole numbers from 0 on"
        )
    return np.ascontiguousarray(array, dtype=np.int16 if high <= np.iinfo(np.int16).max else np.int32)


def _whole(path: Path, array: np.ndarray, notes: list[str]) -> np.ndarray:
    whole = np.rint(array)
    beside = abs(array - whole)
    if beside.max() > _NEARLY_WHOLE:
        refuse(path, "the label map holds fractions", "give labels as whole numbers, resampled by nearest neighbour")
    if beside.any():
        one = array[np.unravel_index(beside.argmax(), beside.shape)]
        notes.append(
            f"{path.name}: the values are not quite whole ({one:.6g}, as when saved with a scale) and were rounded."
        )
    return whole


def as_mask(path: Path, array: np.ndarray, notes: list[str]) -> np.ndarray:
    """Return 1 where the value is above 0, else 0; a value that a scale moved off 0 by less than 0.01 is 0."""
    if array.dtype.kind != "f":
        return np.ascontiguousarray(array > 0, dtype=np.uint8)
    if not np.isfinite(array).all():
        refuse(path, "the mask holds voxels without a finite value", "save it again with 0 and 1")
    whole = np.rint(array)
    if (abs(array - whole) <= _NEARLY_WHOLE).all() and (whole > 0).any():
        array = _whole(path, array, notes)
    return np.ascontiguousarray(array > 0, dtype=np.uint8)


def as_map(path: Path, array: np.ndarray, notes: list[str]) -> np.ndarray:
    """Return finite float32 values of any range, or refuse."""
    voxels = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(voxels).all():
        refuse(path, "the map holds voxels without a finite value", "compute it again")
    return voxels
