"""A scan: voxels and where they lie; reading, writing, and by import everything about grids.

This is the room's front door: other rooms import from here only. ``volume_grid`` holds the geometry, ``volume_headers``
the checks of untrusted files.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np

from Agg2ExpLib.errors import InputError, OutputError, nearest_names
from Agg2ExpLib.volume_grid import (
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
from Agg2ExpLib.volume_headers import Claim, check_shape, checked_claim, refuse
from Agg2ExpLib.volume_values import AIR_HU, as_ct, as_labels, as_map, with_lost_nans

__all__ = [
    "AIR_HU",
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
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # ITK's world against ours


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
    with _quiet_itk() as sitk:
        image, affine, notes, claim = _read_series(sitk, path) if path.is_dir() else _read_file(sitk, path)
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
    part = path.with_name(f".{path.name[: -len(suffix)][:100]}.{secrets.token_hex(4)}{suffix}")
    try:
        with _quiet_itk() as sitk:
            image = sitk.GetImageFromArray(voxels)
            _set_geometry(image, volume.grid)
            writer = sitk.ImageFileWriter()
            writer.SetFileName(str(part))
            writer.SetUseCompression(suffix != ".nii")
            writer.SetCompressionLevel(1)
            with _silent_stderr():
                writer.Execute(image)
        # ITK does not notice a full disk within a compressed file; what is on the disk is what counts.
        checked_claim(part)
        _flush(part)
        os.replace(part, path)
    except (RuntimeError, TypeError, OSError, InputError) as error:
        raise OutputError(f"{path}: the volume cannot be written ({_why_not_written(error, part)})") from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
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
        with _quiet_itk() as sitk:
            files = [Path(name) for name in _largest_series(sitk, path, [])]
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
        if path.suffix.lower() in (".dcm", ".ima") or _is_dicom(path):
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
            _refuse_itk(path, error)
        image = _read_straightened(sitk, path, claim, sform)
    while image.GetDimension() > 3:
        image = image[..., 0]
    if image.GetDimension() == 3:
        check_shape(path, image.GetSize(), image.GetNumberOfComponentsPerPixel())
    else:
        check_shape(path, image.GetSize())
    affine = _affine_of(image)
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
        _refuse_itk(path, error)


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


def _read_series(sitk: Any, folder: Path) -> tuple[Any, np.ndarray, list[str], None]:
    notes: list[str] = []
    files = _largest_series(sitk, folder, notes)
    _check_slices(sitk, folder, files, notes)
    reader = sitk.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames(files)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        _refuse_itk(folder, error)
    check_shape(folder, image.GetSize(), image.GetNumberOfComponentsPerPixel())
    return image, _affine_of(image), notes, None


def _largest_series(sitk: Any, folder: Path, notes: list[str]) -> list[str]:
    """The slices, in order, of the series with the most files."""
    try:
        series = [
            list(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), name))
            for name in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
        ]
    except RuntimeError as error:
        _refuse_itk(folder, error)
    if not series:
        inner = any(child.is_dir() for child in folder.iterdir())
        refuse(
            folder,
            "the folder holds no DICOM series",
            "give the folder inside it" if inner else "give a folder of DICOM slices",
        )
    if len(series) > 1:
        others = len(series) - 1
        notes.append(
            f"The folder holds {others} other series; the largest was taken."
            if others > 1
            else "The folder holds 1 other series; the larger was taken."
        )
    return max(series, key=len)


def _check_slices(sitk: Any, folder: Path, files: list[str], notes: list[str]) -> None:
    """Check claimed sizes and slice positions before the series is decoded as if they were right."""
    positions, size, modality, values = [], (0, 0, 0), "", 0
    for name in files:
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(name)
        try:
            reader.ReadImageInformation()
        except RuntimeError as error:
            _refuse_itk(folder, error)
        size = reader.GetSize()
        values += int(np.prod([int(count) for count in size], dtype=object))
        modality = reader.GetMetaData("0008|0060").strip() if reader.HasMetaDataKey("0008|0060") else ""
        direction = np.reshape(reader.GetDirection(), (len(size), len(size)))
        if direction.shape == (3, 3):
            positions.append(float(np.dot(reader.GetOrigin(), direction[:, 2])))
    if values > 2000 * sum(Path(name).stat().st_size for name in files):
        refuse(
            folder,
            f"the slices claim {values:.3g} voxels, far more than their files can hold",
            "export the series again",
        )
    check_shape(folder, (*size[:2], len(files)) if len(files) > 1 else size)
    if modality and modality != "CT":
        notes.append(f"The DICOM series says that it is {modality}, not CT.")
    gaps = abs(np.diff(positions))
    if len(gaps) and gaps.min() < 1e-3:
        refuse(
            folder,
            "several slices of the series lie at the same place (several time points?)",
            "export one volume of it",
        )
    if len(gaps) and gaps.max() > 1.01 * gaps.min() + 0.01:
        notes.append(
            f"The slices are not evenly spaced ({gaps.min():.3g} to {gaps.max():.3g} mm); slices may be missing, and "
            "places along the scan are approximate."
        )


def _affine_of(image: Any) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return _LPS @ affine


def _set_geometry(image: Any, grid: Grid) -> None:
    affine = _LPS @ straightened(grid.affine)
    image.SetSpacing(grid.spacing)
    image.SetDirection((affine[:3, :3] / grid.spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())


@contextlib.contextmanager
def _quiet_itk() -> Iterator[Any]:
    """SimpleITK with its C++ warnings kept off the screen; what they say is checked and told here instead."""
    import SimpleITK as sitk

    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield sitk
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Keep off the screen what ITK's NIfTI writer prints from C when a disk is full; our sentence says it."""
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:
        # A program with a window may have no standard error at all.
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _refuse_itk(path: Path, error: RuntimeError) -> NoReturn:
    """Turn ITK's C++ error into a sentence."""
    text = str(error)
    for pattern, cause in (
        ("orthonormal", "the voxel axes are sheared or the direction matrix is singular"),
        ("determinant is 0|Bad direction", "the direction matrix is singular"),
        ("[Zz]ero-valued spacing|[Nn]egative.*spacing", "the voxel spacing is zero or negative"),
        ("[Ss]ize mismatch|different size|same size", "the slices differ in size"),
        ("memory|bad_alloc", "there is not enough memory for it"),
    ):
        if re.search(pattern, text):
            refuse(path, cause, "export the scan again with its geometry" if "memory" not in cause else "crop the scan")
    refuse(path, "the image cannot be decoded", "export it again, as .nii.gz for instance")


def _is_dicom(path: Path) -> bool:
    with contextlib.suppress(OSError), path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
    return False


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def _why_not_written(error: Exception, part: Path) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if not os.access(part.parent, os.W_OK):
        return f"no permission to write into {part.parent}"
    if isinstance(error, InputError):
        return "the disk is full or the volume is too small to be one"
    if isinstance(error, TypeError):
        return "its type of number has no place in this format"
    return "the disk may be full"
