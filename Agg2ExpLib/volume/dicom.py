"""DICOM series: the slices that belong together, checked before they are decoded as if their headers were right."""

from __future__ import annotations

import contextlib
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np

from Agg2ExpLib.volume.headers import check_shape, refuse
from Agg2ExpLib.volume.itk import affine_of, refuse_itk

# What is said of a patient and a scanner, by tag.
_TOLD = {"sex": ("0010|0040",), "age": ("0010|1010",), "scanner": ("0008|0070", "0008|1090")}
_AGE = re.compile(r"(\d{3})([DWMY])")
_PER_YEAR = {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}
_LONGEST_TEXT = 80
# Transfer syntaxes whose pixels lie as they are: implicit and explicit little endian, explicit big endian.
_NATIVE = (b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.2")


def read_series(sitk: Any, folder: Path) -> tuple[Any, np.ndarray, list[str], None]:
    """Return the image of the largest series of a folder, its affine, and notes about what is odd."""
    notes: list[str] = []
    files = largest_series(sitk, folder, notes)
    _check_slices(sitk, folder, files, notes)
    reader = sitk.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames(files)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        refuse_itk(folder, error)
    check_shape(folder, image.GetSize(), image.GetNumberOfComponentsPerPixel())
    return image, affine_of(image), notes, None


def largest_series(sitk: Any, folder: Path, notes: list[str]) -> list[str]:
    """The slices, in order, of the series with the most files."""
    try:
        series = [
            list(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), name))
            for name in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
        ]
    except RuntimeError as error:
        refuse_itk(folder, error)
    _tell_unread(folder, {Path(name).name for files in series for name in files}, notes)
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
            refuse_itk(folder, error)
        size = reader.GetSize()
        if not all(value > 0 for value in reader.GetSpacing()):
            spacing = " x ".join(f"{value:g}" for value in reader.GetSpacing())
            refuse(
                folder, f"the voxel spacing is zero or negative ({spacing} mm)", "export the series with its spacing"
            )
        _check_pixels(folder, Path(name), reader)
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


def _tell_unread(folder: Path, read: set[str], notes: list[str]) -> None:
    """Say how many DICOM files the decoder silently left out: a damaged first slice would shorten the scan unseen."""
    left = [path.name for path in folder.iterdir() if path.is_file() and path.name not in read and is_dicom(path)]
    # Folders from a disc come with an index of their own.
    left = [name for name in left if name.upper() != "DICOMDIR"]
    if left:
        notes.append(
            f"{len(left)} DICOM file{'s' if len(left) > 1 else ''} of the folder could not be read as images, such as "
            f"{sorted(left)[0]}; slices may be missing."
        )


def _check_pixels(folder: Path, file: Path, reader: Any) -> None:
    """Refuse a slice whose pixel data is shorter than its rows and columns: the decoder would read beyond it."""
    content = file.read_bytes()
    syntax = re.search(rb"\x02\x00\x10\x00UI..([0-9.]+)", content[:4096], re.DOTALL)
    if syntax and syntax[1] not in _NATIVE:
        # Compressed slices carry their own sizes, which the decoders check.
        return

    def number(tag: str, otherwise: int) -> int:
        text = reader.GetMetaData(tag).strip() if reader.HasMetaDataKey(tag) else ""
        return int(text) if text.isdecimal() else otherwise

    values = int(np.prod([int(count) for count in reader.GetSize()], dtype=object)) * number("0028|0002", 1)
    needed = values * number("0028|0100", 16) // 8
    if needed > max(_pixel_lengths(content), default=0):
        refuse(
            folder,
            f"{file.name} is cut short: its header promises {needed} bytes of pixels and fewer are there",
            "copy or export the series again",
        )


def _pixel_lengths(content: bytes) -> list[int]:
    """Lengths that an element (7FE0,0010) of these bytes can have, none beyond their end."""
    found = []
    for tag, order in ((b"\xe0\x7f\x10\x00", "<"), (b"\x7f\xe0\x00\x10", ">")):
        at = content.find(tag)
        while at >= 0:
            explicit = content[at + 4 : at + 6] in (b"OW", b"OB", b"UN")
            head = at + (12 if explicit else 8)
            if head <= len(content):
                (length,) = struct.unpack(f"{order}I", content[head - 4 : head])
                if head + length <= len(content):
                    found.append(length)
            at = content.find(tag, at + 1)
    return found


def describe_series(folder: Path) -> dict[str, str]:
    """Return sex, age in years and scanner as the first readable file of a DICOM folder tells them; nothing else of a patient.

    Parameters
    ----------
    folder : path
        Of one series.

    Returns
    -------
    dict of str to str
        ``sex``, ``age``, ``scanner`` (maker and model); without what the header does not tell.
    """
    import SimpleITK

    first = next((path for path in sorted(folder.iterdir()) if path.is_file() and is_dicom(path)), None)
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(first))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        # The scan itself will be refused with a reason when its turn comes.
        return {}
    found = {}
    for name, tags in _TOLD.items():
        texts = [reader.GetMetaData(tag) for tag in tags if reader.HasMetaDataKey(tag)]
        text = " ".join(" ".join(texts).split())[:_LONGEST_TEXT]
        if name == "age" and (age := _AGE.fullmatch(text)):
            text = f"{round(int(age[1]) / _PER_YEAR[age[2]], 2):g}"
        if text:
            found[name] = text
    return found


def is_dicom(path: Path) -> bool:
    """Tell whether a file begins as DICOM files do."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
    return False
