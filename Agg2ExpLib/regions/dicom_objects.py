"""DICOM segmentations and structure sets: which files are one, and their segments as regions."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.regions.contours import contour_regions
from Agg2ExpLib.regions.label_maps import numbered
from Agg2ExpLib.regions.region import Region
from Agg2ExpLib.volume import Grid, is_dicom, refuse
from Agg2ExpLib.volume.dicom import (
    LABEL_MAP,
    SEGMENTATION,
    STRUCTURE_SET,
    files_of,
    found_in,
    frames_of,
    placed_planes,
    plane_of,
    quiet_pydicom,
    stored_pixels,
    text_of,
)

_KINDS = (SEGMENTATION, LABEL_MAP, STRUCTURE_SET)


def objects_of(path: Path) -> list[Path]:
    """Return the files of a folder, or the file itself, that are DICOM segmentations or structure sets."""
    return [file for file in files_of(path) if is_dicom(file) and _class_of(file) in _KINDS]


def _class_of(path: Path) -> str:
    with quiet_pydicom() as pydicom:
        try:
            return text_of(
                pydicom.dcmread(path, specific_tags=["SOPClassUID"], stop_before_pixels=True, force=True), "SOPClassUID"
            )
        # Damaged headers make pydicom raise almost anything; such a file is no segmentation to us.
        except Exception:
            return ""


def read_object(path: Path) -> list[Region]:
    """Return the segments of a DICOM segmentation, or the contoured regions of a structure set.

    Raises
    ------
    InputError
        Damaged, without places, or of a kind that cannot be read exactly.
    """
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    with quiet_pydicom() as pydicom:
        try:
            data = pydicom.dcmread(io.BytesIO(content), force=True)
            kind = text_of(data, "SOPClassUID")
            if kind == STRUCTURE_SET:
                return numbered(contour_regions(path, data, sha256))
            segments = _segments(data)
            sources = frames_of(data)
            planes = [
                plane_of(path, number, (int(data.Columns), int(data.Rows)), one) for number, one in enumerate(sources)
            ]
            step = float(next((found_in(one, "SpacingBetweenSlices") or 0.0 for one in sources), 0.0))
            thickness = float(next((found_in(one, "SliceThickness") or 0.0 for one in sources), 0.0))
            numbers = [int(found_in(one, "ReferencedSegmentNumber") or 0) for one in sources]
            threshold = float(data.get("MaximumFractionalValue") or 0) / 2
        except InputError:
            raise
        # Damaged elements make pydicom raise almost anything, some only when they are asked for.
        except Exception:
            refuse(path, "the DICOM segmentation or structure set is damaged", "export it again")
    if not planes:
        refuse(path, "the DICOM segmentation has no frames", "export it again")
    frames = stored_pixels(path, data)
    slices, affine = placed_planes(path, planes, abs(step), abs(thickness))
    shape = (int(data.Columns), int(data.Rows), int(slices.max()) + 1)
    made = _Made(path, Grid(shape, affine), sha256, text_of(data, "FrameOfReferenceUID"))
    label_map = kind == LABEL_MAP or text_of(data, "SegmentationType") == "LABELMAP"
    note: tuple[str, ...] = ()
    fractions = text_of(data, "SegmentationType") == "FRACTIONAL"
    if fractions:
        note = (f"{path.name} holds fractions; a voxel is inside where it is at least half.",)
    taken = float(np.linalg.norm(affine[:3, 2]))
    if slices.any() and not step and thickness and abs(abs(thickness) - taken) > 0.1 * taken:
        told = f"{path.name} says no spacing between slices; its frames are {abs(thickness):.4g} mm thick but lie {taken:.4g} mm "
        note = (*note, f"{told}apart, and each was taken to reach {taken:.4g} mm.")
    regions = []
    stored = frames >= threshold if fractions else frames
    for number, name in segments:
        if label_map:
            regions.append(made.region(name, stored == number, slices, note))
        else:
            which = [at for at, one in enumerate(numbers) if one == number]
            regions.append(made.region(name, stored[which] > 0, slices[which], note))
    return numbered(regions)


class _Made:
    """Makes regions of one segmentation's frames."""

    def __init__(self, path: Path, grid: Grid, sha256: str, frame_of_reference: str) -> None:
        self._path, self._grid, self._sha256, self._frame = path, grid, sha256, frame_of_reference

    def region(self, name: str, inside: np.ndarray, slices: np.ndarray, notes: tuple[str, ...]) -> Region:
        """Return the region of frames (n, rows, columns) at these slices of the grid."""
        low, high = (int(slices.min()), int(slices.max()) + 1) if len(slices) else (0, 1)
        columns, rows, _ = self._grid.shape
        mask = np.zeros((columns, rows, high - low), dtype=bool)
        for frame, k in zip(inside, slices, strict=True):
            mask[:, :, k - low] |= frame.T
        return Region.from_mask(
            name,
            mask,
            self._grid,
            first=(0, 0, low),
            source=str(self._path),
            sha256=self._sha256,
            frame_of_reference=self._frame,
            notes=notes,
        )


def _segments(data: Any) -> Sequence[tuple[int, str]]:
    """Number and label of each segment; that numbered 0 in a label map is background."""
    return [
        (number, text_of(one, "SegmentLabel") or f"segment {number}")
        for one in data.SegmentSequence
        if (number := int(one.get("SegmentNumber") or 0)) > 0
    ]
