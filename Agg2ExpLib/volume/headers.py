"""What an image file claims about itself, checked against the bytes it has, before a decoder may allocate or crash.

Files come from anywhere. This reads NIfTI, NRRD and MetaImage headers on its own, within fixed limits, and refuses what a
decoder would answer with a crash, silent zeros or a read of some other file.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, NoReturn

import numpy as np

from Agg2ExpLib.errors import InputError

#: More voxels than this are refused (a CT of 1024 x 1024 x 2000 voxels has 2.1e9).
MAX_VOXELS = 4_000_000_000
#: Fewer voxels than this along any axis are refused: no network has anything to see there.
MIN_AXIS = 4
_MAX_HEADER = 4 << 20  # bytes; long because segmentations keep their table of segments in the header
_CHUNK = 1 << 20
_COPY_AGAIN = "copy or download the file again"

# NIfTI datatype code -> bits of one value; the others hold colours or complex numbers.
_NIFTI_BITS = {2: 8, 4: 16, 8: 32, 16: 32, 64: 64, 256: 8, 512: 16, 768: 32, 1024: 64, 1280: 64}
_NRRD_BITS = {
    8: "signed char|int8|int8_t|uchar|unsigned char|uint8|uint8_t",
    16: "short|short int|signed short|signed short int|int16|int16_t|ushort|unsigned short|unsigned short int|uint16|uint16_t",
    32: "int|signed int|int32|int32_t|uint|unsigned int|uint32|uint32_t|float",
    64: "longlong|long long|long long int|signed long long|signed long long int|int64|int64_t|ulonglong|unsigned long long"
    "|unsigned long long int|uint64|uint64_t|double",
}
_META_BITS = {
    8: "MET_CHAR|MET_UCHAR",
    16: "MET_SHORT|MET_USHORT",
    32: "MET_INT|MET_UINT|MET_FLOAT",
    64: "MET_LONG_LONG|MET_ULONG_LONG|MET_DOUBLE|MET_LONG|MET_ULONG",
}


@dataclass(frozen=True)
class Claim:
    """What the header says.

    Attributes
    ----------
    shape : tuple of int
        Size of every axis, the colour or vector axis left out.
    components : int
        Numbers per voxel.
    bits : int
        Bits of one number.
    data : Path
        The file with the voxels.
    offset : int
        Bytes before the voxels; decompressed bytes when the whole file is one gzip stream.
    encoding : {"raw", "deflate", "whole-file gzip", "text", "other"}
        How the voxels are kept.
    sform : ndarray of shape (4, 4) or None
        NIfTI's sform when it is in use.
    oriented : bool
        False when the header has no orientation at all.
    floats : str
        NumPy's name of NIfTI's type of number when it is a float one, else empty.
    """

    shape: tuple[int, ...]
    components: int
    bits: int
    data: Path
    offset: int
    encoding: str
    sform: np.ndarray | None = None
    oriented: bool = True
    floats: str = ""


def refuse(path: Path, cause: str, next_step: str) -> NoReturn:
    """Raise the one sentence about a file that cannot be used."""
    raise InputError(f"{path}: {cause}; {next_step}") from None


def checked_claim(path: Path) -> Claim:
    """Read the header of an image file and check it against the file's bytes.

    Raises
    ------
    InputError
        When the header is not of the kind the name says, claims an unusable image, or the voxels are not all there.
    """
    name = path.name.lower()
    try:
        if name.endswith((".nii", ".nii.gz")):
            claim = _nifti(path)
        elif name.endswith((".nrrd", ".nhdr")):
            claim = _nrrd(path)
        else:
            claim = _meta(path)
        check_shape(path, claim.shape, claim.components)
        _check_bytes(path, claim)
    except OSError as error:
        refuse(
            path, f"the file cannot be read ({error.strerror or error})", "check the file and the permission to read it"
        )
    return claim


def check_shape(path: Path, shape: Sequence[int], components: int = 1) -> None:
    """Refuse an image that is not one 3D volume of a size that can be worked with."""
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
    if len(space) < 3 or (space[2] == 1 and math.prod(space) > 1):
        refuse(path, f"the image is a single 2D slice (size {size})", "give the whole 3D scan")
    if min(space) < MIN_AXIS:
        refuse(
            path, f"the volume is too small (size {size})", f"give one with at least {MIN_AXIS} voxels along each axis"
        )
    if math.prod(space) > MAX_VOXELS:
        refuse(
            path,
            f"the header claims {math.prod(space):.3g} voxels (size {size})",
            "crop or downsample it below 4e9 voxels",
        )


def sequential_data(claim: Claim) -> int:
    """Return the bytes that the voxels take when not compressed."""
    return math.prod(claim.shape) * claim.components * claim.bits // 8


def _check_bytes(path: Path, claim: Claim) -> None:
    needed, size = sequential_data(claim), claim.data.stat().st_size
    if claim.encoding in ("deflate", "whole-file gzip"):
        start = claim.offset if claim.encoding == "deflate" else 0
        needed += claim.offset - start
        with claim.data.open("rb") as file:
            file.seek(start)
            found = _inflated_length(path, file, needed)
    else:
        if claim.encoding == "text":
            needed = 2 * math.prod(claim.shape) - 1  # one digit and one blank at the least
        elif claim.encoding == "other":
            needed = needed // 2000  # no codec packs tighter than that
        found = size - claim.offset
    if found < needed:
        cause = f"the file is cut short: the header promises {needed} bytes of voxels and there are {max(found, 0)}"
        refuse(path, cause, _COPY_AGAIN)


def _inflated_length(path: Path, file: BinaryIO, needed: int) -> int:
    """Bytes that a gzip or zlib stream unpacks to, without keeping them; a little above ``needed`` is the most it counts."""
    total, stream = 0, zlib.decompressobj(47)
    pending = file.read(_CHUNK)
    try:
        while total <= needed + _CHUNK:
            if stream.eof:
                pending = stream.unused_data or file.read(_CHUNK)
                if pending[:1] != b"\x1f":
                    return total
                stream = zlib.decompressobj(47)
            if not pending:
                cause = f"the compressed data is cut short after {total} of {needed} bytes"
                refuse(path, cause, _COPY_AGAIN)
            total += len(stream.decompress(pending, _CHUNK))
            pending = stream.unconsumed_tail or (b"" if stream.eof else file.read(_CHUNK))
    except zlib.error:
        refuse(path, f"the compressed data is damaged after {total} of {needed} bytes", _COPY_AGAIN)
    return total


def _nifti(path: Path) -> Claim:
    with path.open("rb") as file:
        start = file.read(1 << 16)
    packed = start[:2] == b"\x1f\x8b"
    if packed:
        if not path.name.lower().endswith(".gz"):
            refuse(path, "the file is compressed although its name ends in .nii", "rename it to end in .nii.gz")
        try:
            start = zlib.decompressobj(47).decompress(start, 2048)
        except zlib.error:
            refuse(path, "the compressed data is damaged at its very start", _COPY_AGAIN)
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

    def numbers(where: int, kind: str, count: int) -> np.ndarray:
        return np.frombuffer(start, dtype=np.dtype(kind).newbyteorder(order), count=count, offset=where)

    dim = [int(value) for value in (numbers(16, "i8", 8) if second else numbers(40, "i2", 8))]
    code = int(numbers(12 if second else 70, "i2", 1)[0])
    pixdim = numbers(104 if second else 76, "f8" if second else "f4", 8).astype(np.float64)
    offset = float(numbers(168, "i8", 1)[0] if second else numbers(108, "f4", 1)[0])
    q_code, s_code = (int(value) for value in (numbers(344, "i4", 2) if second else numbers(252, "i2", 2)))
    rows = numbers(400 if second else 280, "f8" if second else "f4", 12).astype(np.float64).reshape(3, 4)
    # Of the header's lengths: 1 says metres, 3 micrometres, anything else millimetres.
    units = int(numbers(500, "i4", 1)[0]) if second else start[123]
    rows *= {1: 1000.0, 3: 0.001}.get(units & 7, 1.0)
    if not 1 <= dim[0] <= 7 or not 0 <= offset < 2**40:
        refuse(path, "the NIfTI header is damaged (impossible number of axes or data offset)", _COPY_AGAIN)
    if not (np.isfinite(pixdim[1:4]).all() and (pixdim[1:4] > 0).all()) and dim[0] >= 3:
        spacing = " x ".join(f"{value:g}" for value in pixdim[1:4])
        refuse(
            path,
            f"the voxel spacing is zero, negative or no number ({spacing} mm)",
            "export the scan again with its spacing",
        )
    components = dim[5] if dim[0] >= 5 else 1
    shape = tuple(dim[1 : 1 + min(dim[0], 4)]) + tuple(dim[6 : 1 + dim[0]])
    if code not in _NIFTI_BITS:
        check_shape(path, shape)
        refuse(path, f"the voxels are colours or complex numbers (NIfTI data type {code})", "give one number per voxel")
    return Claim(
        shape=shape,
        components=components,
        bits=_NIFTI_BITS[code],
        data=path,
        offset=max(int(offset), 544 if second else 352),
        encoding="whole-file gzip" if packed else "raw",
        sform=np.vstack([rows, [0, 0, 0, 1]]) if s_code > 0 else None,
        oriented=s_code > 0 or q_code > 0,
        floats=order + {16: "f4", 64: "f8"}[code] if code in (16, 64) else "",
    )


def _nrrd(path: Path) -> Claim:
    with path.open("rb") as file:
        if not re.match(rb"NRRD000[1-5]\r?\n", file.readline(64)):
            refuse(path, "the file is not NRRD whatever its name says", "give the scan itself or export it again")
        fields: dict[str, str] = {}
        for text in _header_lines(path, file):
            if not text:
                break
            match = re.match(r"([A-Za-z ]+):(?!=)\s*(.*)$", text)
            if match:
                _add_once(path, fields, match[1].strip().lower().replace(" ", ""), match[2].strip())
        offset = file.tell()
    sizes = _integers(path, fields.get("sizes", ""))
    if len(sizes) != int(_integers(path, fields.get("dimension", "0"))[0]):
        refuse(path, "the NRRD header is damaged (dimension and sizes disagree)", _COPY_AGAIN)
    _check_spacing(path, fields.get("spacings", ""))
    bits = _bits(path, _NRRD_BITS, fields.get("type", "").lower())
    kinds = fields.get("kinds", "").lower().split()
    vector = len(sizes) > 3 and (
        (bool(kinds) and kinds[0] not in ("domain", "space", "time"))
        or fields.get("spacedirections", "").startswith("none")
    )
    encoding = {"raw": "raw", "gzip": "deflate", "gz": "deflate", "text": "text", "txt": "text", "ascii": "text"}.get(
        fields.get("encoding", "").lower(), "other"
    )
    data = path
    if "datafile" in fields:
        data, offset = _beside(path, fields["datafile"]), 0
    return Claim(sizes[1:] if vector else sizes, sizes[0] if vector else 1, bits, data, offset, encoding)


def _meta(path: Path) -> Claim:
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        for text in _header_lines(path, file):
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
    shape = _integers(path, fields["dimsize"])
    # The decoder believes NDims, and crashes when it is not the number of sizes.
    if _integers(path, fields.get("ndims", "")) != (len(shape),):
        refuse(path, "the MetaImage header is damaged (NDims and DimSize disagree)", _COPY_AGAIN)
    components = _integers(path, fields.get("elementnumberofchannels", "1"))[0]
    bits = _bits(path, _META_BITS, fields.get("elementtype", "").upper().removesuffix("_ARRAY"))
    if fields.get("compresseddata", "").lower().startswith("t"):
        encoding = "deflate"
    else:
        encoding = "text" if fields.get("binarydata", "true").lower().startswith("f") else "raw"
    data = path
    if fields["elementdatafile"].upper() != "LOCAL":
        data, offset = _beside(path, fields["elementdatafile"]), 0
    return Claim(shape, components, bits, data, offset, encoding)


def _header_lines(path: Path, file: BinaryIO) -> list[str] | _Lines:
    return _Lines(path, file)


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
        spacing = [math.nan]
    # NRRD writes "nan" for an axis without spacing, as that of the colours is.
    if any(value <= 0 or math.isinf(value) for value in spacing):
        refuse(
            path, f"the voxel spacing is zero, negative or no number ({text})", "export the scan again with its spacing"
        )


def _integers(path: Path, text: str) -> tuple[int, ...]:
    words = text.split()
    if not words or len(words) > 16 or not all(re.fullmatch(r"-?\d{1,18}", word) for word in words):
        refuse(path, f"the header is damaged (sizes {text[:60]!r})", _COPY_AGAIN)
    return tuple(int(word) for word in words)


def _bits(path: Path, table: dict[int, str], name: str) -> int:
    for bits, names in table.items():
        if name in names.split("|"):
            return bits
    refuse(path, f"the voxel type {name!r} is not supported", "save the scan with 16-bit integers or 32-bit floats")
