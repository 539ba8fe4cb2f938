"""Files of a comparison, each there completely or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from Agg2ExpLib.errors import InputError, OutputError

_LARGEST = 256 * 1024**2


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, and rename it when it is on the disk.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}; free space or choose another --out"
        ) from error


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write plain values. Numbers that are none are kept as NaN."""
    write_bytes(path, (json.dumps(content, indent=1) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read plain values back.

    Raises
    ------
    InputError
        Unreadable, or not a JSON object.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(f"{path} is too large to be a part of a comparison; remove it and go on")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}); remove it and go on") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a part of a comparison; remove it and go on")
    return content
