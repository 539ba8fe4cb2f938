"""The voxels of an image file: read once, hashed on the way, and never more than the header and the file allow."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from Agg2ExpLib.volume.headers import COPY_AGAIN, Claim, refuse, refuse_unreadable

_CHUNK = 1 << 20
# deflate packs zeros 1032 to 1; other codecs are not known to reach 2000 to 1.
_TIGHTEST, _TIGHTEST_OTHER = 1040, 2000


def read_voxels(path: Path, claim: Claim) -> tuple[np.ndarray, str]:
    """Return the voxels as the file keeps them and the SHA-256 of the file.

    Parameters
    ----------
    path : Path
        The file that the user gave: of a header with a data file beside it, the header.
    claim : Claim
        Of that file.

    Returns
    -------
    ndarray of shape (i, j, k) or (components, i, j, k)
        Read-only where nothing had to be computed; the scale is applied.
    str
        See :func:`Agg2ExpLib.volume.file_sha256`.
    """
    try:
        if claim.encoding in ("text", "other"):
            check_bytes(path, claim)
            return _through_itk(path), sha256_of([path, claim.data])
        digest = hashlib.sha256()
        _check_length(path, claim)
        stored = np.empty(claim.bytes_needed, dtype=np.uint8)
        with claim.data.open("rb") as file:
            filled = 0
            for piece in _pieces(path, claim, file, digest):
                part = piece[: stored.size - filled]
                stored[filled : filled + len(part)] = np.frombuffer(part, dtype=np.uint8)
                filled += len(part)
        digests = [digest.hexdigest()]
        if claim.data != path:
            digests.append(_digest(path))
        sha256 = joined_digest(digests) if len(digests) > 1 else digests[0]
    except OSError as error:
        refuse_unreadable(path, error)
    shape = claim.shape[:3] if claim.components == 1 else (claim.components, *claim.shape[:3])
    return _scaled(stored.view(claim.dtype).reshape(shape, order="F"), claim.scale), sha256


def check_bytes(path: Path, claim: Claim) -> None:
    """Refuse a file that holds fewer voxels than its header promises; nothing is kept."""
    try:
        _check_length(path, claim)
        if claim.encoding in ("deflate", "whole-file gzip"):
            with claim.data.open("rb") as file:
                for _ in _pieces(path, claim, file, hashlib.sha256()):
                    continue
    except OSError as error:
        refuse_unreadable(path, error)


def sha256_of(files: list[Path]) -> str:
    """Return the SHA-256 of a file, or of the sorted SHA-256s of several.

    Raises
    ------
    OSError
        A file that cannot be read.
    """
    digests = [_digest(file) for file in sorted(set(files))]
    return joined_digest(digests) if len(digests) > 1 else digests[0]


def joined_digest(digests: list[str]) -> str:
    """Return the SHA-256 of a scan of several files, whose names do not matter, from those of its files."""
    return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_length(path: Path, claim: Claim) -> None:
    needed, there = claim.bytes_needed, claim.data.stat().st_size - claim.offset
    if claim.encoding == "text":
        needed = 2 * needed // claim.dtype.itemsize - 1  # one digit and one blank at the least
    elif claim.encoding == "other":
        needed //= _TIGHTEST_OTHER
    elif claim.encoding != "raw":
        there = claim.data.stat().st_size
        needed //= _TIGHTEST
    if there < needed:
        _refuse_short(path, claim, max(there, 0))


def _refuse_short(path: Path, claim: Claim, found: int) -> None:
    cause = f"the file is cut short: the header promises {claim.bytes_needed} bytes of voxels and there are {found}"
    refuse(path, cause, COPY_AGAIN)


def _pieces(path: Path, claim: Claim, file: BinaryIO, digest: Any) -> Iterator[bytes]:
    """Yield the voxels' bytes piece by piece, a little more than promised at most; all of the file goes into the digest."""
    chunks = _chunks(file, digest)
    if claim.encoding == "whole-file gzip":
        source = _inflated(path, claim, chunks, claim.offset + claim.bytes_needed)
        yield from _all_there(path, claim, _skipped(source, claim.offset))
    elif claim.encoding == "deflate":
        yield from _all_there(path, claim, _inflated(path, claim, _skipped(chunks, claim.offset), claim.bytes_needed))
    else:
        yield from _skipped(chunks, claim.offset)
    for _ in chunks:
        continue


def _chunks(file: BinaryIO, digest: Any) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
        yield chunk


def _skipped(pieces: Iterator[bytes], count: int) -> Iterator[bytes]:
    for piece in pieces:
        if len(piece) > count:
            yield piece[count:]
        count = max(count - len(piece), 0)


def _all_there(path: Path, claim: Claim, pieces: Iterator[bytes]) -> Iterator[bytes]:
    found = 0
    for piece in pieces:
        found += len(piece)
        yield piece
    if found < claim.bytes_needed:
        _refuse_short(path, claim, found)


def _inflated(path: Path, claim: Claim, chunks: Iterator[bytes], needed: int) -> Iterator[bytes]:
    """Unpack gzip or zlib streams that follow each other, not far beyond ``needed`` bytes."""
    total, stream, pending = 0, zlib.decompressobj(47), b""
    try:
        while total <= needed + _CHUNK:
            if stream.eof:
                pending = stream.unused_data or next(chunks, b"")
                if pending[:1] != b"\x1f":
                    return
                stream = zlib.decompressobj(47)
            pending = pending or next(chunks, b"")
            if not pending:
                refuse(path, f"the compressed data is cut short after {total} of {needed} bytes", COPY_AGAIN)
            piece = stream.decompress(pending, _CHUNK)
            total += len(piece)
            pending = stream.unconsumed_tail
            if piece:
                yield piece
    except zlib.error:
        refuse(path, f"the compressed data is damaged after {total} of {needed} bytes", COPY_AGAIN)


def _scaled(stored: np.ndarray, scale: tuple[float, float]) -> np.ndarray:
    if scale == (1.0, 0.0):
        return stored
    slope, intercept = scale
    values = np.empty(stored.shape, dtype=np.float64 if stored.dtype.itemsize == 8 else np.float32, order="F")
    # Slice by slice, computed in float64 without a copy of the whole in it.
    for k in range(stored.shape[-1]):
        values[..., k] = stored[..., k] * np.float64(slope) + np.float64(intercept)
    return values


def _through_itk(path: Path) -> np.ndarray:
    from Agg2ExpLib.volume.itk import quiet_itk, refuse_itk

    with quiet_itk() as sitk:
        try:
            image = sitk.ReadImage(str(path))
        except RuntimeError as error:
            refuse_itk(path, error)
        while image.GetDimension() > 3:
            image = image[..., 0]
        voxels: np.ndarray = sitk.GetArrayFromImage(image)
        return voxels.transpose(2, 1, 0) if voxels.ndim == 3 else voxels.transpose(3, 2, 1, 0)
