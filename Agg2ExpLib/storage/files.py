"""Files and folders that are either complete or not there, whatever stops the writing."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from pathlib import Path

from Agg2ExpLib.errors import OutputError


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is either complete or not there.

    Raises
    ------
    OutputError
        It cannot be written, for instance because the disk is full.
    """
    part = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.partial")
    try:
        with part.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, path)
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}; free space or choose another --out"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def replace_folder(new: Path, target: Path) -> None:
    """Put a finished folder in place of another; whatever stops this, one of the two is there."""
    old = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.old")
    replaced = target.exists()
    if replaced:
        target.rename(old)
    try:
        new.rename(target)
    except BaseException:
        if replaced and not target.exists():
            old.rename(target)
        raise
    sync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Make sure that the names within a folder are on the disk."""
    # Windows cannot open folders; there the rename alone has to do.
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
