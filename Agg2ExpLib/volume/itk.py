"""SimpleITK's images against our grids, and its errors as sentences."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from Agg2ExpLib.volume.grid import Grid, straightened
from Agg2ExpLib.volume.headers import refuse

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # ITK's world against ours


def geometry_of_file(path: Path) -> np.ndarray:
    """Return the affine, voxel index to RAS millimetres, that an NRRD or MetaImage file's header states.

    Raises
    ------
    InputError
        The geometry cannot be used.
    """
    with quiet_itk() as sitk:
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        try:
            with silent_stderr():
                reader.ReadImageInformation()
        except RuntimeError as error:
            refuse_itk(path, error)
        size = reader.GetDimension()
        affine = np.eye(4)
        affine[:3, :3] = (np.reshape(reader.GetDirection(), (size, size)) * reader.GetSpacing())[:3, :3]
        affine[:3, 3] = reader.GetOrigin()[:3]
    return _LPS @ affine


def set_geometry(image: Any, grid: Grid) -> None:
    """Give a SimpleITK image the geometry of a grid."""
    affine = _LPS @ straightened(grid.affine)
    image.SetSpacing(grid.spacing)
    image.SetDirection((affine[:3, :3] / grid.spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())


@contextlib.contextmanager
def quiet_itk() -> Iterator[Any]:
    """SimpleITK with its C++ warnings kept off the screen; what they say is checked and told here instead."""
    import SimpleITK as sitk

    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield sitk
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


@contextlib.contextmanager
def silent_stderr() -> Iterator[None]:
    """Keep off the screen what ITK's NIfTI writer prints from C when a disk is full; our sentence says it."""
    if sys.stderr is not None:
        # Whoever shows sentences there notices that it is full.
        with contextlib.suppress(OSError):
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


def refuse_itk(path: Path, error: RuntimeError) -> NoReturn:
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
