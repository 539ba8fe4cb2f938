"""One file at a time, each complete or not there, whatever stops the writing."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from Agg2ExpLib.errors import OutputError

# A virus scanner or an indexer holds a new file for a moment; Windows then refuses to replace or rename it.
_WAITS_S = (0.05, 0.1, 0.2, 0.4) if os.name == "nt" else ()
_TEMPORARY = re.compile(r"\.[0-9a-f]{8}\.partial")
# On Windows a folder of so many characters, or a file of 12 more, is not found unless long paths were switched on.
_LONG_PATH = 248
# Windows' codes for "access is denied" and for a file that another program has open.
_IN_USE = (5, 32)


def write_file(path: str | Path, content: bytes | str, *, option: str = "--out") -> None:
    """Write a file so that it is either complete or not there.

    Parameters
    ----------
    path : path
        Its folder must exist.
    content : bytes or str
        Text is written as UTF-8, its line ends as they are.
    option : str
        What the user would change to write elsewhere.

    Raises
    ------
    OutputError
        It cannot be written, for instance because the disk is full.
    """
    path = Path(path)
    part = temporary_beside(path)
    with told(path, option):
        try:
            with part.open("wb") as stream:
                stream.write(content.encode() if isinstance(content, str) else content)
                stream.flush()
                os.fsync(stream.fileno())
            put_in_place(part, path)
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)


def write_table(path: str | Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file so that it is either complete or not there; errors as of :func:`write_file`."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_file(path, stream.getvalue())


@contextlib.contextmanager
def new_file(path: str | Path, *, option: str = "--out") -> Iterator[Path]:
    """Yield a temporary path of the same name for a writer that wants one; the file gets its place when the block ends.

    Nothing of it is left when the block fails, nor what the writer put beside it.

    Parameters
    ----------
    path : path
        Its folder must exist.
    option : str
        What the user would change to write elsewhere.

    Raises
    ------
    OutputError
        It cannot be written; also for any :class:`OSError` of the block.
    """
    path = Path(path)
    folder = temporary_beside(path)
    with told(path, option):
        try:
            folder.mkdir()
            yield folder / path.name
            flush_file(folder / path.name)
            put_in_place(folder / path.name, path)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def told(path: Path, option: str = "--out") -> Iterator[None]:
    """Turn what the system says about writing ``path`` into a sentence."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write {path}: {_reason(error, path)} choose another {option}") from error


def temporary_beside(path: Path) -> Path:
    """Return a hidden name that nobody has, on the same file system."""
    return path.with_name(f".{secrets.token_hex(4)}.partial")


def remove_temporary(folder: Path) -> None:
    """Remove what killed writers left in a folder and below it; nobody may be writing there."""
    for path in [path for path in folder.rglob(".*.partial") if _TEMPORARY.fullmatch(path.name)]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()


def put_in_place(source: Path, target: Path) -> None:
    """Rename a file, over another if need be, or a folder."""
    for wait in _WAITS_S:
        try:
            os.replace(source, target)
            return
        except PermissionError:
            time.sleep(wait)
    os.replace(source, target)


def flush_file(path: Path) -> None:
    """Make sure that a file's bytes are on the disk."""
    # Opened for writing, for Windows flushes no file that is only read.
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def flush_folder(folder: Path) -> None:
    """Make sure that the names within a folder are on the disk."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:
        # Windows opens no folder; there the rename alone has to do.
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _reason(error: OSError, path: Path) -> str:
    """Return why, and what else than another place would help."""
    said = error.strerror or str(error)
    if error.errno == errno.ENOSPC:
        return f"the disk is full ({said}); free space or"
    named = [Path(os.fsdecode(one)) for one in (error.filename, error.filename2) if isinstance(one, (str, bytes))]
    length = max(len(str(one.absolute())) for one in (path, *named))
    lost = length >= _LONG_PATH and error.errno in (errno.ENOENT, errno.EINVAL) and path.parent.is_dir()
    if lost or error.errno == errno.ENAMETOOLONG:
        return f"a path of {length} characters is too long for this system; give a shorter name or"
    if getattr(error, "winerror", None) in _IN_USE:
        return f"another program has it open ({said}); close it there or"
    return f"{said};" if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) else f"{said}; free space or"
