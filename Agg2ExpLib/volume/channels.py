"""Several volumes of one patient: the files of nnU-Net's naming, and series that share a frame of reference."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.volume.grid import Grid
from Agg2ExpLib.volume.reading import READABLE, suffix_of
from Agg2ExpLib.volume.resampling import to_grid
from Agg2ExpLib.volume.volume import Volume

_NAMED = re.compile(r"(.+)_(\d{4})")


def channel_files(path: Path) -> list[Path]:
    """Return the files of a case in nnU-Net's naming (``CASE_0000.nii.gz``, ``CASE_0001.nii.gz`` ...), in their order.

    Parameters
    ----------
    path : Path
        A folder that holds one case, or ``FOLDER/CASE``.

    Returns
    -------
    list of Path
        Empty where nothing is named so; then the path is a scan of its own.

    Raises
    ------
    InputError
        A folder with several cases, or a channel that is missing.
    """
    folder, wanted = (path, None) if path.is_dir() else (path.parent, path.name)
    if path.is_file() or not folder.is_dir():
        return []
    cases: dict[str, dict[int, Path]] = {}
    for file in sorted(folder.iterdir()):
        ending = suffix_of(file, READABLE)
        match = _NAMED.fullmatch(file.name[: len(file.name) - len(ending)]) if ending else None
        if match and wanted in (None, match[1]):
            cases.setdefault(match[1], {})[int(match[2])] = file
    if not cases:
        return []
    if len(cases) > 1:
        names = ", ".join(sorted(cases)[:4])
        raise InputError(
            f"{path}: holds {len(cases)} cases ({names} ...); give one of them, such as {path / min(cases)}"
        )
    (found,) = cases.values()
    missing = sorted(set(range(max(found) + 1)) - set(found))
    if missing:
        raise InputError(f"{path}: channel {missing[0]:04} is missing beside {found[max(found)].name}; put it there")
    return [found[number] for number in sorted(found)]


def on_first_grid(images: Sequence[Volume]) -> tuple[Volume, ...]:
    """Return the volumes on the grid of the first, where DICOM says that they share its frame of reference; else as they are."""
    first = images[0]
    frame = first.dicom.frame_of_reference if first.dicom else ""
    return (first, *(_placed(image, first.grid, frame) for image in images[1:]))


def _placed(image: Volume, grid: Grid, frame: str) -> Volume:
    if not frame or image.dicom is None or image.dicom.frame_of_reference != frame or image.grid.same_as(grid):
        return image
    moved = to_grid(image, grid, outside=float(image.voxels.min()))
    note = "A series lies on another grid with the same frame of reference; it was resampled to that of the first."
    return replace(moved, source=image.source, notes=(*image.notes, note), sha256=image.sha256, dicom=image.dicom)
