"""What nnU-Net v2's plans.json and dataset.json say, as one checked value. No torch.

nnU-Net looks up classes and functions by the names in its plans. Here a name stands for what this project has rebuilt
exactly, and any other is refused: see :data:`NORMALISATIONS`, :data:`RESAMPLINGS`, :data:`READERS`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.models.interface import Decision, SigmoidRegions, Softmax, Triple
from Agg2ExpLib.models.metadata import read_json

#: Normalisations of one channel.
NORMALISATIONS = (
    "CTNormalization",
    "ZScoreNormalization",
    "NoNormalization",
    "RescaleTo01Normalization",
    "RGBTo01Normalization",
)
#: Resampling functions, with the arguments that each may have in the plans.
RESAMPLINGS: Mapping[str, tuple[str, ...]] = {
    "resample_data_or_seg_to_shape": (
        "is_seg",
        "order",
        "order_z",
        "force_separate_z",
        "separate_z_anisotropy_threshold",
    ),
    "resample_torch_fornnunet": (
        "is_seg",
        "num_threads",
        "device",
        "memefficient_seg_resampling",
        "force_separate_z",
        "separate_z_anisotropy_threshold",
        "mode",
        "aniso_axis_mode",
    ),
}
#: Readers: whether they turn a scan to RAS first.
READERS = {
    "SimpleITKIO": False,
    "NibabelIO": False,
    "SimpleITKIOWithReorient": True,
    "NibabelIOWithReorient": True,
}
#: nnU-Net's own trainers that build the network that the plans describe; one of another name may build anything.
_TRAINERS = re.compile(
    r"nnUNetTrainer(_?(BN|NoDA|NoMirroring|NoDeepSupervision|noDummy2DDA|warmup|CosAnneal|CELoss|CELoss_5epochs|DiceLoss"
    r"|DiceCELoss_noSmooth|Topk10Loss|Topk10LossLS01|DiceTopK10Loss|DA5|DA5ord0|DA5Segord0|DA5_10epochs|DASegOrd0"
    r"|DASegOrd0_NoMirroring|onlyMirror01|onlyMirror01_1500ep|onlyMirror01_DASegOrd0|onlyMirror01_DA5"
    r"|Benchmark_5epochs|Benchmark_5epochs_noDataLoading|(Vanilla)?Adam|(Vanilla)?Adam[13]en[34]|Adan|Adan[13]en[134]"
    r"|AdanCosAnneal|probabilisticOversampling(_0\d\d)?|\d+epochs?(_NoMirroring)?))?"
)


@dataclass(frozen=True)
class Normalisation:
    """Of one channel.

    Attributes
    ----------
    scheme : str
        One of :data:`NORMALISATIONS`.
    masked : bool
        Z-scores: mean and spread are those of the non-zero region, and what is outside it stays as it is.
    mean, std, low, high : float
        Of CT: from the training data; ``low`` and ``high`` are its percentiles 0.5 and 99.5.
    """

    scheme: str
    masked: bool = False
    mean: float = 0.0
    std: float = 1.0
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True)
class Resampling:
    """A resampling function and its arguments.

    Attributes
    ----------
    function : str
        One of :data:`RESAMPLINGS`.
    order, order_z : int
        Of the spline, and along an axis that is resampled apart.
    separate : bool, optional
        Whether the coarsest axis is resampled apart; ``None``: where its spacing is more than ``threshold`` times the finest.
    threshold : float
        See ``separate``.
    apart_mode : str
        Of torch's function: how the axis apart is resampled.
    """

    function: str
    order: int = 3
    order_z: int = 0
    separate: bool | None = None
    threshold: float = 3.0
    apart_mode: str = "nearest-exact"


@dataclass(frozen=True)
class Plan:
    """One configuration of a trained folder. Axes are nnU-Net's: z, y, x of the file, then transposed.

    Attributes
    ----------
    dataset, name, configuration : str
        Of the data set, of the plans, and such as ``3d_fullres``.
    patch : tuple of int
        Voxels of a window.
    spacing : tuple of float
        mm, after the transposition.
    transpose : tuple of int
        ``transpose_forward``.
    turns_to_ras : bool
        Whether the reader turns scans to RAS.
    normalisations : tuple of Normalisation
        One a channel.
    data, logits : Resampling
        Of the scan, and of the logits on their way back.
    channels : tuple of str
        Names of the channels.
    labels : tuple of str
        Names of the classes, background first.
    values : tuple of int
        The number that nnU-Net writes for each class.
    decision : Softmax or SigmoidRegions
        From logits to classes.
    largest : int
        How many label values beside background there are: from 255 on they are written as uint16.
    architecture : mapping
        ``network_class_name`` and ``arch_kwargs``.
    """

    dataset: str
    name: str
    configuration: str
    patch: Triple
    spacing: tuple[float, float, float]
    transpose: Triple
    turns_to_ras: bool
    normalisations: tuple[Normalisation, ...]
    data: Resampling
    logits: Resampling
    channels: tuple[str, ...]
    labels: tuple[str, ...]
    values: tuple[int, ...]
    decision: Decision
    largest: int
    architecture: Mapping[str, Any]


def read_plan(folder: Path, configuration: str) -> Plan:
    """Read one configuration of a trained folder.

    Raises
    ------
    InputError
        A file that is missing, or something that is not rebuilt here exactly, by name.
    """
    path = folder / "plans.json"
    plans, dataset = _json(path), _json(folder / "dataset.json")
    try:
        return _plan(plans, dataset, configuration, path)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise InputError(
            f"{path}: is not what nnU-Net v2 writes ({type(error).__name__}: {error}); copy the trained folder again"
        ) from None


def resolved(plans: Mapping[str, Any], configuration: str) -> dict[str, Any]:
    """Return a configuration with what it inherits; its own entries win.

    Raises
    ------
    InputError
        One that is not there, or that inherits from itself.

    Examples
    --------
    >>> resolved({"configurations": {"a": {"x": 1, "y": 1}, "b": {"inherits_from": "a", "y": 2}}}, "b")
    {'x': 1, 'y': 2, 'inherits_from': 'a'}
    """
    chain: list[Mapping[str, Any]] = []
    name: str | None = configuration
    seen: set[str] = set()
    while name is not None:
        if name not in plans["configurations"] or name in seen:
            raise InputError(f"has no configuration {name!r}: it has {', '.join(plans['configurations'])}")
        seen.add(name)
        chain.append(plans["configurations"][name])
        name = chain[-1].get("inherits_from")
    found: dict[str, Any] = {}
    for one in reversed(chain):
        found.update(one)
    return found


def check_trainer(trainer: str, source: Path) -> None:
    """Refuse a trainer whose network only its own code knows.

    Raises
    ------
    InputError
        With its name.
    """
    if not _TRAINERS.fullmatch(trainer):
        raise InputError(
            f"{source}: was trained by {trainer}, which is not one of nnU-Net's own trainers with a U-Net of its plans; "
            "such a trainer may build another network in its own code, so it cannot be read here"
        )


def _json(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise InputError(
            f"{path}: is missing; copy the whole folder that nnU-Net trained, with plans.json and dataset.json"
        )
    found = read_json(path)
    if not isinstance(found, Mapping):
        raise InputError(f"{path}: is not what nnU-Net v2 writes; copy the trained folder again")
    return found


def _plan(plans: Mapping[str, Any], dataset: Mapping[str, Any], configuration: str, path: Path) -> Plan:
    found = resolved(plans, configuration)
    if found.get("previous_stage"):
        raise InputError(
            f"{configuration} is the second stage of a cascade and needs the segmentation of {found['previous_stage']}; "
            "cascades are not explained yet, so give the folder of 3d_fullres or 3d_lowres"
        )
    if len(found["patch_size"]) != 3:
        raise InputError(f"{configuration} segments slices one by one; give the folder of a 3D configuration")
    _only("the preprocessor", found.get("preprocessor_name", "DefaultPreprocessor"), ("DefaultPreprocessor",))
    _only("the label manager", plans.get("label_manager") or "LabelManager", ("LabelManager",))
    _only("the reader", plans["image_reader_writer"], READERS)
    names = dataset.get("channel_names") or dataset["modality"]
    channels = tuple(str(names[str(index)]) for index in range(len(names)))
    labels, values, decision = _labels(dataset)
    transpose = tuple(int(axis) for axis in plans["transpose_forward"])
    if sorted(transpose) != [0, 1, 2]:
        raise InputError(f"transpose_forward {transpose} does not name each axis once")
    back = plans.get("transpose_backward")
    if back is not None and [transpose[axis] for axis in back] != [0, 1, 2]:
        raise InputError(f"transpose_backward {back} does not undo transpose_forward {list(transpose)}")
    spacing, patch = (tuple(found[key]) for key in ("spacing", "patch_size"))
    return Plan(
        dataset=str(plans["dataset_name"]),
        name=str(plans["plans_name"]),
        configuration=configuration,
        patch=(int(patch[0]), int(patch[1]), int(patch[2])),
        spacing=(float(spacing[0]), float(spacing[1]), float(spacing[2])),
        transpose=(transpose[0], transpose[1], transpose[2]),
        turns_to_ras=READERS[plans["image_reader_writer"]],
        normalisations=_normalisations(plans, found, len(channels)),
        data=_resampling(found, "resampling_fn_data"),
        logits=_resampling(found, "resampling_fn_probabilities"),
        channels=channels if len(set(channels)) == len(channels) else tuple(f"{n} {i}" for i, n in enumerate(channels)),
        labels=labels,
        values=values,
        decision=decision,
        largest=len({number for number in values if number}),
        architecture=found.get("architecture") or _old_architecture(found),
    )


def _only(what: str, name: str, known: Sequence[str] | Mapping[str, Any]) -> None:
    if name not in known:
        raise InputError(
            f"{what} {name} is not one that is rebuilt here ({', '.join(known)}), so the model is not read"
        )


def _labels(dataset: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[int, ...], Decision]:
    """Classes as nnU-Net's LabelManager makes them: labels by value, or regions in the order of the file."""
    labels = {str(name): value for name, value in dataset["labels"].items() if name != "ignore"}
    if labels.get("background") != 0:
        raise InputError("dataset.json declares no background with label 0")
    if any(isinstance(value, list) and len(value) > 1 for value in labels.values()):
        regions = [name for name, value in labels.items() if set(_listed(value)) != {0}]
        order = [int(value) for value in dataset["regions_class_order"]]
        if len(order) != len(regions):
            raise InputError(f"regions_class_order names {len(order)} regions of {len(regions)}")
        return ("background", *regions), (0, *order), SigmoidRegions(tuple(range(len(regions))))
    by_value = sorted((int(_listed(value)[0]), name) for name, value in labels.items())
    if [value for value, _ in by_value] != list(range(len(by_value))):
        raise InputError("the labels of dataset.json are not 0, 1, 2 and so on")
    return tuple(name for _, name in by_value), tuple(range(len(by_value))), Softmax()


def _listed(value: Any) -> list[int]:
    return [int(one) for one in value] if isinstance(value, list) else [int(value)]


def _normalisations(plans: Mapping[str, Any], found: Mapping[str, Any], count: int) -> tuple[Normalisation, ...]:
    schemes, masks = found["normalization_schemes"], found["use_mask_for_norm"]
    if len(schemes) != count or len(masks) != count:
        raise InputError(f"{len(schemes)} normalisations do not fit the {count} channels of dataset.json")
    known = plans.get("foreground_intensity_properties_per_channel")
    known = known or plans.get("foreground_intensity_properties_by_modality") or {}
    made = []
    for index, (scheme, masked) in enumerate(zip(schemes, masks, strict=True)):
        _only("the normalisation", scheme, NORMALISATIONS)
        if scheme != "CTNormalization":
            made.append(Normalisation(scheme, bool(masked) and scheme == "ZScoreNormalization"))
            continue
        one = known[str(index)]
        mean, std, low, high = (float(one[key]) for key in ("mean", "std", "percentile_00_5", "percentile_99_5"))
        made.append(Normalisation(scheme, False, mean, max(std, 1e-8), low, high))
    return tuple(made)


def _resampling(found: Mapping[str, Any], key: str) -> Resampling:
    function, given = found[key], dict(found.get(f"{key}_kwargs") or {})
    _only("the resampling function", function, RESAMPLINGS)
    unknown = set(given) - set(RESAMPLINGS[function])
    if unknown or given.get("is_seg") or given.get("mode", "linear") != "linear":
        raise InputError(f"{key}_kwargs {given} of {function} are not rebuilt here, so the model is not read")
    torchs = function == "resample_torch_fornnunet"
    apart = str(given.get("aniso_axis_mode", "nearest-exact"))
    _only("aniso_axis_mode", apart, ("nearest-exact", "nearest", "linear"))
    orders = [given[name] for name in ("order", "order_z") if name in given]
    if any(order not in range(6) for order in orders):
        raise InputError(f"{key}_kwargs: an order of {orders[0]!r} or {orders[-1]!r} is no spline; 0 to 5 are")
    # The spline's own defaults are those of nnU-Net's function, not those of its planner.
    separate = given.get("force_separate_z", None if torchs else False)
    return Resampling(
        function,
        int(given.get("order", 3)),
        int(given.get("order_z", 0)),
        None if separate is None else bool(separate),
        float(given.get("separate_z_anisotropy_threshold", 3.0)),
        apart,
    )


def _old_architecture(found: Mapping[str, Any]) -> dict[str, Any]:
    """Plans from before nnU-Net 2.4 describe the network piece by piece."""
    kind = found["UNet_class_name"]
    stages = len(found["n_conv_per_stage_encoder"])
    base, most = found["UNet_base_num_features"], found["unet_max_num_features"]
    depth = "n_conv_per_stage" if kind == "PlainConvUNet" else "n_blocks_per_stage"
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{kind}",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": [min(base * 2**stage, most) for stage in range(stages)],
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": found["conv_kernel_sizes"],
            "strides": found["pool_op_kernel_sizes"],
            depth: found["n_conv_per_stage_encoder"],
            "n_conv_per_stage_decoder": found["n_conv_per_stage_decoder"],
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
    }
