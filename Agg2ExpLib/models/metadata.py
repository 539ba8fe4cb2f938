"""How a model card lies in a MONAI bundle: ``configs/metadata.json``, ours and those of other authors. No torch.

What the MONAI specification has a place for is stored there and nowhere else (labels, window, name, version); our
section ``agg2exp`` holds the rest. A bundle without that section is read with its inference configuration, see
:mod:`Agg2ExpLib.models.bundle_plan`; nothing in it is run.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from Agg2ExpLib.errors import InputError

if TYPE_CHECKING:
    from Agg2ExpLib.models.card import ModelCard

#: Version of the ``agg2exp`` section that this program writes and the newest it reads.
FORMAT_VERSION = 1

_SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
_SECTION_FIELDS = (
    "colours",
    "spacing",
    "orientation",
    "intensity_range",
    "overlap",
    "blending",
    "step",
    "sigma",
    "padding",
    "mirror_axes",
    "channels",
    "architecture",
    "licence",
    "extra",
)
_MAX_BYTES = 1_000_000
_PLACES = ("configs/metadata.json", "metadata.json")


def metadata_of_card(card: ModelCard) -> dict[str, Any]:
    """Return a card as the content of ``metadata.json``."""
    tensor = {
        "type": "image",
        "modality": "CT",
        "spatial_shape": list(card.window or ()),
        "dtype": "float32",
        "is_patch_data": True,
    }
    image = {
        **tensor,
        "format": "hounsfield",
        "num_channels": 1,
        "value_range": [0, 1],
        "channel_def": {"0": "image"},
    }
    prediction = {
        **tensor,
        "format": "labels",
        "num_channels": len(card.labels),
        "value_range": [],
        "channel_def": {str(index): label for index, label in enumerate(card.labels)},
    }
    return {
        "schema": _SCHEMA,
        "name": card.name,
        "version": card.version,
        "changelog": {card.version: "as published"},
        "monai_version": _installed("monai"),
        "pytorch_version": _installed("torch"),
        "numpy_version": _installed("numpy"),
        "required_packages_version": {"safetensors": _installed("safetensors")},
        "task": "segmentation of CT",
        "description": card.description,
        "authors": str(card.extra.get("authors", "")),
        "copyright": card.licence,
        "intended_use": "research and teaching; not a medical device",
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": prediction}},
        "agg2exp": {
            "format_version": FORMAT_VERSION,
            **{name: _plain(getattr(card, name)) for name in _SECTION_FIELDS},
        },
    }


def read_json(path: str | Path) -> Any:
    """Read a small JSON file that may come from anyone.

    Raises
    ------
    InputError
        When it is missing, larger than 1 MB, not UTF-8, not JSON, or holds NaN or infinite numbers.
    """
    raw = read_small(Path(path))
    try:
        return json.loads(raw.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not valid JSON ({error})") from None


def read_small(path: Path) -> bytes:
    """Return the bytes of a file of settings.

    Raises
    ------
    InputError
        When it is missing or larger than 1 MB.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    if len(raw) > _MAX_BYTES:
        raise InputError(f"{path}: is larger than 1 MB, so it is not a file of this kind")
    return raw


def metadata_file(folder: Path) -> Path | None:
    """Return the metadata file of a model folder, or ``None`` when the folder is none."""
    return next((folder / place for place in _PLACES if (folder / place).is_file()), None)


def fields_of_folder(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Return the metadata file of a folder and the card fields it states.

    Raises
    ------
    InputError
        When there is no such file or it cannot be used.
    """
    path = metadata_file(folder)
    if path is None:
        raise InputError(f"{folder}: is not a model folder; it has no {' or '.join(_PLACES)}")
    metadata = read_json(path)
    found = fields_of_metadata(metadata, path)
    if is_own(path):
        return path, found
    from Agg2ExpLib.models.bundle_config import inference_file

    if inference_file(folder) is not None:
        from Agg2ExpLib.models.bundle_plan import read_plan, regions_with_background

        plan = read_plan(folder)
        found.pop("window", None)
        found |= plan.card_fields()
        if "labels" in found:
            found["labels"] = regions_with_background(plan.decision, found["labels"])
        found["extra"] = {"assumed": list(plan.notes)}
    return path, found


def is_own(metadata: Path) -> bool:
    """Tell whether a ``metadata.json`` was written by this program; one that cannot be read counts as such."""
    try:
        content = read_json(metadata)
    except InputError:
        return True
    return not isinstance(content, Mapping) or "agg2exp" in content


def fields_of_metadata(metadata: Any, source: str | Path) -> dict[str, Any]:
    """Return the card fields that a parsed ``metadata.json`` states.

    Raises
    ------
    InputError
        When it is no such file, or of a newer format than this program reads.
    """
    if not isinstance(metadata, Mapping):
        raise InputError(f"{source}: is not the metadata of a model (a JSON object is expected)")
    found = {name: metadata[name] for name in ("name", "version", "description") if name in metadata}
    data_format = metadata.get("network_data_format")
    labels = _labels(_inside(data_format, "outputs", "pred", "channel_def"), source)
    if labels:
        found["labels"] = labels
    image = _inside(data_format, "inputs", "image")
    shape = _inside(image, "patch_size") or _inside(image, "spatial_shape")
    # Bundles for whole images have expressions such as "16*n" here.
    if isinstance(shape, list) and shape and all(isinstance(side, int) for side in shape):
        found["window"] = shape
    section = metadata.get("agg2exp")
    if section is None:
        assumed = _assumptions(metadata)
        if "window" in found:
            assumed["extra"]["assumed"].append(
                f"window: {found['window']}, the shape of its data, because the bundle does not state one"
            )
        return {**found, **assumed}
    return {**found, **_section_fields(section, source)}


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a number that JSON allows")


def _section_fields(section: Any, source: str | Path) -> dict[str, Any]:
    if not isinstance(section, Mapping):
        raise InputError(f"{source}: agg2exp must be a JSON object")
    version = section.get("format_version")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise InputError(f"{source}: agg2exp.format_version must be a whole number from 1")
    if version > FORMAT_VERSION:
        raise InputError(
            f"{source}: is of format {version}, newer than this program reads ({FORMAT_VERSION}); update Agg2Exp"
        )
    return {name: section[name] for name in _SECTION_FIELDS if name in section}


def _assumptions(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Another author's metadata has no place for these, so the card says what is taken instead."""
    return {
        "licence": str(metadata.get("copyright", "")),
        "blending": "constant",
        "padding": 0.0,
        "extra": {
            "assumed": [
                "spacing: the scan's own, because the bundle does not state one",
                "intensity_range: -1024 to 1024 HU, because the bundle does not state one",
                "orientation: RAS, because the bundle does not state one",
                "overlap: 0.25, MONAI's default, because the bundle does not state one",
                "blending: constant, MONAI's default, because the bundle does not state one",
            ]
        },
    }


def _labels(channels: Any, source: str | Path) -> list[Any]:
    """Return the names of ``channel_def`` in channel order; a gap in the numbering is an error."""
    if not isinstance(channels, Mapping) or not channels:
        return []
    names = [channels.get(str(index)) for index in range(len(channels))]
    if None in names:
        raise InputError(
            f"{source}: network_data_format.outputs.pred.channel_def must number its {len(channels)} channels from 0; "
            "give the class names with --labels"
        )
    return names


def _inside(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _installed(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
