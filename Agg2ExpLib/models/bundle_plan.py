"""What a MONAI bundle does, told from its configuration: network, transforms in their order, windows, decision. No torch.

Only what is listed in the tables below is done, exactly as MONAI does it; everything else is refused by its name. Arguments
that decide where something is computed, not what, are left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.models.architectures import ARCHITECTURES, current_arguments
from Agg2ExpLib.models.bundle_config import BundleConfig, read_config
from Agg2ExpLib.models.bundle_decision import AFTER, Decided, decided
from Agg2ExpLib.models.interface import Decision, SigmoidRegions
from Agg2ExpLib.models.library import is_trusted

#: Transforms before the network -> arguments that are honoured. The names are those of MONAI's array transforms.
BEFORE: dict[str, tuple[str, ...]] = {
    "LoadImage": (),
    "EnsureChannelFirst": (),
    "AddChannel": (),
    "ToTensor": (),
    "Identity": (),
    "EnsureType": ("dtype",),
    "CastToType": ("dtype",),
    "Orientation": ("axcodes", "as_closest_canonical"),
    "Spacing": (
        "pixdim",
        "diagonal",
        "mode",
        "padding_mode",
        "align_corners",
        "dtype",
        "scale_extent",
        "recompute_affine",
        "min_pixdim",
        "max_pixdim",
    ),
    "Resize": ("spatial_size", "size_mode", "mode", "align_corners", "anti_aliasing", "anti_aliasing_sigma", "dtype"),
    "CropForeground": ("source_key", "channel_indices", "margin", "allow_smaller", "k_divisible", "mode", "value"),
    "SpatialPad": ("spatial_size", "method", "mode", "value"),
    "DivisiblePad": ("k", "method", "mode", "value"),
    "ScaleIntensityRange": ("a_min", "a_max", "b_min", "b_max", "clip", "dtype"),
    "ScaleIntensity": ("minv", "maxv", "factor", "channel_wise", "dtype"),
    "NormalizeIntensity": ("subtrahend", "divisor", "nonzero", "channel_wise", "dtype"),
    "ClipIntensityPercentiles": ("lower", "upper", "sharpness_factor", "channel_wise", "dtype"),
    "ScaleIntensityRangePercentiles": ("lower", "upper", "b_min", "b_max", "clip", "relative", "channel_wise", "dtype"),
    "ThresholdIntensity": ("threshold", "above", "cval"),
}
#: They do nothing to a scan that has been read already.
NOTHING_TO_DO = ("LoadImage", "EnsureChannelFirst", "AddChannel", "ToTensor", "Identity")

# Where something is computed, how a file is named: nothing of it changes a voxel.
_WITHOUT_EFFECT = (
    "keys",
    "allow_missing_keys",
    "device",
    "image_only",
    "reader",
    "wrap_sequence",
    "ensure_channel_first",
    "simple_keys",
    "meta_keys",
    "meta_key_postfix",
    "orig_meta_keys",
    "to_tensor",
    "strict_check",
    "overwriting",
    "output_dir",
    "output_postfix",
    "output_ext",
    "output_dtype",
    "output_format",
    "output_name_formatter",
    "data_root_dir",
    "separate_folder",
    "folder_layout",
    "squeeze_end_dims",
    "print_log",
    "writer",
    "savepath_in_metadict",
)
# What these must be, where they are given.
_REQUIRED: dict[tuple[str, str], tuple[Any, ...]] = {
    ("LoadImage", "dtype"): ("float32", None),
    ("LoadImage", "affine_lps_to_ras"): (True,),
    ("Orientation", "labels"): (None, [["L", "R"], ["P", "A"], ["I", "S"]]),
    ("EnsureChannelFirst", "channel_dim"): (None, "no_channel", 0),
    ("EnsureType", "data_type"): ("tensor",),
    ("EnsureType", "track_meta"): (True, None),
}
_PER_KEY = (
    "mode",
    "padding_mode",
    "align_corners",
    "dtype",
    "argmax",
    "to_onehot",
    "threshold",
    "sigmoid",
    "softmax",
    "nearest_interp",
)
_INFERERS = ("SlidingWindowInferer", "SlidingWindowInfererAdapt", "SimpleInferer")
_EVALUATORS = ("SupervisedEvaluator",)
# Places in the file, the first that is there.
_PREPROCESSING = ("dataset#transform", "preprocessing")
#: Where a configuration states its network; the first that is there.
NETWORK_PLACES = ("network_def", "network", "net")
_DIMENSIONS = 3
_MOST_CHANNELS = 4096
_SAME_NETWORK = re.compile(r"\$?@(network_def|network|net)(\.to\([^()]*\))?(\.eval\(\))?")


@dataclass(frozen=True)
class Step:
    """One transform.

    Attributes
    ----------
    name : str
        MONAI's array transform.
    arguments : mapping
        Plain values.
    """

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class BundlePlan:
    """What a bundle does.

    Attributes
    ----------
    path : Path
        Its configuration.
    metadata : mapping
        ``metadata.json``.
    image_key : str
        Name of the scan in the transforms.
    before : tuple of Step
        Transforms of the scan, in order.
    after : Decided
        What follows the network.
    architecture : mapping
        As in a card; without a name where the bundle's own code, which was trusted, makes the network.
    tiling : mapping
        Fields of a card: ``window``, ``overlap``, ``blending``, ``sigma``, ``padding``; without ``window`` when no inferer is
        stated.
    weights : str or None
        The file that is loaded, relative to the bundle.
    weights_key : str or None
        Key of the weights in it.
    modality : str
        "CT", or what the metadata says.
    notes : tuple of str
        What was left out or taken for stated.
    """

    path: Path
    metadata: Mapping[str, Any]
    image_key: str
    before: tuple[Step, ...]
    after: Decided
    architecture: Mapping[str, Any]
    tiling: Mapping[str, Any]
    weights: str | None
    weights_key: str | None
    modality: str
    notes: tuple[str, ...]

    @property
    def decision(self) -> Decision:
        """From logits to labels."""
        return self.after.decision

    def told(self) -> dict[str, Any]:
        """Return all that decides on a prediction as plain values."""
        return {
            "before": [[step.name, dict(step.arguments)] for step in self.before],
            "after": self.after.told(),
            "architecture": dict(self.architecture),
            "modality": self.modality,
        }

    def card_fields(self) -> dict[str, Any]:
        """Return the fields of a card; labels are those of the metadata."""
        first = {step.name: step.arguments for step in reversed(self.before)}
        pixdim = first.get("Spacing", {}).get("pixdim")
        sides = list(pixdim) if isinstance(pixdim, list) else [pixdim] * _DIMENSIONS
        known = all(isinstance(side, (int, float)) and side > 0 for side in sides) and len(sides) == _DIMENSIONS
        return {
            **self.tiling,
            "spacing": sides if known else None,
            "orientation": first.get("Orientation", {}).get("axcodes") or "RAS",
            "intensity_range": None,
            "channels": channels_of(self.metadata, self.architecture, self.modality),
            "decision": self.decision,
            "architecture": self.architecture if self.architecture["name"] else {},
        }


def read_plan(folder: Path) -> BundlePlan:
    """Read what a bundle does.

    Raises
    ------
    InputError
        Something that is not done exactly here, named; or nothing that says it.
    """
    config = read_config(folder)
    metadata = config.content["_meta_"]
    notes: list[str] = []
    _check_evaluator(config, notes)
    where = next((place for place in _PREPROCESSING if config.has(place)), None)
    if where is None or config.at(where) is None:
        raise InputError(f"{config.path}: states no preprocessing, so how a scan is prepared is not known")
    found = list(config.components(f"@{where}", where))
    key = _image_key(config, found)
    _check_source(config, found, key)
    before = tuple(_step(config, one, key, BEFORE) for one in found if _concerns(config, one, key))
    architecture = _network(config, folder, notes)
    _check_channels(config, architecture)
    after = _after(config, key, where, architecture, notes)
    tiling = _tiling(config, notes)
    weights, weights_key = _weights(config)
    modality = _modality(metadata, notes)
    return BundlePlan(
        config.path,
        metadata,
        key,
        tuple(step for step in before if step.name not in NOTHING_TO_DO),
        after,
        architecture,
        tiling,
        weights,
        weights_key,
        modality,
        tuple(notes),
    )


def channels_of(metadata: Mapping[str, Any], architecture: Mapping[str, Any], modality: str) -> tuple[str, ...]:
    """Return a name for each volume that the network takes."""
    count = architecture["arguments"].get("in_channels", 1)
    stated = _image_of(metadata).get("channel_def")
    names = [stated.get(str(index)) for index in range(count)] if isinstance(stated, Mapping) else []
    if count > 1 and len(set(names)) == count and all(isinstance(name, str) and name for name in names):
        return tuple(str(name) for name in names)
    return (modality,) if count == 1 else tuple(f"{modality} {index + 1}" for index in range(count))


def _image_of(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Any = metadata
    for key in ("network_data_format", "inputs", "image"):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _modality(metadata: Mapping[str, Any], notes: list[str]) -> str:
    image = _image_of(metadata)
    stated = str(image.get("modality") or "").strip()
    if stated.upper() == "CT" or (not stated and str(image.get("format")).lower() == "hounsfield"):
        return "CT"
    if not stated or stated.lower() == "n/a":
        notes.append("modality: CT, because the bundle does not state one; where nothing is, there is taken to be air")
        return "CT"
    return stated[:40]


def _check_evaluator(config: BundleConfig, notes: list[str]) -> None:
    if not config.has("evaluator"):
        return
    name, arguments = config.component("@evaluator", "evaluator")
    if name not in _EVALUATORS:
        raise InputError(f"{config.path}: evaluator: {name} is not supported; only {_EVALUATORS[0]} is")
    for key in ("prepare_batch", "iteration_update", "postprocessing_fn"):
        if arguments.get(key) is not None:
            raise InputError(f"{config.path}: evaluator: {key} is code of the bundle's own, which is not run")
    if arguments.get("amp") not in (None, False):
        notes.append(
            "precision: on a GPU the bundle itself computes in half precision, which --precision can ask for here too"
        )


def _image_key(config: BundleConfig, found: Sequence[tuple[str, Mapping[str, Any], str]]) -> str:
    keys = [key for one in found for key in _keys(config, one)]
    if not keys:
        raise InputError(f"{config.path}: its transforms name no image (keys)")
    return "image" if "image" in keys else keys[0]


def _keys(config: BundleConfig, one: tuple[str, Mapping[str, Any], str]) -> list[str]:
    _, arguments, where = one
    if "keys" not in arguments:
        # As of Project-MONAI's zoo every transform of a prediction is one of dictionaries.
        raise InputError(f"{config.path}: {where}: names no keys; only MONAI's dictionary transforms are supported")
    keys = config.plain(arguments["keys"], f"{where}#keys")
    return [str(key) for key in (keys if isinstance(keys, list) else [keys])]


def _concerns(config: BundleConfig, one: tuple[str, Mapping[str, Any], str], key: str) -> bool:
    return key in _keys(config, one)


def _check_source(config: BundleConfig, found: Sequence[tuple[str, Mapping[str, Any], str]], key: str) -> None:
    """Refuse a scan that is put together of other images: what is done to those would not be done here."""
    for name, arguments, where in found:
        told = [value for argument, value in arguments.items() if argument != "keys"]
        named = [text for value in told for text in (value if isinstance(value, list) else [value])]
        if array_name(name) not in BEFORE and key in named:
            raise InputError(
                f"{config.path}: {where}: {name} makes {key!r} of other images, which is not supported; give a bundle whose "
                f"channels are loaded as {key!r}"
            )
    loaded = [one for one in found if array_name(one[0]) == "LoadImage"]
    if loaded and not any(_concerns(config, one, key) for one in loaded):
        raise InputError(f"{config.path}: {loaded[0][2]}: loads other images than {key!r}, which is not supported")


def _step(
    config: BundleConfig, one: tuple[str, Mapping[str, Any], str], key: str, known: Mapping[str, tuple[str, ...]]
) -> Step:
    name, arguments, where = one
    plain = array_name(name)
    if plain not in known:
        raise InputError(
            f"{config.path}: {where}: the transform {name} is not supported, so this bundle cannot be explained exactly"
        )
    keys = _keys(config, one)
    kept: dict[str, Any] = {}
    for argument, raw in arguments.items():
        if argument in _WITHOUT_EFFECT:
            continue
        value = config.plain(raw, f"{where}#{argument}")
        if argument in _PER_KEY and isinstance(value, list) and len(value) == len(keys):
            value = value[keys.index(key)]
        if argument in known[plain]:
            kept[argument] = value
        elif value not in _REQUIRED.get((plain, argument), (None, False)):
            raise InputError(f"{config.path}: {where}: {argument} = {value!r} of {name} is not supported")
    if plain == "CropForeground" and kept.pop("source_key", key) != key:
        raise InputError(f"{config.path}: {where}: {name} by another image than {key!r} is not supported")
    return Step(plain, kept)


def array_name(name: str) -> str:
    """Return the name of MONAI's array transform of a dictionary transform.

    Examples
    --------
    >>> array_name("LoadImaged"), array_name("SpacingDict"), array_name("ThresholdIntensityD")
    ('LoadImage', 'Spacing', 'ThresholdIntensity')
    """
    for ending in ("Dict", "D", "d"):
        if name.endswith(ending) and name.removesuffix(ending) in (*BEFORE, *AFTER):
            return name.removesuffix(ending)
    return name


def _after(
    config: BundleConfig, key: str, preprocessing: str, architecture: Mapping[str, Any], notes: list[str]
) -> Decided:
    where = next((place for place in ("evaluator#postprocessing", "postprocessing") if config.has(place)), None)
    outputs = architecture["arguments"].get("out_channels")
    if where is None or config.at(where) is None:
        notes.append(
            "decision: one label a voxel by the highest logit, brought to the scan's grid by the nearest voxel, because the "
            "bundle states no postprocessing"
        )
        return decided((), outputs, config.path)
    steps = []
    for found in config.components(f"@{where}", where):
        one = _inverted(config, found, key, preprocessing) if array_name(found[0]) == "Invert" else found
        if _concerns(config, one, "pred"):
            steps.append(_step(config, one, "pred", AFTER))
    after = decided(tuple((step.name, step.arguments) for step in steps), outputs, config.path)
    notes += after.notes
    return after


def _inverted(
    config: BundleConfig, one: tuple[str, Mapping[str, Any], str], key: str, preprocessing: str
) -> tuple[str, Mapping[str, Any], str]:
    """Check that an Invert undoes the scan's own transforms."""
    name, arguments, where = one
    undone = config.value(arguments.get("transform"), f"{where}#transform")
    if undone is not config.at(preprocessing):
        raise InputError(f"{config.path}: {where}: {name} of other transforms than {preprocessing} is not supported")
    origin = config.plain(arguments.get("orig_keys"), f"{where}#orig_keys")
    if key not in (origin if isinstance(origin, list) else [origin]):
        raise InputError(f"{config.path}: {where}: {name} by other keys than {key!r} is not supported")
    return name, {k: v for k, v in arguments.items() if k not in ("transform", "orig_keys")}, where


def _network(config: BundleConfig, folder: Path, notes: list[str]) -> dict[str, Any]:
    """Return the architecture; of a network that only the bundle's own code makes its channels, where that code is trusted."""
    try:
        return _architecture(config, notes)
    except InputError as error:
        if not is_trusted(folder):
            raise InputError(
                f"{error}; if you know where it comes from, its own code can make the network: agg2exp model trust "
                f'"{folder}"'
            ) from None
    try:
        data = config.content["_meta_"]["network_data_format"]
        sides = (data["inputs"]["image"], data["outputs"]["pred"])
        inputs, outputs = (int(one.get("num_channels") or len(one["channel_def"])) for one in sides)
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{folder}: its metadata does not say how many channels its own network takes and answers"
        ) from None
    notes.append("network: made by the bundle's own code, which was trusted to run")
    return {"name": "", "arguments": {"in_channels": inputs, "out_channels": outputs}}


def _architecture(config: BundleConfig, notes: list[str]) -> dict[str, Any]:
    where = next((place for place in NETWORK_PLACES if config.has(place)), None)
    if where is None:
        raise InputError(f"{config.path}: states no network ({NETWORK_PLACES[0]})")
    _check_wrapping(config)
    name, arguments = config.component(f"@{where}", where)
    known = {one.casefold(): one for one in ARCHITECTURES}
    if name.casefold() not in known:
        raise InputError(
            f"{config.path}: {where}: the network {name} is not supported; known are {', '.join(ARCHITECTURES)}"
        )
    name = known[name.casefold()]
    plain = {key: config.plain(value, f"{where}#{key}") for key, value in arguments.items()}
    current, told = current_arguments(name, plain)
    notes += told
    return {"name": name, "arguments": current}


def _check_channels(config: BundleConfig, architecture: Mapping[str, Any]) -> None:
    where = next((place for place in NETWORK_PLACES if config.has(place)), NETWORK_PLACES[0])
    for key in ("in_channels", "out_channels"):
        count = architecture["arguments"].get(key, 1)
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= _MOST_CHANNELS:
            raise InputError(
                f"{config.path}: {where}: {key} must be a whole number from 1 to {_MOST_CHANNELS}, not {count!r}; "
                "correct it in that file"
            )


def _check_wrapping(config: BundleConfig) -> None:
    """Refuse a network that is put into something else before it is run; moving it to a device is nothing else."""
    for where in ("network", "net", "evaluator#network"):
        raw = config.raw(where)
        if raw is None or (where in NETWORK_PLACES and not config.has(NETWORK_PLACES[0])):
            continue
        if not isinstance(raw, str) or not _SAME_NETWORK.fullmatch(raw):
            raise config.refusal(where, str(raw), "changes the network")


def _tiling(config: BundleConfig, notes: list[str]) -> dict[str, Any]:
    where = next((place for place in ("evaluator#inferer", "inferer") if config.has(place)), None)
    defaults: dict[str, Any] = {"overlap": 0.25, "blending": "constant", "sigma": 0.125, "padding": 0.0}
    if where is None:
        if config.has("evaluator"):
            notes.append("window: the whole volume at once, MONAI's default, because the bundle states no inferer")
            return {**defaults, "window": None}
        return defaults
    name, arguments = config.component(f"@{where}", where)
    if name not in _INFERERS:
        raise InputError(
            f"{config.path}: {where}: the inferer {name} is not supported; known are {', '.join(_INFERERS)}"
        )
    if name == "SimpleInferer":
        return {**defaults, "window": None}

    def given(key: str, default: Any) -> Any:
        return config.plain(arguments[key], f"{where}#{key}") if key in arguments else default

    if given("with_coord", False):
        raise InputError(f"{config.path}: {where}: with_coord is not supported")
    padding_mode = given("padding_mode", "constant")
    if padding_mode not in ("constant", "replicate"):
        raise InputError(
            f"{config.path}: {where}: padding_mode {padding_mode!r} is not supported; known are constant, replicate"
        )
    return {
        "window": _window(given("roi_size", None), config.path, where),
        "overlap": _scalar(given("overlap", 0.25), "overlap", config.path, where),
        "blending": str(given("mode", "constant")).lower(),
        "sigma": _scalar(given("sigma_scale", 0.125), "sigma_scale", config.path, where),
        "padding": "edge" if padding_mode == "replicate" else _padding(given("cval", 0.0), config.path, where),
    }


def _window(value: Any, path: Path, where: str) -> list[int] | None:
    sides = value if isinstance(value, list) else [value] * _DIMENSIONS
    if not all(isinstance(side, int) and not isinstance(side, bool) for side in sides) or len(sides) != _DIMENSIONS:
        raise InputError(f"{path}: {where}: roi_size must be three whole numbers, not {value!r}")
    if all(side <= 0 for side in sides):
        return None
    if min(sides) <= 0:
        raise InputError(
            f"{path}: {where}: roi_size {value!r}, a window as long as the scan along some axes, is not supported"
        )
    return sides


def _padding(value: Any, path: Path, where: str) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        raise InputError(f"{path}: {where}: cval must be a number, not {value!r}; correct it in that file")
    return float(value)


def _scalar(value: Any, name: str, path: Path, where: str) -> float:
    several = value if isinstance(value, list) else [value]
    if not several or not all(isinstance(one, (int, float)) for one in several):
        raise InputError(f"{path}: {where}: {name} must be a number, not {value!r}")
    if len(set(several)) > 1:
        raise InputError(f"{path}: {where}: {name} {value!r}, another for each axis, is not supported")
    return float(several[0])


def _weights(config: BundleConfig) -> tuple[str | None, str | None]:
    """Return the file that the bundle's CheckpointLoader names, and the key of the network in it."""
    found = list(_loaders(config.content, ""))
    if not found:
        return None, None
    where, loader = found[0]
    path = config.plain(loader.get("load_path"), f"{where}#load_path")
    if not isinstance(path, str) or not path:
        raise InputError(f"{config.path}: {where}: names no load_path")
    parts = Path(path.replace("\\", "/")).parts
    if Path(path).is_absolute() or ".." in parts or ":" in path:
        raise InputError(f"{config.path}: {where}: {path[:80]!r} lies outside of the bundle; it is not read")
    keys = loader.get("load_dict")
    names = [str(key) for key in keys] if isinstance(keys, Mapping) else []
    return path, names[0] if len(names) == 1 else None


def _loaders(value: Any, where: str) -> list[tuple[str, Mapping[str, Any]]]:
    if isinstance(value, Mapping):
        target = str(value.get("_target_", "")).rpartition(".")[2]
        own = [(where, value)] if target == "CheckpointLoader" else []
        first = sorted(value.items(), key=lambda item: item[0] != "checkpointloader")
        return own + [one for key, item in first for one in _loaders(item, f"{where}#{key}".lstrip("#"))]
    if isinstance(value, list):
        return [one for number, item in enumerate(value) for one in _loaders(item, f"{where}#{number}")]
    return []


def regions_with_background(decision: Decision, labels: Sequence[str]) -> list[str]:
    """Return class names with background first, where the network has no channel for it."""
    return ["background", *labels] if isinstance(decision, SigmoidRegions) else list(labels)
