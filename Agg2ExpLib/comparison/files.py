"""Files of a comparison, each there completely or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from Agg2ExpLib.errors import InputError, OutputError
from Agg2ExpLib.storage import write_file

_LARGEST = 256 * 1024**2


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that it is either complete or not there, and the folder that it lies in.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}; free space or choose another --out") from error
    write_file(path, content)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write plain values as JSON. NaN stays NaN."""
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
