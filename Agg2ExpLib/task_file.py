"""What the Slicer panel asks of its child process, as one JSON file, and the lines that it writes to the child afterwards.

::

    {"format": "agg2exp-task", "format_version": 1,
     "command": "explain",                             as on the command line, without ``agg2exp``
     "arguments": ["/data/ct.nii.gz", "--out=..."],    what follows it there
     "scan": {"name": "chest CT", "path": "/data/ct.nii.gz", "sha256": "...", "edited": false,
              "dicom": {"study": "1.2...", "series": "1.2...", "frame_of_reference": "1.2..."}}}

``python .../cli/__main__.py task FILE`` does it. What a shell cannot carry, names of any script and lists of any length among it,
goes through a file.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from Agg2ExpLib.errors import InputError

FORMAT = "agg2exp-task"
FORMAT_VERSION = 1
#: Lines on the child's standard input: somebody listens to it; stop; go on, in answer to a question. Its end says that the parent
#: is gone.
LISTEN, CANCEL, GO_ON = b"listen", b"cancel", b"go on"
_LARGEST = 16 * 1024**2


@dataclass(frozen=True)
class ScanOrigin:
    """Where a scan that the child reads came from.

    Attributes
    ----------
    name : str
        What the user calls it.
    path : str
        The user's own file, or folder of a DICOM series; empty when there is none.
    sha256 : str
        Of the file that the child reads, 64 hexadecimal digits.
    edited : bool
        Whether the child reads a copy, because the scan was changed since ``path`` was read, or was moved.
    dicom : dict of str to str
        UIDs by ``study``, ``series`` and ``frame_of_reference``, those that are known.
    """

    name: str
    path: str = ""
    sha256: str = ""
    edited: bool = False
    dicom: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskFile:
    """One task.

    Attributes
    ----------
    command : str
        One or two words, such as ``cohort report``.
    arguments : tuple of str
        As on the command line.
    scan : ScanOrigin, optional
        Of the scan that the arguments name.
    other_scans : tuple of ScanOrigin
        Of the volumes after it, for a model of several channels.
    """

    command: str
    arguments: tuple[str, ...] = ()
    scan: ScanOrigin | None = None
    other_scans: tuple[ScanOrigin, ...] = ()

    def write(self, path: Path) -> None:
        """Write it; the file belongs to a temporary folder."""
        document = {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self)}
        path.write_text(json.dumps(document, indent=1), encoding="utf-8")

    @classmethod
    def read(cls, path: str | Path) -> TaskFile:
        """Read what :meth:`write` wrote.

        Raises
        ------
        InputError
            Not a task file, a damaged one, or one of a newer version.
        """
        path = Path(path)
        try:
            if path.stat().st_size > _LARGEST:
                raise InputError(f"{path} is too large to be a task file; start the work anew")
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{path} cannot be read ({error}); start the work anew") from error
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise InputError(f"{path} is not a task file of the Slicer panel; give one that the panel has written")
        if not isinstance(found.get("format_version"), int) or found["format_version"] > FORMAT_VERSION:
            raise InputError(
                f"{path} has version {found.get('format_version')!r:.40}, this Agg2Exp reads up to {FORMAT_VERSION}; let panel and "
                "computing Python have the same Agg2Exp"
            )
        try:
            others = tuple(one for one in map(_origin, found.get("other_scans", ())) if one)
            return cls(
                _text(found["command"]), tuple(map(_text, found["arguments"])), _origin(found.get("scan")), others
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} is damaged ({error}); start the work anew") from error


def _origin(found: Any) -> ScanOrigin | None:
    if found is None:
        return None
    dicom = {_text(name): _text(uid) for name, uid in dict(found["dicom"]).items()}
    name, path, sha256 = (_text(found[key]) for key in ("name", "path", "sha256"))
    return ScanOrigin(name, path, sha256, bool(found["edited"]), dicom)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value
