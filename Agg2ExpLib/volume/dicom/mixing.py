"""Slices of one series that are not of one scan are refused, by what their headers say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from Agg2ExpLib.volume.dicom.headers import DicomFile
from Agg2ExpLib.volume.headers import refuse


def check_one_scan(path: Path, files: Sequence[DicomFile]) -> None:
    """Refuse slices of one series that do not belong to one scan.

    Raises
    ------
    InputError
        Two slices differ in what all slices of a scan share.
    """
    _check_one_rescaling(path, files)
    _check_one_frame_of_reference(path, files)


def _check_one_rescaling(path: Path, files: Sequence[DicomFile]) -> None:
    """Values without a rescale beside rescaled ones would be off by a thousand Hounsfield units."""
    planes = [plane for file in files for plane in file.planes]
    odd = max(planes, key=lambda plane: len(plane.unscaled))
    lacking = sum(plane.unscaled == odd.unscaled for plane in planes)
    if lacking < len(planes):
        more = f" and {lacking - 1} more slices have" if lacking > 1 else " has"
        cause = f"the slices differ in whether they have a rescale: {odd.name}{more} no {odd.unscaled}, others have"
        refuse(path, cause, "export the series again, with the rescale of every slice")


def _check_one_frame_of_reference(path: Path, files: Sequence[DicomFile]) -> None:
    found = {file.frame_of_reference: file for file in files}
    if len(found) > 1:
        one, other = list(found.values())[:2]
        cause = (
            f"{one.path.name} and {other.path.name} have different frames of reference, so their places do not compare"
        )
        refuse(path, cause, "keep the slices of one of them")
