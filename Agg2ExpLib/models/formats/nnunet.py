"""A folder that nnU-Net v2 trained: plans.json, dataset.json, and a checkpoint for each fold.

Attribution takes place on the network's own grid, before the logits are resampled back. Logits are summed in float32;
nnU-Net sums them in float16, from which labels differ at single voxels where two classes are equal.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.models.card import ModelCard, make_card
from Agg2ExpLib.models.formats.nnunet_plans import Plan, check_trainer, read_plan, resolved
from Agg2ExpLib.models.formats.nnunet_preparation import network_grid, prepare
from Agg2ExpLib.models.interface import Part, Prepared, check_channels
from Agg2ExpLib.models.metadata import read_json
from Agg2ExpLib.models.registry import Format, register
from Agg2ExpLib.models.untrusted import read_checkpoint, sha256, sound_tensors
from Agg2ExpLib.volume import Grid, Volume

if TYPE_CHECKING:
    import torch

#: Checkpoints, the one that nnU-Net predicts with first.
CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")
_OPTIONS = ("folds", "mirroring", "overlap", "blending", "window", "trust_checkpoint")
_STEP = 0.5
# What a checkpoint's own plans and those of its folder must say alike.
_SAME = (
    "dataset_name",
    "patch_size",
    "spacing",
    "transpose_forward",
    "normalization_schemes",
    "use_mask_for_norm",
    "foreground_intensity_properties_per_channel",
    "foreground_intensity_properties_by_modality",
)
_FLOAT16 = "sums: logits are summed in float32, where nnU-Net sums in float16; labels can differ at single voxels between classes"


@dataclass(frozen=True, eq=False)
class NnUnet:
    """A trained folder of nnU-Net v2.

    Attributes
    ----------
    card : ModelCard
        What the plans say, for people and tables.
    plan : Plan
        What the plans say, for the computation.
    sha256 : str
        Of the checkpoints used, the plans, the mirroring: of all that decides on an answer.
    source : Path
        The folder.
    weights : tuple of dict
        Of each fold, on the CPU.
    batch_norm : bool
        Whether the trainer put batch normalisation in place of what the plans say.
    """

    card: ModelCard
    plan: Plan
    sha256: str
    source: Path
    weights: tuple[dict[str, torch.Tensor], ...]
    batch_norm: bool = False

    @property
    def parts(self) -> tuple[Part, ...]:
        """One network: the mean of the folds and of their mirrored copies."""
        first = 0 if self.card.decision.explains_background else 1
        classes = tuple(range(first, len(self.card.labels)))
        return (Part(classes, self.build, self.card.decision, name=self.card.name),)

    def build(self, device: Any, dtype: Any) -> torch.nn.Module:
        """Return the network on a device; each call makes one of its own."""
        from Agg2ExpLib.models.formats.nnunet_network import MirroredFolds

        folds = []
        for weights in self.weights:
            network = network_of(self.plan, self.batch_norm, self.source)
            network.load_state_dict(weights, assign=True)
            folds.append(network)
        whole = MirroredFolds(folds, self.card.mirror_axes)
        return whole.eval().requires_grad_(False).to(device=device, dtype=dtype)

    def grid_of(self, images: Sequence[Volume]) -> Grid:
        """Return the grid that a scan will have."""
        check_channels(images, self.card)
        return network_grid(images, self.plan)

    def prepare(self, images: Sequence[Volume]) -> Prepared:
        """Turn a scan into what the network sees, as nnU-Net does.

        Raises
        ------
        InputError
            Another number of volumes, or one that does not fit.
        """
        check_channels(images, self.card)
        found = prepare(images, self.plan)
        notes = tuple(note for image in images for note in image.notes)
        object.__setattr__(found, "notes", (*notes, *found.notes))
        return found


def network_of(plan: Plan, batch_norm: bool, source: Path) -> torch.nn.Module:
    """Return the network of a plan without its weights."""
    from Agg2ExpLib.models.formats.nnunet_network import build_unet

    outputs = len(plan.labels) - (0 if plan.decision.explains_background else 1)
    return build_unet(plan.architecture, len(plan.channels), outputs, batch_norm, source / "plans.json")


def trained_folder(source: Path) -> Path | None:
    """Return the folder ``TRAINER__PLANS__CONFIGURATION`` that a source names, or ``None``.

    A checkpoint of nnU-Net, its fold, and the folder of a data set with one configuration name it too.
    """
    tried = [source, *source.parents[:2]] if source.is_file() or source.name.startswith("fold_") else [source]
    for folder in tried:
        if (folder / "plans.json").is_file() or ((folder / "dataset.json").is_file() and any(folder.glob("fold_*"))):
            return folder
    inside = sorted(path.parent for path in source.glob("*__*__*/plans.json")) if source.is_dir() else []
    return inside[0] if len(inside) == 1 else None


def _knows(source: str) -> bool:
    path = Path(source)
    if _is_export(path):
        return True
    found = trained_folder(path)
    if found is not None:
        return any(found.glob("fold_*")) or (found / "dataset.json").is_file()
    return path.is_dir() and any(path.glob("*__*__*/plans.json"))


def _is_export(path: Path) -> bool:
    """Whether a file is what nnUNetv2_export_model_to_zip writes."""
    if path.suffix.lower() != ".zip" or not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/plans.json") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False


def _load(source: str, options: Mapping[str, Any]) -> NnUnet:
    refused = sorted(set(options) - set(_OPTIONS))
    if refused:
        raise InputError(f"{source}: the plans of nnU-Net say the {refused[0]}, so it cannot be given; leave it out")
    path = Path(source)
    if _is_export(path):
        raise InputError(f"{source}: is a trained model of nnU-Net as a zip; unpack it and give the folder")
    folder = trained_folder(path)
    if folder is None:
        found = sorted(one.parent.name for one in path.glob("*__*__*/plans.json"))
        several = f"holds several trained folders ({', '.join(found)}); give one of them"
        raise InputError(f"{source}: {several if found else 'is no folder that nnU-Net v2 trained'}")
    if path.name.startswith("fold_") or path.is_file():
        raise InputError(f"{source}: is a part of {folder}; give that folder, and --folds for the fold")
    return load_folder(folder, options)


def load_folder(folder: Path, options: Mapping[str, Any]) -> NnUnet:
    """Load a trained folder.

    Parameters
    ----------
    folder : Path
        ``TRAINER__PLANS__CONFIGURATION``.
    options : mapping
        ``folds``: names such as ``("0", "1")`` or ``("all",)``, by default every numbered fold; ``mirroring``: "on" or "off";
        ``overlap``, ``blending``, ``trust_checkpoint``.

    Raises
    ------
    InputError
        With what is missing or not rebuilt here.
    """
    files = _fold_files(folder, options.get("folds"))
    trusted = bool(options.get("trust_checkpoint", False))
    checkpoints = {fold: _told(read_checkpoint(path, trusted), path) for fold, path in files.items()}
    first, first_path = next(iter(checkpoints.values())), next(iter(files.values()))
    trainer = str(first["trainer_name"])
    check_trainer(trainer, first_path)
    configuration = str(first["init_args"]["configuration"])
    plan = read_plan(folder, configuration)
    for fold, checkpoint in checkpoints.items():
        _check_plan(checkpoint, plan, folder, files[fold])
    if tuple(options.get("window") or plan.patch) != plan.patch:
        raise InputError(
            f"{folder}: its windows have {' x '.join(map(str, plan.patch))} voxels (z, y, x); leave --window out"
        )
    batch_norm = trainer == "nnUNetTrainerBN"
    weights = tuple(
        _weights(checkpoint["network_weights"], network_of(plan, batch_norm, folder), files[fold])
        for fold, checkpoint in checkpoints.items()
    )
    axes = _mirror_axes(first, first_path)
    used = axes if options.get("mirroring", "on") == "on" else ()
    card = _card(plan, folder, tuple(files), used, options, _assumed(files, axes, used, trainer))
    told = [sha256(path) for path in (*files.values(), folder / "plans.json", folder / "dataset.json")]
    digest = hashlib.sha256("\n".join([*told, str(used)]).encode()).hexdigest()
    return NnUnet(card, plan, digest, folder, weights, batch_norm)


def _fold_files(folder: Path, wanted: Sequence[str] | None) -> dict[str, Path]:
    """Return fold -> checkpoint: every numbered fold by default, as nnU-Net takes them; else fold_all."""
    there = {path.name.removeprefix("fold_"): path for path in sorted(folder.glob("fold_*")) if path.is_dir()}
    for name in CHECKPOINTS:
        have = {fold: path / name for fold, path in there.items() if (path / name).is_file()}
        if not have:
            continue
        chosen = tuple(wanted) if wanted else tuple(sorted((f for f in have if f.isdigit()), key=int)) or ("all",)
        missing = [fold for fold in chosen if fold not in have]
        if missing:
            raise InputError(
                f"{folder}: has no {name} of fold {missing[0]}; there {'is' if len(have) == 1 else 'are'} "
                f"{', '.join(f'fold_{fold}' for fold in have)}"
            )
        return {fold: have[fold] for fold in chosen}
    raise InputError(
        f"{folder}: has no fold with a {CHECKPOINTS[0]} or {CHECKPOINTS[1]}, so there are no weights; copy the whole "
        "folder that nnU-Net trained"
    )


def _told(checkpoint: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    inside = checkpoint.get("init_args")
    if not isinstance(checkpoint.get("network_weights"), Mapping) or not isinstance(inside, Mapping):
        raise InputError(f"{path}: is no checkpoint of nnU-Net v2 (it has no network_weights or no init_args)")
    if "trainer_name" not in checkpoint or "configuration" not in inside:
        raise InputError(f"{path}: does not say its trainer and configuration, so it is no checkpoint of nnU-Net v2")
    return checkpoint


def _check_plan(checkpoint: Mapping[str, Any], plan: Plan, folder: Path, path: Path) -> None:
    """A checkpoint carries the plans that it was trained with; those of the folder must be the same where it matters."""
    told = checkpoint["init_args"]
    _check_labels(told.get("dataset_json"), folder, path)
    if told["configuration"] != plan.configuration:
        raise InputError(
            f"{path}: is of the configuration {told['configuration']}, the first fold of {plan.configuration}; give the "
            "folds of one training"
        )
    plans, here = told.get("plans"), read_json(folder / "plans.json")
    if not isinstance(plans, Mapping) or not isinstance(plans.get("configurations"), Mapping):
        return
    then, now = ({**one, **resolved(one, plan.configuration)} for one in (plans, here))
    for key in _SAME:
        if key in then and key in now and _listed(then[key]) != _listed(now[key]):
            raise InputError(
                f"{path}: belongs to another plan than {folder / 'plans.json'} ({key} {then[key]}, there {now[key]}); put "
                "it back into its own folder"
            )


def _check_labels(then: Any, folder: Path, path: Path) -> None:
    """A checkpoint carries the data set that it was trained with: a class of the same name must have the same label there."""
    labels = then.get("labels") if isinstance(then, Mapping) else None
    now = read_json(folder / "dataset.json")["labels"]
    for name, value in labels.items() if isinstance(labels, Mapping) else ():
        if name in now and _listed(now[name]) != _listed(value):
            raise InputError(
                f"{path}: was trained with label {value} for {name}, and {folder / 'dataset.json'} says {now[name]}; copy the "
                "dataset.json of this training"
            )


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _weights(told: Mapping[str, Any], network: torch.nn.Module, path: Path) -> dict[str, torch.Tensor]:
    """Return a checkpoint's tensors under the network's names; its other names for the same tensors must agree."""
    import torch

    tensors = sound_tensors(told, path)
    found: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        own = _own_name(name)
        other = found.setdefault(own, tensor)
        same = other.shape == tensor.shape and (other.data_ptr() == tensor.data_ptr() or torch.equal(other, tensor))
        if not same:
            raise InputError(f"{path}: states {own} twice and differently; copy it again")
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    wrong = sorted(set(expected) ^ set(found)) or sorted(n for n in expected if expected[n] != tuple(found[n].shape))
    if wrong:
        name = wrong[0]
        says = tuple(found[name].shape) if name in found else "nothing"
        raise InputError(
            f"{path}: does not fit the network of plans.json (it has {says} for {name}, the network "
            f"{expected.get(name, 'nothing')}); the checkpoint is of another plan"
        )
    return found


def _own_name(name: str) -> str:
    """nnU-Net's modules list themselves up to four times.

    Examples
    --------
    >>> _own_name("decoder.encoder.stages.0.0.convs.1.all_modules.0.weight")
    'encoder.stages.0.0.convs.1.conv.weight'
    """
    name = name.removeprefix("decoder.") if name.startswith("decoder.encoder.") else name
    before, inner, after = name.partition(".all_modules.")
    if not inner:
        return name
    number, _, rest = after.partition(".")
    # A convolution comes first; whatever else has weights is the normalisation.
    return f"{before}.{'conv' if number == '0' else 'norm'}.{rest}"


def _mirror_axes(checkpoint: Mapping[str, Any], path: Path) -> tuple[int, ...]:
    axes = checkpoint.get("inference_allowed_mirroring_axes")
    found = tuple(axes) if isinstance(axes, (list, tuple)) else () if axes is None else (axes,)
    if any(axis not in (0, 1, 2) for axis in found) or len(set(found)) != len(found):
        raise InputError(f"{path}: mirrors along the axes {found}, which are not those of a 3D network")
    return found


def _assumed(files: Mapping[str, Path], axes: Sequence[int], used: Sequence[int], trainer: str) -> list[str]:
    copies = 2 ** len(used)
    if used:
        text = f"mirroring: the mean of {copies} mirrored copies, as nnU-Net predicts; each window costs {copies} passes a fold"
    elif axes:
        text = f"mirroring: off as asked for; nnU-Net itself would take the mean of {2 ** len(axes)} mirrored copies"
    else:
        text = "mirroring: none, because the checkpoint allows none"
    folds = ", ".join(files)
    said = f"folds: {folds}" if len(files) == 1 else f"folds: the mean of the logits of {folds}"
    best = next(iter(files.values())).name != CHECKPOINTS[0]
    note = [f"checkpoint: {CHECKPOINTS[1]}, because there is no {CHECKPOINTS[0]}"] if best else []
    return [text, said, *note, f"trainer: {trainer}", _FLOAT16]


def _card(
    plan: Plan,
    folder: Path,
    folds: Sequence[str],
    mirror_axes: tuple[int, ...],
    options: Mapping[str, Any],
    assumed: list[str],
) -> ModelCard:
    overlap, blending = options.get("overlap"), options.get("blending") or "nnunet"
    step = _STEP if overlap is None else 1.0 - overlap
    if overlap is not None and step != _STEP:
        assumed = [*assumed, f"overlap: windows {step:g} of their size apart as asked for; nnU-Net's are {_STEP:g}"]
    if blending != "nnunet":
        assumed = [*assumed, f"blending: {blending} as asked for; nnU-Net's is its own Gaussian"]
    given = {"folds": list(folds), "mirroring": options.get("mirroring", "on")}
    fields = {
        "name": f"{plan.dataset} {plan.configuration}",
        "labels": plan.labels,
        "channels": plan.channels,
        "spacing": plan.spacing,
        "intensity_range": None,
        "window": plan.patch,
        "overlap": 1.0 - step,
        "step": step,
        "blending": blending,
        "padding": 0.0,
        "mirror_axes": mirror_axes,
        "decision": plan.decision,
        "extra": {"assumed": assumed, "options": given, "label_values": list(plan.values)},
    }
    return make_card(fields, folder / "plans.json")


NNUNET = register(Format("nnunet", "nnU-Net v2 folder", _knows, _load))
