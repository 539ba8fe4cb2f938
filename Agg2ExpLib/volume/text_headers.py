"""NRRD and MetaImage: text headers, read within fixed limits.

Files come from anywhere: what a decoder would answer with a crash, silent zeros or a read of some other file is refused.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import BinaryIO

import numpy as np

from Agg2ExpLib.volume.headers import COPY_AGAIN, Claim, refuse

_MAX_HEADER = 4 << 20  # bytes; long because segmentations keep their table of segments in the header
_NRRD_TYPES = {
    "i1": "signed char|int8|int8_t",
    "u1": "uchar|unsigned char|uint8|uint8_t",
    "i2": "short|short int|signed short|signed short int|int16|int16_t",
    "u2": "ushort|unsigned short|unsigned short int|uint16|uint16_t",
    "i4": "int|signed int|int32|int32_t",
    "u4": "uint|unsigned int|uint32|uint32_t",
    "i8": "longlong|long long|long long int|signed long long|signed long long int|int64|int64_t",
    "u8": "ulonglong|unsigned long long|unsigned long long int|uint64|uint64_t",
    "f4": "float",
    "f8": "double",
}
_META_TYPES = {
    "i1": "MET_CHAR",
    "u1": "MET_UCHAR",
    "i2": "MET_SHORT",
    "u2": "MET_USHORT",
    "i4": "MET_INT|MET_LONG",
    "u4": "MET_UINT|MET_ULONG",
    "i8": "MET_LONG_LONG",
    "u8": "MET_ULONG_LONG",
    "f4": "MET_FLOAT",
    "f8": "MET_DOUBLE",
}
# Spaces of NRRD whose axes are those of the patient; the others are a scanner's or nobody's.
_PATIENT = re.compile(r"(right|left)[- ](anterior|posterior)[- ]superior|ras|las|lps")
_NO_PLACE = "The file states no position; its first voxel was taken to lie at 0, 0, 0 mm."
_ENCODINGS = {"raw": "raw", "gzip": "deflate", "gz": "deflate", "text": "text", "txt": "text", "ascii": "text"}


def nrrd_claim(path: Path) -> Claim:
    """Read an NRRD header; its key/value pairs come as ``fields``.

    Raises
    ------
    InputError
        Not NRRD, or damaged.
    """
    with path.open("rb") as file:
        if not re.match(rb"NRRD000[1-5]\r?\n", file.readline(64)):
            refuse(path, "the file is not NRRD whatever its name says", "give the scan itself or export it again")
        fields: dict[str, str] = {}
        pairs: dict[str, str] = {}
        for text in _Lines(path, file):
            if not text:
                break
            if match := re.match(r"([^#:][^:]*):=(.*)$", text):
                pairs[match[1].strip()] = match[2].replace("\\n", "\n").strip()
            elif match := re.match(r"([A-Za-z ]+):\s*(.*)$", text):
                _add_once(path, fields, match[1].strip().lower().replace(" ", ""), match[2].strip())
        offset = file.tell()
    sizes = _integers(path, fields.get("sizes", ""))
    if len(sizes) != int(_integers(path, fields.get("dimension", "0"))[0]):
        refuse(path, "the NRRD header is damaged (dimension and sizes disagree)", COPY_AGAIN)
    _check_spacing(path, fields.get("spacings", ""))
    dtype = _dtype(path, _NRRD_TYPES, fields.get("type", "").lower())
    kinds = fields.get("kinds", "").lower().split()
    directions = fields.get("spacedirections", "")
    vector = len(sizes) > 3 and (
        (bool(kinds) and kinds[0] not in ("domain", "space", "time")) or directions.startswith("none")
    )
    for unit in [*_quoted(fields, "spaceunits"), *_quoted(fields, "units")[int(vector) :][:3]]:
        _check_unit(path, unit)
    notes = [] if "spaceorigin" in fields or "axismins" in fields else [_NO_PLACE]
    for axis, word in enumerate(fields.get("spacings", "").split()[int(vector) :][:3]):
        if not directions and math.isnan(float(word)):
            notes.append(f"The file states no voxel size along axis {axis + 1}; 1 mm was taken.")
    endian = fields.get("endian", "little" if dtype.itemsize == 1 else "").lower()
    encoding = _ENCODINGS.get(fields.get("encoding", "").lower(), "other")
    if endian not in ("little", "big") or any(fields.get(skip, "0") != "0" for skip in ("byteskip", "lineskip")):
        encoding = "text" if encoding == "text" else "other"
    data = path
    if "datafile" in fields:
        data, offset = _beside(path, fields["datafile"]), 0
    return Claim(
        shape=sizes[1:] if vector else sizes,
        components=sizes[0] if vector else 1,
        dtype=dtype.newbyteorder(">" if endian == "big" else "<"),
        data=data,
        offset=offset,
        encoding=encoding,
        oriented=_PATIENT.fullmatch(fields.get("space", "").lower()) is not None and bool(directions),
        sized=bool(directions) or "spacings" in fields,
        notes=tuple(notes),
        fields=pairs,
    )


def meta_claim(path: Path) -> Claim:
    """Read a MetaImage header.

    Raises
    ------
    InputError
        Not MetaImage, or damaged.
    """
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        for text in _Lines(path, file):
            match = re.match(r"\s*([A-Za-z0-9_]+)\s*[=:]\s*(.*)$", text)
            if not match:
                refuse(
                    path, "the file is not MetaImage whatever its name says", "give the scan itself or export it again"
                )
            _add_once(path, fields, match[1].lower(), match[2].strip())
            if "elementdatafile" in fields:
                break
        offset = file.tell()
    if "elementdatafile" not in fields or "dimsize" not in fields:
        refuse(path, "the file is not MetaImage whatever its name says", "give the scan itself or export it again")
    _check_spacing(path, fields.get("elementspacing", ""))
    _check_unit(path, fields.get("distanceunits", ""))
    shape = _integers(path, fields["dimsize"])
    # The decoder believes NDims, and crashes when it is not the number of sizes.
    if _integers(path, fields.get("ndims", "")) != (len(shape),):
        refuse(path, "the MetaImage header is damaged (NDims and DimSize disagree)", COPY_AGAIN)
    name = fields.get("elementtype", "").upper().removesuffix("_ARRAY")
    dtype = _dtype(path, _META_TYPES, name)
    if fields.get("compresseddata", "").lower().startswith("t"):
        encoding = "deflate"
    else:
        encoding = "text" if fields.get("binarydata", "true").lower().startswith("f") else "raw"
    # Systems differ in what a long is, and some fields move or scale the voxels: the format's own decoder knows.
    scaled = any(key.startswith("elementtointensityfunction") for key in fields)
    if encoding != "text" and (name in ("MET_LONG", "MET_ULONG") or scaled or fields.get("headersize", "0") != "0"):
        encoding = "other"
    big = fields.get("elementbyteordermsb", fields.get("binarydatabyteordermsb", "false")).lower().startswith("t")
    data = path
    if fields["elementdatafile"].upper() != "LOCAL":
        data, offset = _beside(path, fields["elementdatafile"]), 0
    return Claim(
        shape=shape,
        components=_integers(path, fields.get("elementnumberofchannels", "1"))[0],
        dtype=dtype.newbyteorder(">" if big else "<"),
        data=data,
        offset=offset,
        encoding=encoding,
        oriented=any(key in fields for key in ("transformmatrix", "rotation", "orientation")),
        sized=any(key in fields for key in ("elementspacing", "elementsize")),
        notes=(
            *([] if any(key in fields for key in ("offset", "position", "origin")) else [_NO_PLACE]),
            *_contradiction(fields),
        ),
    )


def _quoted(fields: dict[str, str], key: str) -> list[str]:
    return re.findall(r'"([^"]*)"', fields.get(key, ""))


def _contradiction(fields: dict[str, str]) -> list[str]:
    """Compare the letters of a MetaImage header with its matrix, which is what counts, as for ITK."""
    letters = fields.get("anatomicalorientation", "").upper()
    text = next((fields[key] for key in ("transformmatrix", "rotation", "orientation") if key in fields), "")
    try:
        matrix = np.array([float(word) for word in (text or "1 0 0 0 1 0 0 0 1").split()]).reshape(3, 3)
    except ValueError:
        return []
    along = np.abs(matrix).argmax(axis=1)
    # ITK's letters say where an axis comes from, those of other programs where it goes.
    signs = [matrix[axis, side] > 0 for axis, side in enumerate(along)]
    pairs = [("RL", "AP", "IS")[side] for side in along]
    origin = "".join(pair[0 if sign else 1] for pair, sign in zip(pairs, signs, strict=True))
    target = "".join(pair[1 if sign else 0] for pair, sign in zip(pairs, signs, strict=True))
    if not re.fullmatch("[RLAPIS]{3}", letters) or letters in (origin, target):
        return []
    return [
        f"The file's AnatomicalOrientation, {letters}, contradicts its matrix, which says {origin}; the matrix was used, and "
        "other programs may use the other."
    ]


class _Lines:
    """Lines of a text header, within a limit, so that a binary file is not read as one endless line."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file = path, file

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._file.readline(_MAX_HEADER)
        if not line:
            raise StopIteration
        if self._file.tell() > _MAX_HEADER:
            refuse(self._path, "the header does not end within 4 MiB", "give the scan itself or export it again")
        return line.decode("utf-8", "replace").rstrip("\r\n")


def _add_once(path: Path, fields: dict[str, str], key: str, value: str) -> None:
    # Which of two would win is the decoder's secret, and a check of the other one would be worth nothing.
    if key in fields:
        refuse(path, f"the header states {key!r} twice", "export the scan again")
    fields[key] = value


def _beside(path: Path, name: str) -> Path:
    """The data file of a detached header, which must lie in the header's own folder."""
    if "%" in name or name.upper().startswith("LIST") or not name:
        refuse(path, "the header spreads its voxels over many files", "save the scan as one file")
    if "\0" in name:
        refuse(path, "the header is damaged (the name of its data file)", COPY_AGAIN)
    data = (path.parent / name).resolve()
    if path.parent.resolve() not in data.parents:
        refuse(
            path,
            f"the header points to a data file outside its own folder ({name})",
            "keep header and data side by side",
        )
    if not data.is_file():
        refuse(path, f"the data file {name} that the header names is missing", "put it beside the header")
    return data


def _check_spacing(path: Path, text: str) -> None:
    try:
        spacing = [float(word) for word in text.split()]
    except ValueError:
        spacing = [0.0]
    # NRRD writes "nan" for an axis without spacing, as that of the colours is.
    if any(value <= 0 or math.isinf(value) for value in spacing):
        refuse(
            path, f"the voxel spacing is zero, negative or no number ({text})", "export the scan again with its spacing"
        )


def _check_unit(path: Path, unit: str) -> None:
    # The decoder takes every length as millimetres, whatever the header says.
    if unit.strip().lower() not in ("", "?", "mm", "millimeter", "millimeters", "millimetre", "millimetres"):
        refuse(path, f"the header states lengths in {unit!r}", "save it again in millimetres")


def _integers(path: Path, text: str) -> tuple[int, ...]:
    words = text.split()
    if not words or len(words) > 16 or not all(re.fullmatch(r"-?\d{1,18}", word) for word in words):
        refuse(path, f"the header is damaged (sizes {text[:60]!r})", COPY_AGAIN)
    return tuple(int(word) for word in words)


def _dtype(path: Path, table: dict[str, str], name: str) -> np.dtype:
    for kind, names in table.items():
        if name in names.split("|"):
            return np.dtype(kind)
    refuse(path, f"the voxel type {name!r} is not supported", "save the scan with 16-bit integers or 32-bit floats")
