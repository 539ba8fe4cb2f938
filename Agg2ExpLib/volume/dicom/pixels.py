"""Stored pixels as values: what the header says of bits, signs and rescaling, slice by slice."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from Agg2ExpLib.volume.dicom.headers import (
    EXPLICIT_LITTLE_ENDIAN,
    IMPLICIT_LITTLE_ENDIAN,
    DicomFile,
    PixelFormat,
    format_of,
    quiet_pydicom,
    text_of,
    value_of,
)
from Agg2ExpLib.volume.headers import COPY_AGAIN, refuse

_DEFLATED = "1.2.840.10008.1.2.1.99"
_PIXEL_TAG = b"\xe0\x7f\x10\x00"
_UNDEFINED = 0xFFFFFFFF


def decoded(file: DicomFile, content: bytes) -> np.ndarray:
    """Return the values of a file's slices.

    Parameters
    ----------
    file : DicomFile
        What its header says.
    content : bytes
        All of the file.

    Returns
    -------
    ndarray of shape (n, rows, columns)
        One for each plane; float32 (float64 for 32-bit pixels), rescaled.

    Raises
    ------
    InputError
        The pixels are cut short, or of a kind that cannot be decoded exactly.
    """
    path, columns_rows = file.path, file.planes[0].size
    frames, applied = _plain_frames(content, file), False
    form = file.format
    if frames is None:
        with quiet_pydicom() as pydicom:
            try:
                data = pydicom.dcmread(io.BytesIO(content), force=True)
                form = format_of(data)
            # As for headers: a damaged file makes pydicom raise almost anything.
            except Exception:
                refuse(path, "the file cannot be read as DICOM", COPY_AGAIN)
            frames, applied = _stored_frames(path, data, form)
    assert form is not None
    if frames.shape[1:] != columns_rows[::-1] or len(frames) <= max(plane.frame for plane in file.planes):
        refuse(path, "its pixels do not fit its rows, columns and frames", COPY_AGAIN)
    if frames.dtype.kind in "iu" and form.stored < form.bits and not applied:
        # To the top and back: drops what else lies in the word and keeps the sign.
        frames = (frames << (form.bits - 1 - form.high)) >> (form.bits - form.stored)
    values = np.empty((len(file.planes), *frames.shape[1:]), np.float64 if form.bits > 16 else np.float32)
    for number, plane in enumerate(file.planes):
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
        return _stored_frames(path, data, format_of(data), through_itk=False)[0]


def _plain_frames(content: bytes, file: DicomFile) -> np.ndarray | None:
    """Uncompressed frames straight from the file, where the header's reader stopped; None when they are not like that."""
    form, columns_rows = file.format, file.planes[0].size
    if form is None or form.syntax not in (IMPLICIT_LITTLE_ENDIAN, EXPLICIT_LITTLE_ENDIAN):
        return None
    head = content[form.at : form.at + 12]
    if head[:4] != _PIXEL_TAG:
        return None
    explicit = form.syntax == EXPLICIT_LITTLE_ENDIAN
    start = form.at + (12 if explicit else 8)
    length = int.from_bytes(content[start - 4 : start], "little")
    if length == _UNDEFINED:
        return None
    count = max(plane.frame for plane in file.planes) + 1 or 1
    return _as_frames(file.path, content[start : start + length], form, (count, *columns_rows[::-1]))


def _as_frames(path: Path, pixels: bytes, form: PixelFormat, shape: tuple[int, ...]) -> np.ndarray:
    needed = -(-math.prod(shape) * form.bits // 8)
    if len(pixels) < needed:
        refuse(
            path,
            f"{path.name} is cut short: its header promises {needed} bytes of pixels and fewer are there",
            "copy or export the series again",
        )
    if form.bits == 1:
        flat = np.unpackbits(np.frombuffer(pixels, np.uint8, needed), count=math.prod(shape), bitorder="little")
        return flat.reshape(shape)
    if form.bits not in (8, 16, 32, 64):
        refuse(path, f"{path.name} keeps its pixels in {form.bits} bits", "export the series with 16-bit pixels")
    kind = np.dtype(f"<{'i' if form.signed else 'u'}{form.bits // 8}")
    return np.frombuffer(pixels, kind, math.prod(shape)).reshape(shape)


def _stored_frames(path: Path, data: Any, form: PixelFormat, through_itk: bool = True) -> tuple[np.ndarray, bool]:
    """The stored numbers of all frames, and whether they are rescaled already."""
    frames = max(int(value_of(data, "NumberOfFrames") or 1), 1)
    shape = (frames, int(value_of(data, "Rows") or 0), int(value_of(data, "Columns") or 0))
    if "PixelData" not in data:
        refuse(path, f"{path.name} has no pixels, or they are no whole numbers", "export the series again")
    if form.syntax in (IMPLICIT_LITTLE_ENDIAN, EXPLICIT_LITTLE_ENDIAN, _DEFLATED):
        return _as_frames(path, data.PixelData, form, shape), False
    try:
        return np.asarray(data.pixel_array).reshape(shape), False
    # No decoder, or damaged data: pydicom's decoders raise whatever they are made of.
    except Exception:
        if through_itk and frames == 1:
            return _through_itk(path, data, form, shape), True
        _refuse_compressed(path, form)


def _through_itk(path: Path, data: Any, form: PixelFormat, shape: tuple[int, ...]) -> np.ndarray:
    """Decode a compressed slice by ITK, which rescales what it reads; the file is opened once more for it."""
    from Agg2ExpLib.volume.itk import quiet_itk

    scale = (value_of(data, "RescaleSlope"), value_of(data, "RescaleIntercept"))
    # ITK does not rescale MR.
    if text_of(data, "Modality") == "MR" and not (scale[0] in (None, 1) and scale[1] in (None, 0)):
        _refuse_compressed(path, form)
    with quiet_itk() as sitk:
        try:
            reader = sitk.ImageFileReader()
            reader.SetImageIO("GDCMImageIO")
            reader.SetFileName(str(path))
            found: np.ndarray = sitk.GetArrayFromImage(reader.Execute())
            return found.reshape(shape)
        except (RuntimeError, ValueError):
            _refuse_compressed(path, form)


def _refuse_compressed(path: Path, form: PixelFormat) -> NoReturn:
    from pydicom.uid import UID

    cause = f"{path.name} is compressed ({UID(form.syntax).name}) and cannot be decoded here"
    refuse(path, cause, "export it uncompressed, or install python-gdcm")
