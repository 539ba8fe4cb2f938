"""A MONAI bundle of another author, folder or zip: its transforms, windows and decision as its own workflow has them.

Exact is what :mod:`Agg2ExpLib.models.bundle_plan` lists; all else is refused by name, and nothing of a bundle is run.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.models.architectures import build_network, network_names
from Agg2ExpLib.models.bundle import weights_file
from Agg2ExpLib.models.bundle_config import INFERENCE_FILES, inference_file
from Agg2ExpLib.models.bundle_plan import NETWORK_PLACES, BundlePlan, read_plan
from Agg2ExpLib.models.card import read_card
from Agg2ExpLib.models.library import content_sha256
from Agg2ExpLib.models.metadata import is_own, metadata_file
from Agg2ExpLib.models.model import SegmentationModel
from Agg2ExpLib.models.registry import Format, register
from Agg2ExpLib.models.swin_unetr_checkpoint import read_weights
from Agg2ExpLib.models.untrusted import WEIGHT_SUFFIXES, sha256
from Agg2ExpLib.models.weight_sets import loaded_with

_OPTIONS = ("labels", "window", "overlap", "blending", "weights", "trust_checkpoint")
_MAX_FILES = 10_000
_MAX_BYTES = 16 * 2**30
_MAX_TEXT_BYTES = 10_000_000
# A packed weights file is seldom smaller than half; one of zeros alone is no network.
_MAX_UNPACKING = 200
_CHUNK = 2**20
_LINK = 0o120000
_KIND_OF_FILE = 0o170000


def _knows(source: str) -> bool:
    path = Path(source)
    if path.is_dir():
        metadata = metadata_file(path)
        return metadata is not None and inference_file(path) is not None and not is_own(metadata)
    return path.is_file() and path.suffix.lower() == ".zip" and _root_in(path) is not None


def _load(source: str, options: Mapping[str, Any]) -> SegmentationModel:
    path = Path(source)
    if path.is_dir():
        return _loaded(path, path, options)
    with _unpacked(path) as folder:
        metadata = metadata_file(folder)
        if metadata is None or inference_file(folder) is None or is_own(metadata):
            raise InputError(
                f"{path}: unpack it first; only bundles of MONAI with an {INFERENCE_FILES[0]} are read from a zip"
            )
        try:
            model = _loaded(folder, path, options)
        except InputError as error:
            told = str(error).partition("; if you know where it comes from")
            rest = "; unpack it and trust the folder if its own code is to make the network" if told[1] else ""
            raise InputError((told[0] + rest).replace(str(folder), str(path))) from None
    return replace(model, source=path)


def _loaded(folder: Path, source: Path, options: Mapping[str, Any]) -> SegmentationModel:
    given = dict(options)
    trusted, wanted = bool(given.pop("trust_checkpoint", False)), given.pop("weights", None)
    plan = read_plan(folder)
    _refuse(given, plan, source)
    card = read_card(folder, **{key: value for key, value in given.items() if key in _OPTIONS})
    if folder != source and card.name == folder.resolve().name:
        card = replace(card, name=source.stem)
    path, notes = _weights(folder, plan)
    made = None if card.architecture else _own_network(folder, plan)
    names = network_names(card.architecture, plan.path) if made is None else list(made.state_dict())
    found = read_weights(path, trusted, names=names, wanted=wanted, preferred=plan.weights_key)
    outputs = plan.architecture["arguments"].get("out_channels", len(card.labels))
    if made is None:
        network = build_network(card.architecture, found.tensors, outputs, card.window, path, len(card.channels))
    else:
        network = _with_weights(made, found.tensors, path)
    extra = {"assumed": [*card.assumptions, *notes, *found.notes], **loaded_with(wanted)}
    card = replace(card, extra={**card.extra, **extra})
    from Agg2ExpLib.models.formats.bundle_transforms import Transforms

    own = content_sha256(folder) if made is not None else ""
    return SegmentationModel(card, network, _identity(path, found.name + own, plan), path, Transforms.of(plan).prepare)


def _own_network(folder: Path, plan: BundlePlan) -> Any:
    """Let a trusted bundle's own code make its network, as MONAI does."""
    from monai.bundle import ConfigParser

    kept, writes = list(sys.path), sys.dont_write_bytecode
    # A new file in the folder would end the trust in it.
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(folder.resolve()))
    try:
        parser = ConfigParser()
        parser.read_config(str(plan.path))
        parser["bundle_root"] = str(folder.resolve())
        key = next(key for key in NETWORK_PLACES if parser.get(key) is not None)
        return parser.get_parsed_content(key)
    except Exception as error:  # whatever code of others raises
        line = (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
        raise InputError(f"{plan.path}: its own code does not make the network ({line})") from None
    finally:
        sys.path[:], sys.dont_write_bytecode = kept, writes
        # Another bundle has scripts of the same name.
        for name in [name for name in sys.modules if name.partition(".")[0] == "scripts"]:
            del sys.modules[name]


def _with_weights(network: Any, tensors: Mapping[str, Any], path: Path) -> Any:
    try:
        network.load_state_dict(dict(tensors), strict=True)
    except RuntimeError as error:
        line = str(error).strip().splitlines()[-1].strip()[:200]
        raise InputError(f"{path}: its weights are not those of the bundle's own network ({line})") from None
    return network.cpu().float().eval().requires_grad_(False)


def _refuse(given: Mapping[str, Any], plan: BundlePlan, source: Path) -> None:
    """Refuse what the bundle's own transforms say otherwise."""
    stated = plan.card_fields()
    for name, value in given.items():
        if name in _OPTIONS:
            continue
        if name not in stated:
            raise InputError(f"{source}: a MONAI bundle has no {name} to choose; leave --{name.replace('_', '-')} out")
        same = list(value) == list(stated[name] or ()) if not isinstance(value, str) else value == stated[name]
        if not same:
            raise InputError(
                f"{source}: its own transforms say the {name}, so it cannot be given; leave --{name.replace('_', '-')} out"
            )


def _weights(folder: Path, plan: BundlePlan) -> tuple[Path, list[str]]:
    if plan.weights is None:
        path = weights_file(folder)
        return path, [
            f"weights: {path.relative_to(folder).as_posix()}, because the bundle names no file in plain values"
        ]
    path = folder / plan.weights
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{plan.path}: {plan.weights} lies outside of the bundle; it is not read")
    if not path.is_file():
        raise InputError(
            f"{folder}: its configuration names {plan.weights}, which is not there; download the whole bundle"
        )
    return path, []


def _identity(weights: Path, name: str, plan: BundlePlan) -> str:
    """SHA-256 of all that decides on an answer: the weights, which of them, and what the bundle does before and after."""
    told = json.dumps(plan.told(), sort_keys=True, default=str)
    return hashlib.sha256("\n".join([sha256(weights), name, told]).encode()).hexdigest()


def _root_in(path: Path) -> PurePosixPath | None:
    """Return the folder within a zip that is a bundle, or ``None``."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {info.filename.replace("\\", "/") for info in archive.infolist()[:_MAX_FILES]}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return None
    found = sorted(PurePosixPath(name).parent.parent for name in names if name.endswith("configs/metadata.json"))
    return found[0] if found else None


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """Unpack configuration and weights of a zip into a folder that is gone afterwards; nothing is written outside of it."""
    root = _root_in(path)
    if root is None:
        raise InputError(f"{path}: is not the zip file of a MONAI bundle (no configs/metadata.json), or is damaged")
    with tempfile.TemporaryDirectory(prefix="agg2exp-bundle-") as place:
        folder = Path(place)
        try:
            with zipfile.ZipFile(path) as archive:
                _check_entries(archive, path)
                for info in archive.infolist():
                    inside = PurePosixPath(info.filename.replace("\\", "/"))
                    if not info.is_dir() and inside.is_relative_to(root) and _is_needed(inside):
                        _write(archive, info, folder / inside.relative_to(root), path)
        except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, EOFError, zlib.error) as error:
            raise InputError(f"{path}: cannot be unpacked ({error}); download it again") from None
        yield folder


def _check_entries(archive: zipfile.ZipFile, path: Path) -> None:
    entries = archive.infolist()
    if len(entries) > _MAX_FILES or sum(info.file_size for info in entries) > _MAX_BYTES:
        raise InputError(f"{path}: holds more than a bundle does; it is not unpacked")
    for info in entries:
        name = info.filename.replace("\\", "/")
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or ":" in name or "\0" in name:
            raise InputError(
                f"{path}: holds a file outside of itself ({name[:80]!r}); it is not unpacked, do not use it"
            )
        if info.external_attr >> 16 & _KIND_OF_FILE == _LINK:
            raise InputError(f"{path}: holds a link ({name[:80]!r}); it is not unpacked, do not use it")
        if info.file_size > max(info.compress_size, 1) * _MAX_UNPACKING and info.file_size > _MAX_TEXT_BYTES:
            raise InputError(f"{path}: {name[:80]!r} unfolds to far more than was packed; it is not unpacked")


def _is_needed(inside: PurePosixPath) -> bool:
    return inside.suffix.lower() in (*WEIGHT_SUFFIXES, ".json", ".yaml", ".yml")


def _write(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, path: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    left = info.file_size
    with archive.open(info) as stream, target.open("wb") as out:
        while chunk := stream.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                raise InputError(f"{path}: {info.filename[:80]!r} unfolds to more than it says; it is not unpacked")
            out.write(chunk)


MONAI = register(Format("monai", "MONAI bundle", _knows, _load))
