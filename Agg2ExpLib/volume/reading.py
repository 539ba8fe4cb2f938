"""Reading a scan, a label map, a mask or a map: find, check, decode, repair, convert; every file is read once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np

from Agg2ExpLib.errors import InputError, nearest_names
from Agg2ExpLib.volume.decoding import read_voxels, sha256_of
from Agg2ExpLib.volume.dicom import is_dicom, read_series, series_digest
from Agg2ExpLib.volume.grid import MAX_SHEAR, Grid, shear_of, spaced_numbers, straightened
from Agg2ExpLib.volume.headers import MIN_AXIS, Claim, check_shape, read_claim, refuse, refuse_unreadable
from Agg2ExpLib.volume.itk import geometry_of_file
from Agg2ExpLib.volume.nifti import REPAIRABLE_SHEAR, nifti_affine
from Agg2ExpLib.volume.stacking import unsheared
from Agg2ExpLib.volume.values import AIR_HU, as_ct, as_labels, as_map, as_mask, as_scan
from Agg2ExpLib.volume.volume import Volume

READABLE = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
# Millimetres that a voxel of anything that is scanned may measure.
_SMALLEST, _LARGEST = 1e-4, 1e3
# Millimetres from the origin; farther away, files that keep positions as float32 would lose them.
_FARTHEST = 1e6
Kind = Literal["ct", "scan", "labels", "mask", "map"]
# What is a part of a scan may be cropped to a single slice.
_PARTS = ("labels", "mask")
_CONVERT = {"ct": as_ct, "scan": as_scan, "labels": as_labels, "mask": as_mask, "map": as_map}


def read_volume(path: str | os.PathLike[str], kind: Kind = "ct", series: str | int | None = None) -> Volume:
    """Read a NIfTI, NRRD or MetaImage file, a DICOM series, or a multi-frame DICOM file.

    Parameters
    ----------
    path : path
        A ``.nii``, ``.nii.gz``, ``.nrrd``, ``.nhdr``, ``.mha`` or ``.mhd`` file, a multi-frame DICOM file, or the folder
        of a DICOM series.
    kind : {"ct", "scan", "labels", "mask", "map"}
        ``"ct"`` gives float32 Hounsfield units, voxels without a finite value replaced by air; ``"scan"`` float32 of another
        modality, replaced by 0; ``"labels"`` gives int16 or
        int32 and refuses anything but whole numbers from 0; ``"mask"`` gives uint8, 1 where the value is above 0;
        ``"map"`` gives float32 of any range, such as attributions.
    series : str or int, optional
        SeriesInstanceUID or series number in a DICOM folder; by default CT before other modalities, then the series with
        the most slices. After a colon, one of several stacks or time points: ``"3:2"``, or ``":2"`` of the default series.

    Returns
    -------
    Volume
        In its stored orientation (on a straight grid where slices had to be moved), with its SHA-256, its DICOM
        identifiers, and a note for everything that was repaired or looks odd.

    Raises
    ------
    InputError
        One sentence with the file, the cause and the next step.
    """
    if kind not in _CONVERT:
        raise InputError(f"the kind of volume {kind!r} is unknown; use 'ct', 'scan', 'labels', 'mask' or 'map'")
    path = Path(path)
    check_exists(path)
    notes: list[str] = []
    if path.is_dir() or (not suffix_of(path, READABLE) and is_dicom(path)):
        found = read_series(path, series, notes, ct=kind == "ct")
        array, affine, sha256, ids = found.voxels, found.affine, found.sha256, found.ids
    else:
        if series is not None:
            refuse(path, "a series can be chosen only in a DICOM folder", "leave --series away")
        array, affine, sha256, _ = read_image_file(path, notes, smallest=1 if kind in _PARTS else MIN_AXIS)
        ids = None
    voxels, grid = on_straight_grid(path, array, affine, kind, notes)
    return Volume(voxels, grid, path, tuple(notes), sha256, ids)


def on_straight_grid(
    path: Path, array: np.ndarray, affine: np.ndarray, kind: Kind, notes: list[str]
) -> tuple[np.ndarray, Grid]:
    """Return voxels converted to a kind and their grid, straightened where it was sheared.

    Raises
    ------
    InputError
        Values that are not of that kind, or a place that no scan has.
    """
    array, affine = _straight(path, array, affine, kind, notes)
    voxels = _CONVERT[kind](path, array, notes)
    i, j, k = voxels.shape
    try:
        grid = Grid((i, j, k), affine)
    except InputError as error:
        refuse(path, str(error), "export the scan again with its geometry")
    if not _SMALLEST <= min(grid.spacing) <= max(grid.spacing) <= _LARGEST:
        refuse(path, f"no voxel measures {spaced_numbers(grid.spacing)} mm", "export the scan again with its spacing")
    if abs(grid.affine[:3, 3]).max() > _FARTHEST:
        away = abs(grid.affine[:3, 3]).max()
        refuse(path, f"its voxels lie {away:.3g} mm from the origin", "export the scan again with its geometry")
    return voxels, grid


def read_image_file(
    path: Path, notes: list[str], layers: bool = False, smallest: int = MIN_AXIS
) -> tuple[np.ndarray, np.ndarray, str, Claim]:
    """Read the voxels of a NIfTI, NRRD or MetaImage file as they are, its affine, its SHA-256 and its header.

    Parameters
    ----------
    path : Path
        Of a kind in :data:`READABLE`.
    notes : list of str
        Sentences are added for what looks odd.
    layers : bool
        Allow several numbers per voxel; they come as the first axis.
    smallest : int
        Voxels along each axis, at least.

    Raises
    ------
    InputError
        One sentence with the file, the cause and the next step.
    """
    if not suffix_of(path, READABLE):
        if path.suffix.lower() in (".dcm", ".ima") or is_dicom(path):
            refuse(path, "this is one slice of a DICOM series", "give the folder of the series")
        kinds = f"give {', '.join(READABLE)} or a DICOM folder"
        refuse(path, f"files ending in {path.suffix or 'nothing'!r} cannot be read", kinds)
    claim = read_claim(path)
    check_shape(path, claim.shape, 1 if layers else claim.components, smallest)
    if len(claim.shape) > 3:
        notes.append(
            f"The image has {len(claim.shape)} dimensions, of which the last have length 1; they were dropped."
        )
    if suffix_of(path, (".nii", ".nii.gz")):
        affine, told = nifti_affine(path, claim)
        notes.extend(told)
    else:
        affine = geometry_of_file(path)
        notes.extend(_not_stated(claim))
    array, sha256 = read_voxels(path, claim)
    return array, affine, sha256, claim


def file_sha256(path: str | os.PathLike[str], series: str | int | None = None) -> str:
    """Return the SHA-256 of a scan's bytes, as 64 hexadecimal digits; that of a volume just read is ``volume.sha256``.

    For a scan of several files (a DICOM series, a header with its data file) it is the SHA-256 of their sorted SHA-256s, so
    that the names of the files do not matter.

    Raises
    ------
    InputError
        When the scan is missing or cannot be read.
    """
    path = Path(path)
    check_exists(path)
    if path.is_dir():
        return series_digest(path, series)
    files = [path]
    if path.suffix.lower() in (".mhd", ".nhdr"):
        files.append(read_claim(path).data)
    try:
        return sha256_of(files)
    except OSError as error:
        refuse_unreadable(path, error)


def check_exists(path: Path) -> None:
    """Refuse a path where there is nothing, with the name that was meant where one is near."""
    if path.is_dir() or path.is_file():
        return
    if path.exists():
        refuse(path, "this is neither a file nor a folder", "give a scan")
    if not path.parent.is_dir():
        refuse(path, f"there is no folder {path.parent}", "check the path")
    names = [other.name for other in path.parent.iterdir() if suffix_of(other, READABLE)][:1000]
    hint = nearest_names(path.name, names) if names else ""
    refuse(path, "there is no such file", hint.rstrip("?") if hint.startswith("did") else "check the path")


def suffix_of(path: Path, suffixes: tuple[str, ...]) -> str:
    """Return the one of ``suffixes`` that a file's name ends in, else an empty string."""
    return next((suffix for suffix in suffixes if path.name.lower().endswith(suffix)), "")


def _not_stated(claim: Claim) -> list[str]:
    notes = list(claim.notes)
    if not claim.sized:
        notes.append("The file states no voxel size; 1 mm was taken along each axis.")
    if not claim.oriented:
        notes.append(
            "The file states no orientation; its axes were taken to run to the left, the back and the head, so left and "
            "right may be swapped."
        )
    return notes


def _straight(
    path: Path, array: np.ndarray, affine: np.ndarray, kind: Kind, notes: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    shear = shear_of(affine) if np.isfinite(affine).all() else 1.0
    if shear <= MAX_SHEAR / 100 or shear >= 1:
        return array, affine
    if shear <= REPAIRABLE_SHEAR:
        if shear > MAX_SHEAR:
            notes.append(f"The voxel axes were not quite perpendicular (cosine {shear:.2g}) and were straightened.")
        return array, straightened(affine)
    moved = unsheared(array, affine, AIR_HU if kind == "ct" else 0, nearest=kind in _PARTS)
    if moved is None:
        refuse(path, f"the voxel axes are not perpendicular (cosine {shear:.2g})", "resample it to a straight grid")
    notes.append(
        f"The slices lie askew on each other (cosine {shear:.2g}, as after a tilted gantry); each was moved within its "
        "plane to a straight grid."
    )
    return moved
