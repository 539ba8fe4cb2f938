"""Slices of one series that are not of one scan are refused, by what their headers say."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from Agg2ExpLib.volume.dicom.headers import DicomFile
from Agg2ExpLib.volume.headers import refuse

#: Where DicomFile.acquisition has it, and what it is called.
_ACQUISITIONS = (
    (0, "AcquisitionNumber"),
    (1, "TemporalPositionIdentifier"),
    (2, "AcquisitionTime"),
    (3, "ContentTime"),
)
_MOST_GROUPS, _FEWEST_SLICES = 50, 3


def check_one_scan(path: Path, files: Sequence[DicomFile]) -> None:
    """Refuse slices of one series that do not belong to one scan.

    Raises
    ------
    InputError
        Two slices differ in what all slices of a scan share.
    """
    patients = {file.patient: file for file in files if file.patient}
    if len(patients) > 1:
        one, other = list(patients.values())[:2]
        cause = f"{one.path.name} and {other.path.name} have different patients (PatientID) in one series"
        refuse(path, cause, "keep the slices of one patient")
    origins = {file.origin: file for file in files}
    if {"derived", "original"} <= set(origins):
        names = f"{origins['original'].path.name} is an original slice and {origins['derived'].path.name} a derived one"
        refuse(path, f"the series mixes kinds of pictures: {names}", "keep the slices of one kind")
    _check_one_rescaling(path, files)
    _check_one_acquisition(path, files)
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


def _check_one_acquisition(path: Path, files: Sequence[DicomFile]) -> None:
    """Refuse time points and acquisitions whose slices lie between each other's; blocks one after the other are one volume."""
    planes = [file.planes[0] for file in files]
    axes = planes[0].axes
    if axes is None or any(plane.frame >= 0 or plane.position is None for plane in planes):
        return
    normal = np.cross(axes[0], axes[1])
    places = np.array([plane.position @ normal for plane in planes])
    # Other scanners than CT take the odd and the even slices of one volume in turn.
    tags = _ACQUISITIONS if files[0].modality == "CT" else _ACQUISITIONS[1:2]
    for number, what in tags:
        groups: dict[str, list[int]] = {}
        for index, file in enumerate(files):
            if told := file.acquisition[number]:
                groups.setdefault(told, []).append(index)
        # Some scanners number every slice, or time it.
        if len(groups) > _MOST_GROUPS or min(map(len, groups.values()), default=0) < _FEWEST_SLICES:
            continue
        for one, other in combinations(groups.values(), 2):
            if _interleave(places[one], places[other]):
                names = f"{files[one[0]].path.name} and {files[other[0]].path.name}"
                cause = (
                    f"the series holds several time points or acquisitions whose slices lie between each other's, {len(groups)} "
                    f"by {what}, such as those of {names}"
                )
                step = "separate them into folders of their own, or choose another series with --series"
                refuse(path, cause, step)


def _interleave(some: np.ndarray, others: np.ndarray) -> bool:
    """Whether most slices of the smaller group lie within the range of the other, and several the other way round."""
    within = ((some >= others.min()) & (some <= others.max())).sum()
    back = ((others >= some.min()) & (others <= some.max())).sum()
    most = within if len(some) <= len(others) else back
    return bool(min(within, back) >= _FEWEST_SLICES - 1 and 2 * most > min(len(some), len(others)))


def _check_one_frame_of_reference(path: Path, files: Sequence[DicomFile]) -> None:
    found = {file.frame_of_reference: file for file in files}
    if "" in found and len(found) > 1:
        cause = f"{found[''].path.name} lacks the FrameOfReferenceUID that other slices have, so their places may not compare"
        refuse(path, cause, "export the series again, or leave that slice away")
    if len(found) > 1:
        one, other = list(found.values())[:2]
        cause = (
            f"{one.path.name} and {other.path.name} have different frames of reference, so their places do not compare"
        )
        refuse(path, cause, "keep the slices of one of them")
