"""Repeat an explanation of its own explanation.json, or of a request written by hand: ``agg2exp run FILE``.

A request file holds ``{"format": "agg2exp-request", "format_version": 1, "settings": {...}, "image": ..., "model": ...}`` with
the parts that explanation.json has: a path, and where there is one the SHA-256 that the file had.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.explanation import Explanation, explain
from Agg2ExpLib.explanation.document import scan_of
from Agg2ExpLib.explanation.folder import DOCUMENT, FORMAT
from Agg2ExpLib.models import Model, bundled_models, load_model
from Agg2ExpLib.progress import Progress
from Agg2ExpLib.request import Request, identity_of_settings
from Agg2ExpLib.volume import Volume

REQUEST_FORMAT, REQUEST_VERSION = "agg2exp-request", 1
_LARGEST = 64 * 1024**2


@dataclass(frozen=True)
class Repeat:
    """What a file asks to repeat.

    Attributes
    ----------
    source : Path
        The file.
    request : Request
        Method, classes, computation.
    images : tuple of Path or Volume
        The scan, one a channel.
    model : Model
        Loaded.
    regions : mapping of str to Path
        Extra regions.
    truth : Path, optional
        True classes.
    prediction : Path, optional
        The prediction that was given to be explained.
    changes : tuple of str
        What has changed since, one sentence each.
    """

    source: Path
    request: Request
    images: tuple[Path | Volume, ...]
    model: Model
    regions: Mapping[str, Path | Volume]
    truth: Path | Volume | None
    prediction: Path | Volume | None
    changes: tuple[str, ...]

    def run(
        self, out: str | Path, *, changed: bool = False, overwrite: bool = False, progress: Progress | None = None
    ) -> Explanation:
        """Explain again.

        Parameters
        ----------
        out : path
            Folder to make.
        changed : bool
            Go on although the scan, the model or a region is no longer what it was.

        Raises
        ------
        InputError
            Something has changed and ``changed`` is false.
        """
        if self.changes and not changed:
            raise InputError(f"{self.changes[0]}; give --changed to explain it as it is now")
        for text in self.changes:
            (progress or Progress()).message(text)
        found = explain(
            list(self.images),
            self.model,
            out,
            self.request,
            regions=dict(self.regions),
            truth=self.truth,
            prediction=self.prediction,
            overwrite=overwrite,
            progress=progress,
        )
        return found


def read_repeat(path: str | Path, *, model: str | Path | None = None, device: str | None = None) -> Repeat:
    """Read an explanation.json (or its folder), or a request file.

    Parameters
    ----------
    path : path
        The file.
    model, device
        Take the place of what the file says.

    Raises
    ------
    InputError
        Not such a file, one of a newer version, or a scan or model that is no longer there.
    """
    source = Path(path) / DOCUMENT if Path(path).is_dir() else Path(path)
    document = _read(source)
    request = request_told(document, source)
    if device is not None:
        request = replace(request, compute=replace(request.compute, device=device))
    changes: list[str] = []
    try:
        images = tuple(
            _file(source, entry, "scan", changes) for entry in [document["image"], *document.get("other_channels", [])]
        )
        regions = {
            str(entry["id"]): _file(
                source, {**entry, "path": entry.get("source", "")}, f"region {entry['id']}", changes
            )
            for entry in document.get("regions", [])
        }
        truth = _file(source, document["truth"], "truth", changes) if document.get("truth") else None
        told = document.get("given_prediction")
        given = _file(source, told, "given prediction", changes) if told else None
        loaded = _model(document["model"], model, source, changes)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{source} lacks {error}; write it anew, or repeat the explanation by hand") from None
    return Repeat(source, request, images, loaded, regions, truth, given, tuple(changes))


def _read(source: Path) -> dict[str, Any]:
    try:
        if source.stat().st_size > _LARGEST:
            raise InputError(f"{source}: is too large to be a request; give an explanation.json or a request file")
        document = json.loads(source.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{source}: cannot be read as a request ({error}); give an explanation.json") from None
    kind = document.get("format") if isinstance(document, dict) else None
    if kind not in (FORMAT, REQUEST_FORMAT):
        raise InputError(f"{source}: is neither an explanation.json nor a request file; give one of them")
    version = document.get("format_version")
    if isinstance(version, bool) or not isinstance(version, int) or version > REQUEST_VERSION:
        raise InputError(
            f"{source}: has format version {version!r:.40}, this Agg2Exp reads up to {REQUEST_VERSION}; update Agg2Exp"
        )
    return dict(document)


def request_told(document: Mapping[str, Any], source: Path) -> Request:
    """Return what the settings of a document ask for.

    Raises
    ------
    InputError
        It has none, or ones that are not known.
    """
    settings = document.get("settings")
    if not isinstance(settings, Mapping):
        raise InputError(f"{source}: has no settings; give an explanation.json or a request file")
    try:
        if document["format"] == FORMAT:
            # Version 0.1 lists the options of every method.
            kept = identity_of_settings(settings)
            apart = {
                key: settings.get(key) for key in ("classes", "device", "batch_size", "memory_budget", "recompute")
            }
            given = {**kept, **apart, **{key: settings[key] for key in ("supervoxels",) if key in kept}}
            return Request.from_dict({key: value for key, value in given.items() if value is not None})
        return Request.from_dict(settings)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None


def _file(source: Path, entry: Mapping[str, Any], what: str, changes: list[str]) -> Path | Volume:
    """Return a file (or the series of a folder) that the document names, and note when it is not what it was."""
    named = str(entry["path"])
    if not named:
        raise InputError(f"{source}: its {what} was a volume in memory, so it cannot be read again; explain it by hand")
    path = source.parent / named
    if not path.exists():
        raise InputError(f"{path}: the {what} is no longer there; put it back, or correct the path in {source}")
    found = scan_of(entry, path)
    if found is None:
        changes.append(f"{path}: the {what} has changed since {source} was written")
    return path if found is None else found


def _model(said: Mapping[str, Any], given: str | Path | None, source: Path, changes: list[str]) -> Model:
    from Agg2ExpLib.whatif import load_as_told

    if given is not None:
        loaded = load_as_told(said, given)
    elif said.get("name") in bundled_models() and not Path(str(said["path"])).exists():
        loaded = load_model(str(said["name"]))
    else:
        loaded = load_as_told(said, None)
    told = str(said.get("sha256") or "")
    if told and loaded.sha256 != told:
        changes.append(
            f"{loaded.source}: the model has changed since {source} was written "
            f"(sha256 {loaded.sha256[:12]}, then {told[:12]})"
        )
    return loaded
