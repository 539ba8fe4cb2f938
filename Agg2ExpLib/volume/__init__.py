"""A scan: voxels and where they lie; reading, writing, and by import everything about grids.

This is the room's front door: other rooms import from here only. ``volume_grid`` holds the geometry, ``volume_headers``
the checks of untrusted files.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np

from Agg2ExpLib.errors import InputError, OutputError, nearest_names
from Agg2ExpLib.storage import new_file
from Agg2ExpLib.volume.dicom import is_dicom, largest_series, read_series
from Agg2ExpLib.volume.grid import (
    MAX_SHEAR,
    Grid,
    Volume,
    crop,
    labels_to_input_grid,
    model_grid,
    preprocess,
    reorient,
    shear_of,
    straightened,
    to_grid,
)
from Agg2ExpLib.volume.headers import MIN_AXIS, Claim, check_shape, checked_claim, refuse
from Agg2ExpLib.volume.itk import affine_of, quiet_itk, refuse_itk, set_geometry, silent_stderr
from Agg2ExpLib.volume.values import AIR_HU, as_ct, as_labels, as_map, with_lost_nans

__all__ = [
    "AIR_HU",
    "MIN_AXIS",
    "Grid",
    "Volume",
    "crop",
    "file_sha256",
    "labels_to_input_grid",
    "model_grid",
    "preprocess",
    "read_volume",
    "reorient",
    "to_grid",
    "write_volume",
]

READABLE = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
WRITABLE = (".nii.gz", ".nii", ".nrrd", ".mha")
_REPAIRABLE_SHEAR = 1e-2


def read_volume(path: str | os.PathLike[str], kind: Literal["ct", "labels", "map"] = "ct") -> Volume:
    """Read a NIfTI, NRRD or MetaImage file, or a folder with a DICOM series.

    Parameters
    ----------
    path : path
        A ``.nii``, ``.nii.gz``, ``.nrrd``, ``.nhdr``, ``.mha`` or ``.mhd`` file, or the folder of a DICOM series (the
        largest, when there are several).
    kind : {"ct", "labels", "map"}
        ``"ct"`` gives float32 Hounsfield units, voxels without a number replaced by air; ``"labels"`` gives int16 or int32
        and refuses anything but whole numbers from 0; ``"map"`` gives float32 of any range, such as attributions.

    Returns
    -------
    Volume
        In its stored orientation, with a note for everything that was repaired or looks odd.

    Raises
    ------
    InputError
        One sentence with the file, the cause and the next step.
    """
    if kind not in ("ct", "labels", "map"):
        raise InputError(f"the kind of volume {kind!r} is unknown; use 'ct', 'labels' or 'map'")
    path = Path(path)
    _check_exists(path)
    with quiet_itk() as sitk:
        image, affine, notes, claim = read_series(sitk, path) if path.is_dir() else _read_file(sitk, path)
        array = sitk.GetArrayViewFromImage(image).transpose(2, 1, 0)
        if claim and claim.floats:
            array = with_lost_nans(claim, array)
        affine = _straight(path, affine, notes)
        convert = {"ct": as_ct, "labels": as_labels, "map": as_map}[kind]
        voxels = convert(path, array, notes)
    i, j, k = voxels.shape
    try:
        grid = Grid((i, j, k), affine)
    except InputError as error:
        refuse(path, str(error), "export the scan again with its geometry")
    return Volume(voxels, grid, path, tuple(notes))


def write_volume(volume: Volume, path: str | os.PathLike[str]) -> Path:
    """Write a volume so that the file is either complete or not there.

    Parameters
    ----------
    volume : Volume
        The dtype is kept; truth values become uint8 and float16 becomes float32.
    path : path
        Ends in ``.nii.gz``, ``.nii``, ``.nrrd`` or ``.mha``; its folder must exist.

    Returns
    -------
    Path
        The path written.

    Raises
    ------
    OutputError
        When the file cannot be written, for instance because the disk is full.
    """
    path = Path(path)
    suffix = _suffix(path, WRITABLE)
    if not suffix:
        raise OutputError(f"{path}: the name says no format that can be written; end it in {', '.join(WRITABLE)}")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: the folder {path.parent} does not exist; create it first")
    dtype = {"b": np.dtype(np.uint8), "f": np.promote_types(volume.voxels.dtype, np.float32)}.get(
        volume.voxels.dtype.kind
    )
    voxels = np.ascontiguousarray(
        volume.voxels.transpose(2, 1, 0), dtype=dtype or volume.voxels.dtype.newbyteorder("=")
    )
    try:
        with new_file(path) as part, quiet_itk() as sitk:
            image = sitk.GetImageFromArray(voxels)
            set_geometry(image, volume.grid)
            writer = sitk.ImageFileWriter()
            writer.SetFileName(str(part))
            writer.SetUseCompression(suffix != ".nii")
            writer.SetCompressionLevel(1)
            with silent_stderr():
                writer.Execute(image)
            # ITK does not notice a full disk within a compressed file; what is on the disk is what counts.
            checked_claim(part)
    except (RuntimeError, TypeError, InputError) as error:
        raise OutputError(f"{path}: the volume cannot be written ({_why_not_written(error)})") from None
    return path


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a scan's bytes, as 64 hexadecimal digits.

    For a scan of several files (a DICOM series, a header with its data file) it is the SHA-256 of their sorted SHA-256s, so
    that the names of the files do not matter.

    Raises
    ------
    InputError
        When the scan is missing or cannot be read.
    """
    path = Path(path)
    _check_exists(path)
    files = [path]
    if path.is_dir():
        with quiet_itk() as sitk:
            files = [Path(name) for name in largest_series(sitk, path, [])]
    elif path.suffix.lower() in (".mhd", ".nhdr"):
        files = sorted({path, checked_claim(path).data})
    try:
        digests = sorted(_digest(file) for file in files)
    except OSError as error:
        refuse(path, f"the file cannot be read ({error.strerror})", "check the permission to read it")
    return (
        digests[0] if len(digests) == 1 and not path.is_dir() else hashlib.sha256("".join(digests).encode()).hexdigest()
    )


def _check_exists(path: Path) -> None:
    if path.is_dir() or path.is_file():
        return
    if path.exists():
        refuse(path, "this is neither a file nor a folder", "give a scan")
    if not path.parent.is_dir():
        refuse(path, f"there is no folder {path.parent}", "check the path")
    names = [other.name for other in path.parent.iterdir() if _suffix(other, READABLE)][:1000]
    hint = nearest_names(path.name, names) if names else ""
    refuse(path, "there is no such file", hint.rstrip("?") if hint.startswith("did") else "check the path")


def _suffix(path: Path, suffixes: tuple[str, ...]) -> str:
    return next((suffix for suffix in suffixes if path.name.lower().endswith(suffix)), "")


def _read_file(sitk: Any, path: Path) -> tuple[Any, np.ndarray, list[str], Claim]:
    if not _suffix(path, READABLE):
        if path.suffix.lower() in (".dcm", ".ima") or is_dicom(path):
            refuse(path, "this is one slice of a DICOM series", "give the folder of the series")
        refuse(
            path,
            f"files ending in {path.suffix or 'nothing'!r} cannot be read",
            f"give {', '.join(READABLE)} or a DICOM folder",
        )
    claim, notes = checked_claim(path), []
    if len(claim.shape) > 3:
        notes.append(
            f"The image has {len(claim.shape)} dimensions, of which the last have length 1; they were dropped."
        )
    sform = _usable_sform(path, claim)
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        if sform is None or "orthonormal" not in str(error):
            refuse_itk(path, error)
        image = _read_straightened(sitk, path, claim, sform)
    while image.GetDimension() > 3:
        image = image[..., 0]
    if image.GetDimension() == 3:
        check_shape(path, image.GetSize(), image.GetNumberOfComponentsPerPixel())
    else:
        check_shape(path, image.GetSize())
    affine = affine_of(image)
    if not claim.oriented:
        notes.append(
            "The file states no orientation; its axes were taken as right, front, head, so left and right may be swapped."
        )
    if sform is not None:
        end = np.array([*(np.array(image.GetSize()) - 1), 1.0])
        if abs((affine - sform) @ end).max() > 0.1 * min(image.GetSpacing()):
            notes.append(
                "The file's sform disagrees with its qform or voxel sizes; the sform was used, and other programs may differ."
            )
        affine = sform
    return image, affine, notes, claim


def _usable_sform(path: Path, claim: Claim) -> np.ndarray | None:
    """NIfTI's sform unless it is so sheared that the qform, which cannot be, is the better choice."""
    if claim.sform is None:
        return None
    shear = shear_of(claim.sform) if np.isfinite(claim.sform).all() else 1.0
    if shear <= _REPAIRABLE_SHEAR:
        return claim.sform
    return None


def _read_straightened(sitk: Any, path: Path, claim: Claim, sform: np.ndarray) -> Any:
    """Read a NIfTI file whose slightly sheared sform ITK refuses, by way of a copy with a straight one."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "straight.nii"
            packed = claim.encoding == "whole-file gzip"
            with gzip.open(path) if packed else path.open("rb") as source, copy.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
            with copy.open("r+b") as file:
                order: Literal["<", ">"] = "<" if file.read(4) in (b"\x5c\x01\0\0", b"\x1c\x02\0\0") else ">"
                second = claim.offset >= 544 and file.seek(4) and file.read(2) == b"n+"
                number = np.dtype("f8" if second else "f4").newbyteorder(order)
                file.seek(344 if second else 252)
                file.write(b"\0" * (4 if second else 2))  # no qform
                file.seek(400 if second else 280)
                file.write(straightened(sform)[:3].astype(number).tobytes())
            return sitk.ReadImage(str(copy))
    except OSError as error:
        refuse(path, f"no temporary copy can be made ({error.strerror})", "free some disk space")
    except RuntimeError as error:
        refuse_itk(path, error)


def _straight(path: Path, affine: np.ndarray, notes: list[str]) -> np.ndarray:
    shear = shear_of(affine) if np.isfinite(affine).all() else 1.0
    if MAX_SHEAR / 100 < shear <= _REPAIRABLE_SHEAR:
        if shear > MAX_SHEAR:
            notes.append(f"The voxel axes were not quite perpendicular (cosine {shear:.2g}) and were straightened.")
        return straightened(affine)
    if _REPAIRABLE_SHEAR < shear < 1:
        refuse(
            path,
            f"the voxel axes are not perpendicular (cosine {shear:.2g}, a tilted gantry?)",
            "resample it to a straight grid",
        )
    return affine


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _why_not_written(error: Exception) -> str:
    if isinstance(error, InputError):
        return "the disk is full or the volume is too small to be one"
    if isinstance(error, TypeError):
        return "its type of number has no place in this format"
    return "the disk may be full"
