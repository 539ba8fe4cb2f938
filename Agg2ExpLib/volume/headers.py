"""What an image file claims about itself, checked before anything is decoded or memory is taken."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np

from Agg2ExpLib.errors import InputError

#: More voxels than this are refused (a CT of 1024 x 1024 x 2000 voxels has 2.1e9).
MAX_VOXELS = 4_000_000_000
#: Fewer voxels than this along any axis are refused: no network has anything to see there.
MIN_AXIS = 4
#: What to do about a file that arrived damaged.
COPY_AGAIN = "copy or download the file again"


@dataclass(frozen=True)
class Claim:
    """What the header says.

    Attributes
    ----------
    shape : tuple of int
        Size of every axis, the colour or vector axis left out.
    components : int
        Numbers per voxel; they lie side by side in the file.
    dtype : numpy.dtype
        Type and byte order of one number.
    data : Path
        The file with the voxels.
    offset : int
        Bytes before the voxels; decompressed bytes when the whole file is one gzip stream.
    encoding : {"raw", "deflate", "whole-file gzip", "text", "other"}
        How the voxels are kept.
    scale : tuple of float
        Slope and intercept: a voxel's value is number x slope + intercept.
    oriented, sized : bool
        Whether the header says how the axes run, and how large a voxel is.
    sform, qform : ndarray of shape (4, 4) or None
        NIfTI's two placements, RAS millimetres, where in use.
    zooms : tuple of float
        NIfTI's voxel sizes in millimetres.
    notes : tuple of str
        Sentences about what NRRD and MetaImage leave out or contradict.
    fields : mapping of str to str
        What else NRRD keeps: its key/value pairs, such as the table of segments.
    """

    shape: tuple[int, ...]
    components: int
    dtype: np.dtype
    data: Path
    offset: int
    encoding: str
    scale: tuple[float, float] = (1.0, 0.0)
    oriented: bool = True
    sized: bool = True
    sform: np.ndarray | None = None
    qform: np.ndarray | None = None
    zooms: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def bytes_needed(self) -> int:
        """Bytes that the voxels take when not compressed."""
        return math.prod(self.shape) * self.components * self.dtype.itemsize


def refuse(path: Path, cause: str, next_step: str) -> NoReturn:
    """Raise the one sentence about a file that cannot be used."""
    raise InputError(f"{path}: {cause}; {next_step}") from None


def read_claim(path: Path) -> Claim:
    """Read the header of a NIfTI, NRRD or MetaImage file.

    Raises
    ------
    InputError
        When the header is not of the kind the name says or is damaged.
    """
    from Agg2ExpLib.volume.nifti import nifti_claim
    from Agg2ExpLib.volume.text_headers import meta_claim, nrrd_claim

    name = path.name.lower()
    try:
        if name.endswith((".nii", ".nii.gz")):
            return nifti_claim(path)
        return nrrd_claim(path) if name.endswith((".nrrd", ".nhdr")) else meta_claim(path)
    except OSError as error:
        refuse_unreadable(path, error)


def refuse_unreadable(path: Path, error: OSError) -> NoReturn:
    """Refuse a file that the system does not let us read."""
    refuse(path, f"the file cannot be read ({error.strerror or error})", "check the file and the permission to read it")


def checked_claim(path: Path) -> Claim:
    """Read the header of an image file and check it against all of the file's bytes, without keeping the voxels.

    Raises
    ------
    InputError
        When the header is not of the kind the name says, claims an unusable image, or the voxels are not all there.
    """
    from Agg2ExpLib.volume.decoding import check_bytes

    claim = read_claim(path)
    check_shape(path, claim.shape, claim.components)
    check_bytes(path, claim)
    return claim


def check_shape(path: Path, shape: Sequence[int], components: int = 1, smallest: int = MIN_AXIS) -> None:
    """Refuse an image that is not one 3D volume of a size that can be worked with: ``smallest`` voxels along each axis."""
    size = " x ".join(str(count) for count in shape)
    if any(count < 1 for count in shape):
        refuse(path, f"the image is empty (size {size})", "export the scan again")
    if components != 1:
        refuse(
            path,
            f"the image has {components} numbers per voxel (colour or vector)",
            "give an image with one value per voxel",
        )
    space = list(shape)
    while len(space) > 3 and space[-1] == 1:
        space.pop()
    if len(space) > 3:
        refuse(path, f"the image has {len(space)} dimensions (size {size})", "save one 3D volume of it")
    if len(space) < 3 or (space[2] == 1 < min(smallest, math.prod(space))):
        refuse(path, f"the image is a single 2D slice (size {size})", "give the whole 3D scan")
    if min(space) < smallest:
        refuse(
            path, f"the volume is too small (size {size})", f"give one with at least {smallest} voxels along each axis"
        )
    if math.prod(space) > MAX_VOXELS:
        refuse(
            path,
            f"the header claims {math.prod(space):.3g} voxels (size {size})",
            "crop or downsample it below 4e9 voxels",
        )
