"""NIfTI-1 and NIfTI-2: the header, and which of its two placements (sform, qform) says where the voxels lie."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from Agg2ExpLib.volume.grid import shear_of
from Agg2ExpLib.volume.headers import COPY_AGAIN, Claim, check_shape, refuse

# NIfTI datatype code -> NumPy's name; the other codes hold colours, complex or 128-bit numbers.
_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
# Of the header's lengths: 1 says metres, 3 micrometres, anything else millimetres.
_UNITS = {1: 1000.0, 3: 0.001}
#: Axes of a sheared placement up to this cosine are straightened; beyond, the voxels are moved.
REPAIRABLE_SHEAR = 1e-2
# Placements nearer than this (mm, or this share of a voxel) are the same: headers keep float32 and rounded quaternions.
_SAME_PLACE = 0.1
_SIDES = ("left and right", "front and back", "head and feet")


def nifti_claim(path: Path) -> Claim:
    """Read a NIfTI header.

    Raises
    ------
    InputError
        Not NIfTI, damaged, or without a usable spacing.
    """
    start, packed = _start_of(path)
    sizes: dict[int, Literal["<", ">"]] = {
        int.from_bytes(start[:4], "little"): "<",
        int.from_bytes(start[:4], "big"): ">",
    }
    version = next((size for size in (348, 540) if size in sizes), None)
    if version is None or len(start) < version:
        refuse(path, "the file is not NIfTI whatever its name says", "give the scan itself or export it again")
    order = sizes[version]
    if start[344:347] == b"ni1" or start[4:7] == b"ni2":
        refuse(path, "the file is the header half of a NIfTI pair", "save the scan as one .nii.gz file")
    second = version == 540

    def numbers(first: tuple[str, int], other: tuple[str, int], count: int) -> np.ndarray:
        kind, where = other if second else first
        return np.frombuffer(start, dtype=np.dtype(kind).newbyteorder(order), count=count, offset=where)

    def floats(first: int, other: int, count: int) -> np.ndarray:
        return numbers(("f4", first), ("f8", other), count).astype(np.float64)

    dim = [int(value) for value in numbers(("i2", 40), ("i8", 16), 8)]
    code = int(numbers(("i2", 70), ("i2", 12), 1)[0])
    offset = float(numbers(("f4", 108), ("i8", 168), 1)[0])
    if not 1 <= dim[0] <= 7 or not 0 <= offset < 2**40:
        refuse(path, "the NIfTI header is damaged (impossible number of axes or data offset)", COPY_AGAIN)
    unit = _UNITS.get((int(numbers(("u1", 123), ("i4", 500), 1)[0])) & 7, 1.0)
    pixdim = floats(76, 104, 8)
    zooms = pixdim[1:4] * unit
    if dim[0] >= 3 and not (np.isfinite(zooms).all() and (zooms > 0).all()):
        spacing = " x ".join(f"{value:g}" for value in zooms)
        cause = f"the voxel spacing is zero, negative or no number ({spacing} mm)"
        refuse(path, cause, "export the scan again with its spacing")
    shape = tuple(dim[1 : 1 + min(dim[0], 4)]) + tuple(dim[6 : 1 + dim[0]])
    if code not in _TYPES:
        check_shape(path, shape)
        refuse(path, f"the voxels are colours or complex numbers (NIfTI data type {code})", "give one number per voxel")
    slope, intercept = floats(112, 176, 2).tolist()
    # A slope of 0 says that there is no scale; so does one without a number.
    scaled = np.isfinite([slope, intercept]).all() and slope != 0
    q_code, s_code = (
        int(value) for value in (*numbers(("i2", 252), ("i4", 344), 1), *numbers(("i2", 254), ("i4", 348), 1))
    )
    rows = floats(280, 400, 12).reshape(3, 4) * unit
    qform = _qform(floats(256, 352, 6), zooms, pixdim[0], unit) if q_code > 0 else None
    return Claim(
        shape=shape,
        components=dim[5] if dim[0] >= 5 else 1,
        dtype=np.dtype(_TYPES[code]).newbyteorder(order),
        data=path,
        offset=max(int(offset), 544 if second else 352),
        encoding="whole-file gzip" if packed else "raw",
        scale=(slope, intercept) if scaled else (1.0, 0.0),
        oriented=s_code > 0 or q_code > 0,
        sform=np.vstack([rows, [0, 0, 0, 1]]) if s_code > 0 else None,
        qform=qform,
        zooms=tuple(float(zoom) for zoom in zooms),
    )


def _start_of(path: Path) -> tuple[bytes, bool]:
    with path.open("rb") as file:
        start = file.read(1 << 16)
    if start[:2] != b"\x1f\x8b":
        return start, False
    if not path.name.lower().endswith(".gz"):
        refuse(path, "the file is compressed although its name ends in .nii", "rename it to end in .nii.gz")
    try:
        return zlib.decompressobj(47).decompress(start, 2048), True
    except zlib.error:
        refuse(path, "the compressed data is damaged at its very start", COPY_AGAIN)


def _qform(values: np.ndarray, zooms: np.ndarray, flip: float, unit: float) -> np.ndarray:
    """The affine of the header's quaternion (b, c, d) and offset, as the NIfTI-1 standard defines it (method 2)."""
    b, c, d = values[:3]
    rest = 1.0 - (b * b + c * c + d * d)
    if rest < 1e-7:
        # A half turn: rounding may have made b, c, d a little too long.
        a, (b, c, d) = 0.0, values[:3] / max(np.sqrt(b * b + c * c + d * d), 1e-30)
    else:
        a = np.sqrt(rest)
    affine = np.eye(4)
    affine[:3, :3] = [
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
    ]
    affine[:3, :3] *= zooms * (1.0, 1.0, -1.0 if flip < 0 else 1.0)
    affine[:3, 3] = values[3:] * unit
    return affine


def nifti_affine(path: Path, claim: Claim) -> tuple[np.ndarray, list[str]]:
    """Return where the voxels lie, RAS millimetres, and a sentence for every disagreement within the header.

    The sform is used where there is a usable one, as most programs do; it may be sheared.

    Raises
    ------
    InputError
        No placement that is in use can be used.
    """
    sform, qform = claim.sform, claim.qform
    if sform is None and qform is None:
        # As ITK and 3D Slicer take it.
        return np.diag([-claim.zooms[0], -claim.zooms[1], claim.zooms[2], 1.0]), [
            "The file states no orientation; its axes were taken to run to the left, the back and the head, so left and "
            "right may be swapped."
        ]
    infinite = qform is not None and not np.isfinite(qform).all()
    if infinite:
        qform = None
    if sform is None or not _is_placement(sform):
        stated = claim.qform if sform is None else sform
        fault = "singular" if stated is not None and np.isfinite(stated).all() else "not finite"
        if qform is None:
            refuse(path, f"the direction matrix is {fault}", "export the scan again with its geometry")
        return qform, [] if sform is None else [f"The file's sform is {fault}; its qform was used."]
    notes = ["The file's qform is not finite; the sform was used."] if infinite else []
    if qform is not None:
        notes += _disagreement(sform, qform, claim.shape, "qform")
    else:
        lengths = np.sqrt((sform[:3, :3] ** 2).sum(axis=0))
        sized = sform.copy()
        sized[:3, :3] *= np.array(claim.zooms) / lengths
        notes += _disagreement(sform, sized, claim.shape, "voxel sizes")
    return sform, notes


def _is_placement(affine: np.ndarray) -> bool:
    return bool(np.isfinite(affine).all()) and shear_of(affine) < 1


def _disagreement(sform: np.ndarray, other: np.ndarray, shape: Sequence[int], name: str) -> list[str]:
    corners = np.array([[*corner, 1.0] for corner in itertools.product(*((0, count - 1) for count in shape[:3]))])
    apart = float(np.linalg.norm(((sform - other) @ corners.T)[:3], axis=0).max())
    voxel = float(np.sqrt((sform[:3, :3] ** 2).sum(axis=0)).min())
    if apart <= _SAME_PLACE * min(voxel, 1.0):
        return []
    found = f"The file's sform and {name} disagree by up to {apart:.3g} mm"
    turned = sform[:3, :3] @ np.linalg.inv(other[:3, :3])
    swapped = [side for side, along in zip(_SIDES, np.diag(turned), strict=True) if along < -0.5]
    if swapped:
        found += f", and {', '.join(swapped)} are swapped between them"
    return [f"{found}; the sform was used, and other programs may use the other."]
