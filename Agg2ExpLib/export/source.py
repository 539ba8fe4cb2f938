"""The DICOM series that a scan came from: found again, checked, and its headers for what is put beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.explanation.document import scan_of
from Agg2ExpLib.volume import Grid, file_sha256, read_volume, refuse, reorient
from Agg2ExpLib.volume.dicom import quiet_pydicom, series_files

# What every object of a study has, empty where nobody wrote it: anonymised files often lack some.
_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName"),
)
_IDENTIFIERS = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
_AS_RESCALED = 0.5


@dataclass(frozen=True)
class SourceSeries:
    """Headers of a series, pixels left out, and the grid of its slices."""

    headers: tuple[Any, ...]
    grid: Grid


def source_series(image: Mapping[str, Any], given: Path | None) -> SourceSeries:
    """Return the series of an explained scan.

    Parameters
    ----------
    image : mapping
        What explanation.json says of the scan.
    given : Path, optional
        Folder of the series, where it was moved, or where the scan is a file that was made from it.

    Raises
    ------
    InputError
        The scan was not read from DICOM and no series is named, the series is gone, or it is another one.
    """
    ids = image.get("dicom") or {}
    told = str(image.get("path") or "")
    if not ids and given is None:
        cause = f"{image['name']} was not read from DICOM, so there is no study to put its explanation into"
        raise InputError(f"{cause}; name the folder of the series that it was made from with --source, or write --html")
    path = given or Path(told)
    if not (given or told) or not path.exists():
        raise InputError(
            f"the DICOM series of {image['name']} is not at {path if given or told else 'a place that is known'}; "
            "name the folder where it is now with --source"
        )
    wanted = None
    if ids and (given is None or ids.get("series")):
        if scan_of(image, path) is None:
            refuse(path, "the DICOM series is not the one that was explained", "name its folder with --source")
        wanted = f"{ids.get('series', '')}:{ids['part']}" if ids.get("part") else ids.get("series") or None
        grid = Grid(tuple(image["shape"]), np.array(image["affine"]))
    else:
        grid = _checked_original(image, path)
    with quiet_pydicom() as pydicom:
        headers = [pydicom.dcmread(file, stop_before_pixels=True, force=True) for file in series_files(path, wanted)]
    for header in headers:
        for name in _EMPTY:
            if name not in header:
                setattr(header, name, None)
        if header.get("SliceThickness") is None:
            header.SliceThickness = grid.spacing[2]
    for header in headers:
        lacking = [name for name in _IDENTIFIERS if not header.get(name)]
        if lacking:
            cause = f"the series has no {lacking[0]}, so nothing can be put into its study"
            refuse(path, cause, "name a copy that has its identifiers with --source")
    return SourceSeries(tuple(headers), grid)


def _checked_original(image: Mapping[str, Any], folder: Path) -> Grid:
    """Compare a file with the series that it is said to be made from, voxel by voxel; return the series' grid."""
    path = Path(str(image.get("path") or ""))
    if not (image.get("path") and path.exists()) or file_sha256(path) != image.get("sha256"):
        raise InputError(
            f"{path} is not there as it was explained, so it cannot be compared with the series in {folder}; put it back"
        )
    series = read_volume(folder)
    scan, original = reorient(read_volume(path)), reorient(series)
    if not scan.grid.same_as(original.grid):
        refuse(folder, f"the series lies on another grid than {path.name}", "name the series that it was made from")
    apart = float(np.abs(scan.voxels.astype(np.float64) - original.voxels).max())
    if apart > _AS_RESCALED:
        cause = f"the series has other values than {path.name} (up to {apart:.4g} HU apart)"
        refuse(folder, cause, "name the series that it was made from")
    return series.grid
