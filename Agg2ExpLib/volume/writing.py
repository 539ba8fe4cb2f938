"""Writing a volume so that the file is either complete or not there."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from Agg2ExpLib.errors import InputError, OutputError
from Agg2ExpLib.storage import new_file
from Agg2ExpLib.volume.headers import checked_claim
from Agg2ExpLib.volume.itk import quiet_itk, set_geometry, silent_stderr
from Agg2ExpLib.volume.reading import suffix_of
from Agg2ExpLib.volume.volume import Volume

WRITABLE = (".nii.gz", ".nii", ".nrrd", ".mha")


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
    suffix = suffix_of(path, WRITABLE)
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


def _why_not_written(error: Exception) -> str:
    if isinstance(error, InputError):
        return "the disk is full or the volume is too small to be one"
    if isinstance(error, TypeError):
        return "its type of number has no place in this format"
    return "the disk may be full"
