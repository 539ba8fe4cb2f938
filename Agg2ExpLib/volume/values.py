"""What the numbers of a scan, a label map or a map must be, and what is repaired or told when they are not."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from Agg2ExpLib.volume.headers import Claim, refuse

#: Hounsfield units that stand in for voxels without a number: air.
AIR_HU = -1024.0
_BLOCK = 1 << 22  # numbers read at one time


def with_lost_nans(claim: Claim, array: np.ndarray) -> np.ndarray:
    """Put back the NaN and infinite voxels of a NIfTI file, which ITK silently reads as 0."""
    wrong = []
    number = np.dtype(claim.floats)
    with gzip.open(claim.data) if claim.encoding == "whole-file gzip" else claim.data.open("rb") as stream:
        stream.seek(claim.offset)
        done = 0
        while done < array.size and (block := stream.read(min(_BLOCK, (array.size - done)) * number.itemsize)):
            values = np.frombuffer(block, dtype=number)
            wrong.append(np.flatnonzero(~np.isfinite(values)) + done)
            done += len(values)
    places = np.concatenate(wrong) if wrong else np.empty(0, dtype=np.int64)
    if not len(places):
        return array
    restored = np.array(array, dtype=np.float64 if array.dtype.itemsize == 8 else np.float32, order="F")
    restored.ravel(order="K")[places] = np.nan
    return restored


def as_ct(path: Path, array: np.ndarray, notes: list[str]) -> np.ndarray:
    """Return Hounsfield units as float32; voxels without a number become air, and what looks odd is noted."""
    voxels = np.ascontiguousarray(array, dtype=np.float32)
    if array.dtype.kind == "f":
        wrong = ~np.isfinite(voxels)
        count = int(wrong.sum())
        if count == voxels.size:
            refuse(path, "no voxel holds a number (all are NaN or infinite)", "export the scan again")
        if count:
            voxels[wrong] = AIR_HU
            verb = "voxel was no number and was" if count == 1 else "voxels were no numbers and were"
            notes.append(f"{count} {verb} set to {AIR_HU:g} HU.")
    notes.extend(_odd_intensities(float(voxels.min()), float(voxels.max())))
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
        refuse(path, "the label map holds voxels that are no numbers", "save it again with whole numbers")
    if array.dtype.kind == "f" and not np.array_equal(array, np.rint(array)):
        refuse(path, "the label map holds fractions", "give labels as whole numbers, resampled by nearest neighbour")
    if low < 0 or high > np.iinfo(np.int32).max:
        refuse(
            path, f"the values run from {low:g} to {high:g}, so this is no label map", "give whole numbers from 0 on"
        )
    return np.ascontiguousarray(array, dtype=np.int16 if high <= np.iinfo(np.int16).max else np.int32)


def as_map(path: Path, array: np.ndarray, notes: list[str]) -> np.ndarray:
    """Return finite float32 values of any range, or refuse."""
    voxels = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(voxels).all():
        refuse(path, "the map holds voxels that are no numbers", "compute it again")
    return voxels
