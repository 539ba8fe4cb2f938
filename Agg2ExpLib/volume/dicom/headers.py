"""What a DICOM file says of itself: one record per file, one plane per slice or frame."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from Agg2ExpLib.volume.dicom.kinds import is_derived, is_secondary_capture, what_it_is

_LONGEST_TEXT = 64
_ACQUISITION = ("AcquisitionNumber", "TemporalPositionIdentifier", "AcquisitionTime", "ContentTime")
_MOST_FRAMES = 100_000
IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_LITTLE_ENDIAN, _EXPLICIT_BIG_ENDIAN = f"{IMPLICIT_LITTLE_ENDIAN}.1", f"{IMPLICIT_LITTLE_ENDIAN}.2"


@dataclass(frozen=True, eq=False)
class Plane:
    """One slice: a file of a series, or a frame of a multi-frame file. Lengths are millimetres, places LPS as in DICOM.

    Attributes
    ----------
    file : Path
        Where its pixels are.
    frame : int
        Number of the frame in the file, from 0; -1 for a file of one slice.
    size : tuple of int
        Columns and rows.
    spacing : ndarray of shape (2,) or None
        Between columns and between rows.
    axes : ndarray of shape (2, 3) or None
        Directions of a row and of a column.
    position : ndarray of shape (3,) or None
        Centre of the first pixel.
    scale : tuple of float
        Rescale slope and intercept.
    unscaled : str
        What of slope and intercept the header does not tell.
    stack, time : str
        The stack and the time point that a frame says it belongs to.
    """

    file: Path
    frame: int
    size: tuple[int, int]
    spacing: np.ndarray | None
    axes: np.ndarray | None
    position: np.ndarray | None
    scale: tuple[float, float]
    stack: str = ""
    time: str = ""
    unscaled: str = ""

    @property
    def name(self) -> str:
        """What a sentence calls it."""
        return self.file.name if self.frame < 0 else f"frame {self.frame + 1} of {self.file.name}"

    @property
    def place(self) -> str:
        """Its position, for a sentence."""
        return "nowhere" if self.position is None else "({:.6g}, {:.6g}, {:.6g}) mm".format(*self.position)


@dataclass(frozen=True)
class PixelFormat:
    """How a file keeps its pixels.

    Attributes
    ----------
    syntax : str
        Transfer syntax.
    bits, stored, high : int
        Bits allocated, bits stored and the highest of these.
    signed : bool
        Whether the numbers have a sign.
    at : int
        Where the pixel element begins in the file.
    """

    syntax: str
    bits: int
    stored: int
    high: int
    signed: bool
    at: int = 0


@dataclass(frozen=True, eq=False)
class DicomFile:
    """What the header of a file says.

    Attributes
    ----------
    path : Path
        The file.
    planes : tuple of Plane
        Its slices; empty when it is something else than slices of a scan.
    kind, kinds : str
        What it is when it has no slices, in singular and plural.
    uid, study, series, frame_of_reference : str
        Identifiers; ``uid`` is the SOPInstanceUID.
    number, description, modality : str
        Of the series, as told.
    secondary : bool
        A secondary capture.
    unit : str
        RescaleType.
    format : PixelFormat or None
        How its pixels are kept.
    patient : str
        PatientID.
    origin : str
        Whether the slices come from the scanner (``"original"``) or were computed from such (``"derived"``); or empty.
    acquisition : tuple of str
        AcquisitionNumber, the time point, AcquisitionTime and ContentTime.
    localizers : int
        Number of frames that were left out as localizers.
    """

    path: Path
    planes: tuple[Plane, ...] = ()
    kind: str = ""
    kinds: str = ""
    uid: str = ""
    study: str = ""
    series: str = ""
    frame_of_reference: str = ""
    number: str = ""
    description: str = ""
    modality: str = ""
    secondary: bool = False
    unit: str = ""
    format: PixelFormat | None = None
    patient: str = ""
    origin: str = ""
    acquisition: tuple[str, ...] = ()
    localizers: int = 0


def is_dicom(path: Path) -> bool:
    """Tell whether a file begins as DICOM files do."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        start = file.read(132)
        # Files without the preamble begin with an element of group 2 or 8: its number and its type, or a short length.
        return start[128:] == b"DICM" or bool(re.match(rb"[\x02\x08]\x00.\x00([A-Z]{2}|.\x00\x00\x00)", start, re.S))
    return False


@contextlib.contextmanager
def quiet_pydicom() -> Iterator[Any]:
    """Yield pydicom, with its warnings about odd headers kept off the screen; what matters is checked here."""
    import logging

    import pydicom

    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield pydicom
    finally:
        logger.setLevel(level)


def read_header(path: Path) -> DicomFile | None:
    """Return what a file's header says, pixels left aside; None when it cannot be made sense of."""
    import pydicom

    try:
        with path.open("rb") as file:
            header = pydicom.dcmread(file, stop_before_pixels=True, force=True)
            return described(header, path, file.tell())
    # Damaged headers make pydicom raise almost anything; each is the same to us: a file that cannot be read.
    except Exception:
        return None


def described(header: Any, path: Path, at: int = 0) -> DicomFile | None:
    """Return the record of a header that pydicom has read; None without the least that a DICOM object needs."""
    sop_class = text_of(header, "SOPClassUID")
    rows, columns = int(value_of(header, "Rows") or 0), int(value_of(header, "Columns") or 0)
    if not sop_class and not rows:
        return None
    image_type = [str(word) for word in _listed(value_of(header, "ImageType"))]
    colour = int(value_of(header, "SamplesPerPixel") or 1) != 1 or text_of(
        header, "PhotometricInterpretation"
    ).startswith("PAL")
    frames = frames_of(header) if rows else []
    placed = any(_vector(one[0], "ImagePositionPatient", 3) is not None for one in frames if one)
    kind, kinds = what_it_is(sop_class, image_type, colour, placed)
    if not kind and not rows:
        kind, kinds = "object without an image", "objects without an image"
    many = "NumberOfFrames" in header and "PerFrameFunctionalGroupsSequence" in header
    planes = (
        ()
        if kind
        else tuple(
            plane_of(path, number if many else -1, (columns, rows), sources)
            for number, sources in enumerate(frames)
            if len(sources) == 1 or not _is_scout(sources)
        )
    )
    original = image_type[:1] == ["ORIGINAL"]
    return DicomFile(
        path,
        planes,
        kind,
        kinds,
        text_of(header, "SOPInstanceUID"),
        text_of(header, "StudyInstanceUID"),
        text_of(header, "SeriesInstanceUID"),
        text_of(header, "FrameOfReferenceUID"),
        text_of(header, "SeriesNumber"),
        text_of(header, "SeriesDescription"),
        text_of(header, "Modality"),
        is_secondary_capture(sop_class),
        text_of(header, "RescaleType"),
        format_of(header, at),
        text_of(header, "PatientID"),
        "derived" if is_derived(sop_class, image_type) else "original" if original else "",
        tuple(text_of(header, name) for name in _ACQUISITION),
        len(frames) - len(planes) if planes else 0,
    )


def format_of(header: Any, at: int = 0) -> PixelFormat:
    """Return how the pixels of a dataset are kept."""
    meta = getattr(header, "file_meta", None)
    bits = int(value_of(header, "BitsAllocated") or 16)
    stored = int(value_of(header, "BitsStored") or bits)
    return PixelFormat(
        str((meta is not None and value_of(meta, "TransferSyntaxUID")) or _syntax_found(header)),
        bits,
        stored,
        max(int(value_of(header, "HighBit") or 0), stored - 1),
        bool(value_of(header, "PixelRepresentation")),
        at,
    )


def _syntax_found(header: Any) -> str:
    """The transfer syntax that pydicom found a dataset in which states none."""
    implicit, little = header.original_encoding
    if implicit is False:
        return EXPLICIT_LITTLE_ENDIAN if little else _EXPLICIT_BIG_ENDIAN
    return IMPLICIT_LITTLE_ENDIAN


def value_of(source: Any, name: str) -> Any:
    """Return an attribute, None when it is missing. Dataset.get is slow for what is missing, and most of it is."""
    from pydicom.datadict import tag_for_keyword

    element = source.get(tag_for_keyword(name))
    return None if element is None else element.value


def text_of(header: Any, name: str) -> str:
    """Return an attribute as one line of text, empty when it is missing."""
    value = value_of(header, name)
    return " ".join(str("" if value is None else value).split())[:_LONGEST_TEXT]


def frames_of(header: Any) -> list[tuple[Any, ...]]:
    """Return, for each frame, the datasets that its attributes are looked up in, the nearest first."""
    count = int(value_of(header, "NumberOfFrames") or 1)
    groups = value_of(header, "PerFrameFunctionalGroupsSequence")
    if not groups:
        # Several frames without places of their own cannot be stacked.
        return [(header,)] if count == 1 else [()] * min(count, _MOST_FRAMES)
    if len(groups) != count:
        raise ValueError("the number of frames and of their descriptions differ")
    shared = next(iter(value_of(header, "SharedFunctionalGroupsSequence") or ()), None)
    common = _macros(shared) if shared is not None else ()
    return [(*_macros(group), *common, header) for group in groups]


def _macros(group: Any) -> tuple[Any, ...]:
    """The items of a functional group, each a small dataset."""
    return tuple(element.value[0] for element in group if element.VR == "SQ" and element.value)


def plane_of(path: Path, number: int, size: tuple[int, int], sources: tuple[Any, ...]) -> Plane:
    """Return where a frame lies, by the datasets of :func:`frames_of`."""
    spacing = axes = position = None
    for one in sources:
        spacing = _vector(one, "PixelSpacing", 2) if spacing is None else spacing
        axes = _vector(one, "ImageOrientationPatient", 6) if axes is None else axes
        position = _vector(one, "ImagePositionPatient", 3) if position is None else position
    slope, intercept = found_in(sources, "RescaleSlope"), found_in(sources, "RescaleIntercept")
    if found_in(sources, "ModalityLUTSequence") is not None:
        slope = np.nan
    # Single slices have no functional groups: their time points are found by place.
    stack, time = (found_in(sources, name) if number >= 0 else None for name in ("StackID", "TemporalPositionIndex"))
    return Plane(
        path,
        number,
        size,
        # DICOM tells the distance of rows first.
        None if spacing is None else spacing[::-1],
        None if axes is None else axes.reshape(2, 3),
        position,
        (1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept)),
        "" if stack is None else str(stack),
        "" if time is None else str(time),
        " and ".join(
            name for name, value in (("RescaleSlope", slope), ("RescaleIntercept", intercept)) if value is None
        ),
    )


def _is_scout(sources: tuple[Any, ...]) -> bool:
    return any(str(word).upper() == "LOCALIZER" for word in _listed(found_in(sources, "FrameType")))


def found_in(sources: tuple[Any, ...], name: str) -> Any:
    """Return an attribute of a frame from the first dataset that has it, else None."""
    for one in sources:
        value = value_of(one, name)
        if value is not None and value != "":
            return value
    return None


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def _vector(source: Any, name: str, count: int) -> np.ndarray | None:
    values = value_of(source, name)
    if values is None or isinstance(values, (str, bytes)) or not hasattr(values, "__len__") or len(values) != count:
        return None
    return np.array([float(value) for value in values])
