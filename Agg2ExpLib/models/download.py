"""Models from MONAI's model zoo, from Hugging Face or from an address: with progress, checked, gone on with when cut off.

A model appears in its folder only when all of it is there and what was promised of each file is true of it.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from Agg2ExpLib.errors import InputError, nearest_names
from Agg2ExpLib.progress import Progress
from Agg2ExpLib.storage import write_folder

ZOO = "https://raw.githubusercontent.com/Project-MONAI/model-zoo/dev/models/model_info.json"
HUB = "https://huggingface.co"

_CHUNK = 2**18
_MB = 10**6
_TIMEOUT_S = 60
_MAX_LIST_BYTES = 20 * _MB
_MAX_FILES = 1000
_PART = 206
_BEYOND = 416
# Hugging Face's repositories hold pictures and notebooks too; these are what a model is made of.
_WANTED = (
    ".json",
    ".yaml",
    ".yml",
    ".txt",
    ".md",
    ".safetensors",
    ".pt",
    ".pth",
    ".ckpt",
    ".bin",
    ".ts",
    ".pt2",
    ".onnx",
    "",
)
_RELEASE = re.compile(r"(.+)_v(\d[\d.]*)")


@dataclass(frozen=True)
class RemoteFile:
    """One file to fetch.

    Attributes
    ----------
    url : str
        Its address.
    path : str
        Its place within the model's folder.
    check : str
        ``sha256:...``, ``sha1:...`` or ``git:...`` (of a git object), in hexadecimal; empty when none is known.
    size : int
        Bytes; 0 when unknown.
    """

    url: str
    path: str
    check: str = ""
    size: int = 0


def remote_files(source: str, sha256: str = "", *, zoo: str = ZOO, hub: str = HUB) -> list[RemoteFile]:
    """Return the files of a model that is named by its address, ``hf:OWNER/NAME``, or its name in MONAI's model zoo.

    Parameters
    ----------
    source : str
        ``https://...`` of one file, ``hf:OWNER/NAME`` or the address of that repository, or such as ``spleen_ct_segmentation``.
    sha256 : str
        What an address promises.
    zoo, hub : str
        Addresses of the list of the zoo and of Hugging Face.

    Raises
    ------
    InputError
        Nothing of that name is there, or the list cannot be read.
    """
    repository = (
        source.removeprefix("hf:").removeprefix(f"{hub}/").strip("/") if source.startswith(("hf:", hub)) else ""
    )
    if repository and "/resolve/" not in repository:
        return _hub_files(repository, hub)
    if source.startswith(("http://", "https://")):
        name = PurePosixPath(urllib.parse.urlsplit(source).path).name or "model"
        return [RemoteFile(source, name, f"sha256:{sha256.lower()}" if sha256 else "")]
    return [_zoo_file(source, zoo)]


def fetch_model(files: Sequence[RemoteFile], folder: Path, progress: Progress | None = None) -> Path:
    """Fetch all files into a new folder, which appears when all are there and right; a second call goes on from the first.

    Returns
    -------
    Path
        The only file, where there is one; else the folder.

    Raises
    ------
    InputError
        The connection failed, or a file is not what was promised.
    OutputError
        The folder exists or cannot be written.
    """
    progress = progress or Progress()
    for one in files:
        inside = PurePosixPath(one.path)
        if inside.is_absolute() or ".." in inside.parts or "\\" in one.path or ":" in one.path:
            raise InputError(f"{one.url}: names a file outside of the model ({one.path[:80]!r}); do not use it")
    if all((folder / one.path).is_file() for one in files):
        # Fetched before, and perhaps not added for want of an option.
        for one in files:
            _check(one, folder / one.path)
        return _found(files, folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    sign = json.dumps([asdict(one) for one in files])
    with write_folder(folder, fingerprint=sign, keep="**/*", option="--name") as part:
        for one in files:
            target = part / one.path
            target.parent.mkdir(parents=True, exist_ok=True)
            _fetch(one, target, progress)
            _check(one, target)
    return _found(files, folder)


def _found(files: Sequence[RemoteFile], folder: Path) -> Path:
    return folder / files[0].path if len(files) == 1 else folder


def _fetch(one: RemoteFile, target: Path, progress: Progress) -> None:
    """Fetch a file, from where an earlier try ended; tries again as long as something comes."""
    while True:
        have = target.stat().st_size if target.exists() else 0
        if one.size and have == one.size:
            return
        try:
            whole = _append(one, target, have, progress)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
            raise InputError(
                f"{one.url}: cannot be fetched ({reason}); check the connection, or fetch it elsewhere and add the file: "
                "agg2exp model add FILE"
            ) from None
        got = target.stat().st_size
        if got == whole or not whole:
            return
        if got <= have or got > whole:
            raise InputError(
                f"{one.url}: the connection ended after {got / _MB:.1f} of {whole / _MB:.1f} MB; the same command goes on from there"
            )


def _append(one: RemoteFile, target: Path, have: int, progress: Progress) -> int:
    """Add what comes to a file; returns how many bytes the whole has, 0 when the server does not tell."""
    request = urllib.request.Request(
        one.url, headers={"User-Agent": "Agg2Exp", **({"Range": f"bytes={have}-"} if have else {})}
    )
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != _BEYOND:
            raise
        # What is here is the whole, or of another file; the checksum tells.
        return have
    with answer:
        goes_on = answer.status == _PART
        start = have if goes_on else 0
        length = int(answer.headers.get("Content-Length") or 0)
        whole = start + length if length else one.size
        progress.stage("download", -(-whole // _MB), f"MB of {target.name}", before=start // _MB)
        done = start
        with target.open("ab" if goes_on else "wb") as stream:
            try:
                while chunk := answer.read(_CHUNK):
                    stream.write(chunk)
                    progress.advance((done + len(chunk)) // _MB - done // _MB)
                    done += len(chunk)
            except (http.client.IncompleteRead, ConnectionError, TimeoutError) as error:
                if isinstance(error, http.client.IncompleteRead):
                    stream.write(error.partial)
    return whole


def _check(one: RemoteFile, path: Path) -> None:
    """Refuse a file that is not what was promised, and forget it."""
    kind, _, wanted = one.check.partition(":")
    size = path.stat().st_size
    if not wanted:
        return
    digest = hashlib.new("sha256" if kind == "sha256" else "sha1", usedforsecurity=kind == "sha256")
    if kind == "git":
        digest.update(f"blob {size}\0".encode())
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != wanted:
        path.unlink()
        raise InputError(
            f"{one.url}: what came is not what was promised ({kind} {digest.hexdigest()[:12]}, expected {wanted[:12]}), so it was "
            "thrown away; try again, and do not use it if that repeats"
        )


def _zoo_file(name: str, zoo: str) -> RemoteFile:
    found = _read_list(zoo)
    releases: dict[str, list[tuple[tuple[int, ...], str]]] = {}
    for key in found if isinstance(found, dict) else ():
        match = _RELEASE.fullmatch(key)
        if match:
            version = tuple(int(part) for part in match[2].strip(".").split("."))
            releases.setdefault(match[1], []).append((version, key))
    base = _RELEASE.fullmatch(name)
    key = name if base and name in found else max(releases.get(name, [((), "")]))[1]
    if not key:
        raise InputError(
            f"{name}: is no file, no folder, no address, and not in MONAI's model zoo; {nearest_names(name, releases)}"
        )
    entry: Any = found[key]
    return RemoteFile(str(entry["source"]), f"{key}.zip", f"sha1:{str(entry['checksum']).lower()}")


def _hub_files(repository: str, hub: str) -> list[RemoteFile]:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise InputError(f"hf:{repository}: is no repository of Hugging Face; give hf:OWNER/NAME")
    found = _read_list(f"{hub}/api/models/{repository}/tree/main?recursive=true")
    files = []
    for entry in found if isinstance(found, list) else ():
        path = str(entry.get("path", ""))
        if entry.get("type") != "file" or PurePosixPath(path).suffix.lower() not in _WANTED or path.startswith("."):
            continue
        large = entry.get("lfs")
        check = f"sha256:{large['oid']}" if isinstance(large, dict) else f"git:{entry.get('oid', '')}"
        url = f"{hub}/{repository}/resolve/main/{urllib.parse.quote(path)}"
        files.append(RemoteFile(url, path, check, int(entry.get("size", 0))))
    if not files or len(files) > _MAX_FILES:
        raise InputError(f"hf:{repository}: holds no model ({len(files)} files of the kinds that models are made of)")
    return files


def _read_list(url: str) -> Any:
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "Agg2Exp"})
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            return json.loads(answer.read(_MAX_LIST_BYTES))
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise InputError(
            f"{url}: cannot be read ({getattr(error, 'reason', None) or error}); check the connection, or fetch the model "
            "elsewhere and add its file: agg2exp model add FILE"
        ) from None
