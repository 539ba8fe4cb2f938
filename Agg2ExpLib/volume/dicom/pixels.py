"""Stored pixels as values: what the header says of bits, signs and rescaling, slice by slice."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from Agg2ExpLib.volume.dicom.headers import Plane, quiet_pydicom
from Agg2ExpLib.volume.headers import COPY_AGAIN, refuse

_LITTLE_ENDIAN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99")


def decoded(path: Path, content: bytes, planes: Sequence[Plane]) -> np.ndarray:
    """Return the values of a file's slices.

    Parameters
    ----------
    path : Path
        The file, for sentences.
    content : bytes
        All of it.
    planes : sequence of Plane
        Some of its slices.

    Returns
    -------
    ndarray of shape (n, rows, columns)
        float32 (float64 for 32-bit pixels), rescaled.

    Raises
    ------
    InputError
        The pixels are cut short, or of a kind that cannot be decoded exactly.
    """
    with quiet_pydicom() as pydicom:
        try:
            data = pydicom.dcmread(io.BytesIO(content), force=True)
            bits = int(data.get("BitsAllocated") or 16)
            stored_bits, high = int(data.get("BitsStored") or bits), int(data.get("HighBit") or 0)
        # As for headers: a damaged file makes pydicom raise almost anything.
        except Exception:
            refuse(path, "the file cannot be read as DICOM", COPY_AGAIN)
        frames, applied = _stored_frames(path, data)
    if bits < 8:
        stored_bits, high = bits, bits - 1
    # Kinds of float have no spare bits.
    if frames.dtype.kind in "iu" and stored_bits < bits and not applied:
        frames = _without_spare_bits(frames, bits, stored_bits, max(high, stored_bits - 1))
    values = np.empty((len(planes), *frames.shape[1:]), np.float64 if bits > 16 else np.float32)
    for number, plane in enumerate(planes):
        slope, intercept = plane.scale
        if not (np.isfinite(slope) and np.isfinite(intercept) and slope != 0):
            refuse(path, "it rescales its pixels by a table or by no number", "export the series again in plain values")
        one = frames[max(plane.frame, 0)]
        values[number] = one if applied or (slope, intercept) == (1.0, 0.0) else one * slope + intercept
    return values


def stored_pixels(path: Path, data: Any) -> np.ndarray:
    """Return the stored numbers of a dataset, shape (frames, rows, columns), for files that are no scans.

    Raises
    ------
    InputError
        Cut short, or compressed in a way that cannot be decoded.
    """
    with quiet_pydicom():
        return _stored_frames(path, data, through_itk=False)[0]


def _stored_frames(path: Path, data: Any, through_itk: bool = True) -> tuple[np.ndarray, bool]:
    """The stored numbers of all frames, and whether they are rescaled already."""
    frames = max(int(data.get("NumberOfFrames") or 1), 1)
    shape = (frames, int(data.Rows), int(data.Columns))
    bits = int(data.get("BitsAllocated") or 16)
    syntax = (
        str(getattr(data.file_meta, "TransferSyntaxUID", "") or _LITTLE_ENDIAN[0]) if hasattr(data, "file_meta") else ""
    )
    if "PixelData" not in data:
        refuse(path, f"{path.name} has no pixels, or they are not whole numbers", "export the series again")
    if syntax in _LITTLE_ENDIAN or not syntax:
        pixels = data.PixelData
        needed = -(-int(np.prod(shape, dtype=object)) * bits // 8)
        if len(pixels) < needed:
            refuse(
                path,
                f"{path.name} is cut short: its header promises {needed} bytes of pixels and fewer are there",
                "copy or export the series again",
            )
        if bits == 1:
            flat = np.unpackbits(np.frombuffer(pixels, np.uint8, needed), count=int(np.prod(shape)), bitorder="little")
            return flat.reshape(shape), False
        if bits not in (8, 16, 32, 64):
            refuse(path, f"{path.name} keeps its pixels in {bits} bits", "export the series with 16-bit pixels")
        kind = np.dtype(f"<{'i' if int(data.get('PixelRepresentation') or 0) else 'u'}{bits // 8}")
        return np.frombuffer(pixels, kind, int(np.prod(shape))).reshape(shape), False
    try:
        found = np.asarray(data.pixel_array)
        return found.reshape(shape), False
    except Exception:
        if through_itk and frames == 1:
            return _through_itk(path, data, shape), True
    refuse(
        path,
        f"{path.name} is compressed ({_syntax_name(syntax)}) and cannot be decoded",
        "install python-gdcm, or export it uncompressed",
    )


def _through_itk(path: Path, data: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Decode a compressed slice by ITK, which rescales what it reads; the file is opened once more for it."""
    from Agg2ExpLib.volume.itk import quiet_itk

    name = _syntax_name(str(data.file_meta.TransferSyntaxUID))
    if str(data.get("Modality", "")) == "MR" and (data.get("RescaleSlope", 1), data.get("RescaleIntercept", 0)) != (
        1,
        0,
    ):
        # ITK does not rescale MR.
        refuse(
            path,
            f"{path.name} is compressed ({name}) and rescaled MR",
            "install python-gdcm, or export it uncompressed",
        )
    with quiet_itk() as sitk:
        try:
            reader = sitk.ImageFileReader()
            reader.SetImageIO("GDCMImageIO")
            reader.SetFileName(str(path))
            found: np.ndarray = sitk.GetArrayFromImage(reader.Execute())
            return found.reshape(shape)
        except (RuntimeError, ValueError):
            cause = f"{path.name} is compressed ({name}) and cannot be decoded"
            refuse(path, cause, "export the series uncompressed, or copy it again")


def _syntax_name(syntax: str) -> str:
    from pydicom.uid import UID

    return UID(syntax).name


def _without_spare_bits(frames: np.ndarray, bits: int, stored: int, high: int) -> np.ndarray:
    """Move the stored bits to the top and back, which drops what else lies in the word and keeps the sign."""
    return (frames << (bits - 1 - high)) >> (bits - stored)
