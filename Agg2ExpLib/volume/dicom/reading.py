"""From a DICOM folder, or a multi-frame file, to the voxels of one volume."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.volume.decoding import joined_digest, sha256_of
from Agg2ExpLib.volume.dicom.headers import DicomFile, Plane
from Agg2ExpLib.volume.dicom.mixing import check_one_scan
from Agg2ExpLib.volume.dicom.pixels import decoded
from Agg2ExpLib.volume.dicom.series import Series, chosen_series, one_part
from Agg2ExpLib.volume.dicom.stack import Stack, stacked
from Agg2ExpLib.volume.headers import check_shape, refuse, refuse_unreadable
from Agg2ExpLib.volume.stacking import straight_stack
from Agg2ExpLib.volume.values import AIR_HU
from Agg2ExpLib.volume.volume import DicomIds

# No codec packs a picture tighter than this.
_TIGHTEST = 2000


@dataclass(frozen=True, eq=False)
class DicomScan:
    """Voxels of shape (i, j, k), their affine (index to RAS millimetres), the SHA-256 of the files, the identifiers."""

    voxels: np.ndarray
    affine: np.ndarray
    sha256: str
    ids: DicomIds


def read_series(path: Path, wanted: str | int | None, notes: list[str], *, ct: bool = True) -> DicomScan:
    """Read one series of a folder, or a multi-frame file.

    Parameters
    ----------
    path : Path
        Folder of slices or multi-frame files, or one multi-frame file.
    wanted : str or int, optional
        SeriesInstanceUID or series number; after a colon, the stack or time point of a multi-frame file.
    notes : list of str
        A sentence is added for everything that was left out, repaired or looks odd.
    ct : bool
        A CT is expected; anything else is told.

    Raises
    ------
    InputError
        The slices do not make one volume, or cannot be decoded exactly.
    """
    chosen = chosen_series(path, wanted, notes)
    try:
        return _read(path, chosen, wanted, notes, ct)
    except InputError as error:
        if not chosen.others:
            raise
        raise InputError(f"{error}; {chosen.others}") from None


def _read(path: Path, chosen: Series, wanted: str | int | None, notes: list[str], ct: bool) -> DicomScan:
    series, part = one_part(path, chosen, wanted)
    files, copies = _without_copies(path, series)
    planes = [plane for file in files for plane in file.planes]
    if not path.is_dir() and len(planes) == 1:
        refuse(path, "this is one slice of a DICOM series", "give the folder of the series")
    check_one_scan(path, files)
    stack = stacked(path, planes, notes)
    check_shape(path, (*stack.planes[0].size, len(stack.planes)))
    voxels, digests = _filled(path, files, copies, stack)
    for file in files:
        if file.localizers:
            frames = "localizer frame was" if file.localizers == 1 else "localizer frames were"
            notes.append(f"{file.localizers} {frames} left out of {file.path.name}.")
    first = files[0]
    if copies:
        noun = "file is a copy of a slice" if len(copies) == 1 else "files are copies of slices"
        notes.append(
            f"{len(copies)} {noun} with the same SOPInstanceUID and left out, such as {copies[0][1].path.name}."
        )
    if first.modality and (first.modality == "CT") != ct:
        taken = "not CT" if ct else "and the model does not take CT"
        notes.append(f"The DICOM series says that it is {first.modality}, {taken}.")
    elif ct and first.unit not in ("", "HU", "US"):
        notes.append(f"The DICOM series says that its values are {first.unit}, not Hounsfield units.")
    if first.secondary and ct:
        notes.append("The slices are secondary captures; check that their values are Hounsfield units.")
    voxels, affine = _straight_and_even(voxels, stack, AIR_HU if first.modality in ("", "CT") else float(voxels.min()))
    sha256 = joined_digest(digests) if path.is_dir() else digests[0]
    return DicomScan(voxels, affine, sha256, DicomIds(first.study, first.series, first.frame_of_reference, part))


def series_digest(path: Path, wanted: str | int | None = None) -> str:
    """Return the SHA-256 of the files that :func:`read_series` reads, without decoding them.

    Raises
    ------
    InputError
        No such series, or a file that cannot be read.
    """
    files, _ = _without_copies(path, chosen_series(path, wanted, []))
    try:
        return joined_digest([sha256_of([file.path]) for file in files])
    except OSError as error:
        refuse_unreadable(path, error)


def series_files(path: Path, wanted: str | int | None = None) -> list[Path]:
    """Return the files that :func:`read_series` reads, each slice once; errors as there."""
    series, _ = one_part(path, chosen_series(path, wanted, []), wanted)
    return [file.path for file in _without_copies(path, series)[0]]


def _without_copies(path: Path, series: Series) -> tuple[list[DicomFile], list[tuple[DicomFile, DicomFile]]]:
    """The files with one of each SOPInstanceUID, and (kept, left out) pairs."""
    kept: dict[str, DicomFile] = {}
    copies = []
    for number, file in enumerate(series.files):
        first = kept.setdefault(file.uid or f"without {number}", file)
        if first is file:
            continue
        if not _same_planes(first.planes, file.planes):
            cause = f"{first.path.name} and {file.path.name} are different slices with the same SOPInstanceUID"
            refuse(path, cause, "export the series again, with an identifier for each slice")
        copies.append((first, file))
    return list(kept.values()), copies


def _same_planes(some: Sequence[Plane], others: Sequence[Plane]) -> bool:
    def same(one: np.ndarray | None, other: np.ndarray | None) -> bool:
        return one is other if one is None or other is None else np.array_equal(one, other)

    return len(some) == len(others) and all(
        one.size == other.size
        and one.scale == other.scale
        and all(same(getattr(one, name), getattr(other, name)) for name in ("spacing", "axes", "position"))
        for one, other in zip(some, others, strict=True)
    )


def _filled(
    path: Path, files: Sequence[DicomFile], copies: Sequence[tuple[DicomFile, DicomFile]], stack: Stack
) -> tuple[np.ndarray, list[str]]:
    """Voxels (i, j, k) of the slices in order, and the SHA-256 of each file."""
    columns, rows = stack.planes[0].size
    claimed = columns * rows * len(stack.planes)
    held = sum(file.path.stat().st_size for file in files)
    if claimed > _TIGHTEST * held:
        cause = f"the slices claim {claimed:.3g} voxels, far more than their files can hold"
        refuse(path, cause, "export the series again")
    place_of = {(plane.file, plane.frame): k for k, plane in enumerate(stack.planes)}
    copied: dict[Path, list[DicomFile]] = {}
    for first, other in copies:
        copied.setdefault(first.path, []).append(other)
    voxels = np.empty((len(stack.planes), rows, columns), dtype=np.float32)
    digests = []
    for file, content in _contents(path, files):
        digests.append(hashlib.sha256(content).hexdigest())
        values = decoded(file, content)
        if values.dtype != voxels.dtype:
            voxels = voxels.astype(values.dtype)
        for plane, one in zip(file.planes, values, strict=True):
            voxels[place_of[plane.file, plane.frame]] = one
        for other, other_content in _contents(path, copied.get(file.path, ())):
            if other_content != content and not np.array_equal(decoded(other, other_content), values, equal_nan=True):
                cause = f"{file.path.name} and {other.path.name} have the same SOPInstanceUID and different pixels"
                refuse(path, cause, "keep the one that is right")
    return voxels.transpose(2, 1, 0), digests


def _contents(path: Path, files: Sequence[DicomFile]) -> Iterator[tuple[DicomFile, bytes]]:
    for file in files:
        try:
            yield file, file.path.read_bytes()
        except OSError as error:
            refuse_unreadable(file.path, error)


def _straight_and_even(voxels: np.ndarray, stack: Stack, fill: float) -> tuple[np.ndarray, np.ndarray]:
    affine = stack.affine
    if stack.shifts is not None:
        voxels, first = straight_stack(voxels, stack.shifts, fill)
        affine = affine.copy()
        affine[:3, 3] += affine[:3, :2] @ first
    if not stack.uneven:
        return voxels, affine
    lower = (np.searchsorted(stack.places, stack.even + 1e-6, side="right") - 1).clip(0, len(stack.places) - 2)
    share = (stack.even - stack.places[lower]) / (stack.places[lower + 1] - stack.places[lower])
    share = np.where(abs(share) < 1e-4, 0, np.where(abs(share - 1) < 1e-4, 1, share)).clip(0, 1)
    filled = np.empty((*voxels.shape[:2], len(stack.even)), dtype=voxels.dtype, order="F")
    for k, (below, part) in enumerate(zip(lower, share, strict=True)):
        filled[..., k] = voxels[..., below] * (1 - part) + voxels[..., below + 1] * part
    return filled, affine
