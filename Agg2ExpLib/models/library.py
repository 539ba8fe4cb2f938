"""The user's models: names for files and folders with what was said of them, and which programs are trusted. No torch.

One small file in the user's data folder, shared by the command line and the panel. Weights stay where they are; only what was
downloaded lies beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from Agg2ExpLib.errors import InputError, OutputError, nearest_names
from Agg2ExpLib.models.metadata import read_json
from Agg2ExpLib.models.untrusted import sha256
from Agg2ExpLib.storage import FolderLock, file_key, write_file

_FILE = "models.json"
_VERSION = 1


@dataclass(frozen=True)
class Entry:
    """One model of the user's.

    Attributes
    ----------
    name : str
        What ``--model`` is given.
    path : str
        File, folder or name that a format understands.
    sha256 : str
        Of the file, or of all files of the folder.
    size : int
        Bytes.
    licence : str
        As the model states it.
    source : str
        Where it was downloaded from; empty for one added from a disk.
    options : mapping
        What was said beside it: labels, spacing, window ...
    card : mapping
        What its card said when it was added, for showing it without loading it; see :func:`card_of`.
    identity : str
        The loaded model's own hash when it was added: weights and all that decides on its answers.
    """

    name: str
    path: str
    sha256: str = ""
    size: int = 0
    licence: str = ""
    source: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)
    identity: str = ""


_KINDS = {
    "path": str,
    "sha256": str,
    "size": int,
    "licence": str,
    "source": str,
    "options": dict,
    "card": dict,
    "identity": str,
}
#: Fields of a card that are kept.
CARD_FIELDS = (
    "name",
    "labels",
    "colours",
    "spacing",
    "orientation",
    "intensity_range",
    "window",
    "channels",
    "licence",
    "description",
    "version",
)


def data_folder() -> Path:
    """Return where this system keeps a user's data of Agg2Exp."""
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "Agg2Exp"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "Agg2Exp"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "agg2exp"


@dataclass(frozen=True)
class Library:
    """The user's models.

    Attributes
    ----------
    folder : Path
        Where the list and what was downloaded lie; it need not be there.
    """

    folder: Path = field(default_factory=data_folder)

    def models(self) -> dict[str, Entry]:
        """Return the models by name; none when nothing was added yet.

        Raises
        ------
        InputError
            The list is damaged, or of a newer version.
        """
        models: dict[str, Entry] = {}
        for name, told in self._read()["models"].items():
            kept = {key: told[key] for key in _KINDS if key in told} if isinstance(told, dict) else {}
            sound = all(isinstance(value, _KINDS[key]) for key, value in kept.items())
            if not sound or kept.get("path", "") in ("", name):
                raise InputError(
                    f"{self.folder / _FILE}: is damaged at {name!r}; take that entry out of it and add the model again"
                )
            models[name] = Entry(name, **kept)
        return models

    def trusted(self) -> dict[str, Any]:
        """Return the programs that were trusted: hash -> path and day."""
        return dict(self._read()["trusted"])

    def add(self, entry: Entry) -> None:
        """Remember a model; one of the same name is replaced."""
        check_name(entry.name)
        self._change(lambda content: content["models"].update({entry.name: asdict(entry)}))

    def remove(self, name: str) -> Entry:
        """Forget a model, which is returned; its files stay.

        Raises
        ------
        InputError
            None is called so.
        """
        entry = self.models().get(name)
        if entry is None:
            raise InputError(f"no added model is called {name!r}; {nearest_names(name, self.models())}")
        self._change(lambda content: content["models"].pop(name, None))
        return entry

    def trust(self, path: Path) -> str:
        """Trust a file or folder as it is now; returns its hash."""
        digest = content_sha256(path)
        entry = {"path": str(path.resolve()), "day": datetime.now(UTC).date().isoformat()}
        self._change(lambda content: content["trusted"].update({digest: entry}))
        return digest

    def _read(self) -> dict[str, Any]:
        path = self.folder / _FILE
        if not path.is_file():
            return {"format": "agg2exp-models", "format_version": _VERSION, "models": {}, "trusted": {}}
        content = read_json(path)
        if not isinstance(content, dict) or not all(
            isinstance(content.get(key), dict) for key in ("models", "trusted")
        ):
            raise InputError(f"{path}: is damaged; remove it and add your models again")
        if content.get("format_version") != _VERSION:
            raise InputError(f"{path}: was written by another version of Agg2Exp; update Agg2Exp")
        return content

    def _change(self, change: Callable[[dict[str, Any]], Any]) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self.folder}: cannot be made ({error.strerror}); check its permissions") from error
        with FolderLock(self.folder, inside=True, wait=lambda: None):
            content = self._read()
            change(content)
            write_file(self.folder / _FILE, json.dumps(content, indent=1))


def check_name(name: str) -> None:
    """Refuse what cannot be the name of a model.

    Raises
    ------
    InputError
        It is no file name on every system.
    """
    if not name.strip() or file_key(name) != name.casefold():
        raise InputError(
            f"{name!r} cannot be the name of a model; give one of letters, digits, '-', '_' and '.' with --name"
        )


def content_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, or of all files of a folder with their names."""
    if not path.is_dir():
        return sha256(path)
    digest = hashlib.sha256()
    for one in sorted(found for found in path.rglob("*") if found.is_file()):
        digest.update(f"{one.relative_to(path).as_posix()} {sha256(one)}\n".encode())
    return digest.hexdigest()


def content_size(path: Path) -> int:
    """Return the bytes of a file, or of all files of a folder."""
    files = [one for one in path.rglob("*") if one.is_file()] if path.is_dir() else [path]
    return sum(one.stat().st_size for one in files if one.is_file())


def is_trusted(path: Path) -> bool:
    """Whether the user trusts a file or folder as it is now."""
    trusted = Library().trusted()
    return bool(trusted) and content_sha256(path) in trusted


def check_trusted(path: Path, digest: str, what: str) -> None:
    """Refuse what runs code on this computer unless the user trusts it, in exactly this state.

    Raises
    ------
    InputError
        With the command that trusts it.
    """
    if digest not in Library().trusted():
        raise InputError(
            f"{path}: is {what}: reading it runs its code on this computer, and it is not trusted (sha256 {digest[:12]}); if you "
            f'know where it comes from: agg2exp model trust "{path}"'
        )
