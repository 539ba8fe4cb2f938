"""Names of the labels of a label map: from its own header, or from a table that lies beside it."""

from __future__ import annotations

import contextlib
import csv
import gzip
import json
import re
import struct
from pathlib import Path
from typing import Any

from Agg2ExpLib.volume import READABLE, suffix_of

_TABLES = (".json", ".csv", ".tsv", ".txt", ".ctbl", ".label")
# Names that a table for all label maps of a folder has; dataset.json is nnU-Net's.
_SHARED = ("labels", "label_names", "dataset")
_MOST_HEADER = 4 << 20
_LONGEST_TABLE = 4 << 20
_LABEL = re.compile(r'<Label\b[^>]*\bKey="(\d+)"[^>]*>(?:\s*<!\[CDATA\[)?([^<\]]+)')


def label_names(path: Path) -> dict[int, str]:
    """Return label -> name; empty when nothing tells them.

    TotalSegmentator keeps the names in the NIfTI header. A table beside the file has its name (``seg.csv`` for
    ``seg.nii.gz``) or is called labels or dataset; it may be JSON, CSV, 3D Slicer's colour table or ITK-SNAP's.
    """
    stem = path.name[: -len(suffix_of(path, READABLE))]
    tables = [path.with_name(f"{name}{suffix}") for name in (stem, *_SHARED) for suffix in _TABLES]
    for table in tables:
        if table.is_file() and table.stat().st_size <= _LONGEST_TABLE:
            with contextlib.suppress(OSError, UnicodeDecodeError, ValueError):
                text = table.read_text(encoding="utf-8-sig")
                names = _from_json(json.loads(text)) if table.suffix == ".json" else _from_lines(text)
                if names:
                    return names
    return _from_nifti(path) if suffix_of(path, (".nii", ".nii.gz")) else {}


def _from_json(found: Any) -> dict[int, str]:
    if isinstance(found, dict) and isinstance(found.get("labels"), (dict, list)):
        found = found["labels"]
    if isinstance(found, list):
        return {number: str(name) for number, name in enumerate(found) if number and name}
    names: dict[int, str] = {}
    for key, value in found.items() if isinstance(found, dict) else ():
        if isinstance(value, int) and not isinstance(value, bool):
            names[value] = str(key)
        elif str(key).isdecimal() and isinstance(value, str):
            names[int(key)] = value
    return {number: name for number, name in names.items() if number and name}


def _from_lines(text: str) -> dict[int, str]:
    names: dict[int, str] = {}
    for line in text.splitlines():
        number, name = _from_line(line.strip())
        if number > 0 and name:
            names[number] = name
    return names


def _from_line(line: str) -> tuple[int, str]:
    """Label and name of a line such as ``7,heart``, ``heart;7``, ``7 heart 255 0 0 255`` or ``7 255 0 0 1 1 1 "heart"``."""
    if not line or line[0] in "#%":
        return 0, ""
    delimiter = next((one for one in ",;\t" if one in line), "")
    if delimiter:
        parts = [part.strip() for part in next(csv.reader([line], delimiter=delimiter))]
        if parts[0].isdecimal():
            return int(parts[0]), next((part for part in parts[1:] if part and not _is_number(part)), "")
        return (int(parts[1]), parts[0]) if len(parts) > 1 and parts[1].isdecimal() else (0, "")
    words = line.split()
    if not words[0].isdecimal():
        return 0, ""
    if quoted := re.search(r'"([^"]*)"', line):
        return int(words[0]), quoted[1].strip()
    rest = words[1:]
    # The colour of a colour table comes last.
    while rest and _is_number(rest[-1]):
        rest = rest[:-1]
    return int(words[0]), " ".join(rest)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d*)?", text) is not None


def _from_nifti(path: Path) -> dict[int, str]:
    """Names in a NIfTI-1 header extension, as TotalSegmentator and Connectome Workbench write them."""
    with contextlib.suppress(OSError, EOFError, struct.error):
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as stream:
            header = stream.read(352)
            order = "<" if header[:4] == b"\x5c\x01\0\0" else ">"
            (offset,) = struct.unpack_from(f"{order}f", header, 108)
            if header[348:349] != b"\x01" or not 352 < offset <= _MOST_HEADER:
                return {}
            text = stream.read(int(offset) - 352).decode("utf-8", "replace")
        return {int(number): name.strip() for number, name in _LABEL.findall(text) if int(number) and name.strip()}
    return {}
