"""TotalSegmentator's tasks ``total``, ``total_mr`` and ``total_v3``, from the weights that TotalSegmentator downloaded.

A task has up to five networks of nnU-Net, each for a part of the classes with a background of its own; a later part wins
where it is not background. The scan is turned to RAS and resampled first (SciPy's ``zoom`` of order 1, end points
aligned, then truncated to whole numbers), and the labels go back by order 0. No logit is shared: a class is explained by its part.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from Agg2ExpLib.errors import InputError, nearest_names
from Agg2ExpLib.models.card import ModelCard, make_card
from Agg2ExpLib.models.formats import totalsegmentator_classes as names
from Agg2ExpLib.models.formats.nnunet import NnUnet, load_folder
from Agg2ExpLib.models.formats.nnunet_plans import Normalisation
from Agg2ExpLib.models.formats.nnunet_preparation import NnUnetPrepared, prepare, stored_spacing
from Agg2ExpLib.models.interface import Part, Prepared, Triple, check_channels
from Agg2ExpLib.models.registry import Format, register
from Agg2ExpLib.volume import Grid, Volume, reorient, to_grid

if TYPE_CHECKING:
    import torch

#: TotalSegmentator splits larger scans of several parts in three along the body.
_SPLIT_VOXELS, _SPLIT_SLICES = 512 * 512 * 900, 200
_STEP = 0.8


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes
    ----------
    spacing : float
        mm.
    parts : tuple of (int, tuple of str)
        nnU-Net's number of the data set, and the classes of its network after background.
    """

    spacing: float
    parts: tuple[tuple[int, tuple[str, ...]], ...]


_CT = (names.ORGANS, names.VERTEBRAE, names.HEART, names.MUSCLES, names.RIBS)
_V3 = (names.ORGANS, names.VERTEBRAE_V3, names.HEART, names.MUSCLES, names.RIBS)
_MR = (names.MR_ORGANS, names.MR_MUSCLES)


def _tasks(name: str, first: int, parts: tuple[tuple[str, ...], ...], coarse: tuple[int, int]) -> dict[str, Task]:
    whole = tuple(label for part in parts for label in part)
    return {
        name: Task(1.5, tuple((first + number, part) for number, part in enumerate(parts))),
        f"{name}_fast": Task(3.0, ((coarse[0], whole),)),
        f"{name}_fastest": Task(6.0, ((coarse[1], whole),)),
    }


#: Name -> task.
TASKS: dict[str, Task] = {
    **_tasks("total", 291, _CT, (297, 298)),
    **_tasks("total_mr", 850, _MR, (852, 853)),
    **_tasks("total_v3", 831, _V3, (836, 837)),
}


@dataclass(frozen=True, eq=False)
class TotalPrepared(NnUnetPrepared):
    """A scan as the parts see it, with the way back.

    Attributes
    ----------
    canonical : Grid, optional
        The scan turned to RAS, before resampling.
    """

    canonical: Grid | None = None

    def to_scan(self, labels: np.ndarray, logits: np.ndarray | None = None) -> Volume:
        """Return the merged labels on the scan's own grid, resampled by order 0 as TotalSegmentator does."""
        assert self.place is not None and self.canonical is not None
        pasted = np.zeros(self.place.whole, dtype=np.uint8)
        pasted[self.place.box] = labels
        back = pasted.transpose(np.argsort(self.place.axes))
        if back.shape != self.canonical.shape:
            back = _zoom(back, np.divide(self.canonical.shape, back.shape), 0)
        found = Volume(np.ascontiguousarray(back), self.canonical)
        return found if self.canonical == self.scan_grid else to_grid(found, self.scan_grid, "nearest")


@dataclass(frozen=True, eq=False)
class TotalSegmentator:
    """A task of TotalSegmentator.

    Attributes
    ----------
    card : ModelCard
        Classes of all parts.
    task : Task
        Spacing and parts.
    networks : tuple of NnUnet
        One a part.
    sha256 : str
        Of those of the parts.
    source : str
        ``totalsegmentator:TASK``.
    """

    card: ModelCard
    task: Task
    networks: tuple[NnUnet, ...]
    sha256: str
    source: str

    @property
    def normalises_inside(self) -> bool:
        """Whether each part normalises for itself: the training data, and so the plans, of the parts differ."""
        return len({one.plan.normalisations for one in self.networks}) > 1

    @property
    def parts(self) -> tuple[Part, ...]:
        """One a network, with its classes among those of the card."""
        made, first = [], 1
        for network, (number, labels) in zip(self.networks, self.task.parts, strict=True):
            how = network.plan.normalisations[0]
            build: Any = network.build
            tiling = replace(self.card.tiling, window=network.plan.patch)
            if self.normalises_inside:
                build = _Inside(network, how)
                # nnU-Net pads with 0 after its normalisation, which is the mean before it.
                tiling = replace(tiling, padding=how.mean)
            classes = (0, *range(first, first + len(labels)))
            made.append(Part(classes, build, network.plan.decision, tiling, f"Dataset{number}"))
            first += len(labels)
        return tuple(made)

    def prepare(self, images: Sequence[Volume]) -> Prepared:
        """Turn a scan into what the parts see: HU where each normalises for itself, else nnU-Net's units."""
        check_channels(images, self.card)
        canonical = reorient(images[0], "RAS")
        resampled, stated = _resampled(canonical, self.task.spacing)
        plan = self.networks[0].plan
        if self.normalises_inside:
            plan = replace(plan, normalisations=(Normalisation("NoNormalization"),))
        found = prepare([resampled], plan, stated)
        if found.place is None or found.place.shape != found.place.cropped:
            raise InputError(f"{self.source}: its plans have another spacing than the task; download the weights again")
        shown, limits = found.display, found.display_range
        if self.normalises_inside:
            used = [one.plan.normalisations[0] for one in self.networks]
            limits = (min(one.low for one in used), max(one.high for one in used))
            shown = Volume(np.clip(shown.voxels, *limits), shown.grid)
        notes = [note for image in images for note in image.notes] + list(found.notes)
        if np.prod(resampled.shape) > _SPLIT_VOXELS and resampled.shape[2] > _SPLIT_SLICES and len(self.networks) > 1:
            notes.append(
                "TotalSegmentator would split a scan of this size in three; here it is whole, so seams differ."
            )
        kept = {one.name: getattr(found, one.name) for one in fields(found)}
        kept |= {"display": shown, "display_range": limits, "scan_grid": images[0].grid, "notes": tuple(notes)}
        return TotalPrepared(**{**kept, "needs_logits": False, "canonical": canonical.grid})


@dataclass(frozen=True)
class _Inside:
    """Builds a part that clips and scales HU itself."""

    network: NnUnet
    how: Normalisation

    def __call__(self, device: Any, dtype: Any) -> torch.nn.Module:
        from Agg2ExpLib.models.formats.nnunet_network import Normalised

        how = self.how
        return Normalised(self.network.build(device, dtype), (how.low, how.high), how.mean, how.std).eval()


def weights_folder() -> Path:
    """Return where TotalSegmentator keeps its weights on this computer."""
    given = os.environ.get("TOTALSEG_WEIGHTS_PATH")
    home = Path(os.environ.get("TOTALSEG_HOME_DIR") or Path.home() / ".totalsegmentator")
    return Path(given) if given else home / "nnunet" / "results"


def installed() -> dict[str, list[int]]:
    """Return task -> numbers of the data sets whose weights are missing here; an empty list where all are there."""
    root = weights_folder()
    return {
        name: [number for number, _ in task.parts if _part_folder(root, number) is None] for name, task in TASKS.items()
    }


def _part_folder(root: Path, number: int) -> Path | None:
    found = sorted(path.parent for path in root.glob(f"Dataset{number:03}_*/*__nnUNetPlans__3d_fullres/plans.json"))
    # A download that was cut off leaves plans without weights.
    return next((one for one in found if any(one.glob("fold_*/checkpoint_*.pth"))), None)


def _zoom(array: np.ndarray, factors: Sequence[float] | np.ndarray, order: int) -> np.ndarray:
    from scipy.ndimage import zoom

    return np.asarray(zoom(array, list(factors), order=order, mode="nearest"))


def _resampled(canonical: Volume, spacing: float) -> tuple[Volume, tuple[float, float, float]]:
    """Resample as TotalSegmentator does; return also the spacing that its file states."""
    stated = stored_spacing(canonical.grid)
    wanted = (spacing, spacing, spacing)
    # NIfTI headers hold float32.
    own = np.array(stated, dtype=np.float32)
    if np.array_equal(own, np.array(wanted)):
        return canonical, wanted
    voxels = _zoom(canonical.voxels.astype(np.float64), own / np.array(wanted), 1).astype(np.int32)
    steps = [(old - 1) / (new - 1) if new > 1 else 1.0 for old, new in zip(canonical.shape, voxels.shape, strict=True)]
    affine = canonical.affine.copy()
    affine[:3, :3] *= steps
    i, j, k = voxels.shape
    return Volume(voxels.astype(np.float32), Grid((i, j, k), affine), canonical.source), wanted


def _load(source: str, options: Mapping[str, Any]) -> TotalSegmentator:
    name = source.removeprefix("totalsegmentator:")
    if name not in TASKS:
        raise InputError(f"TotalSegmentator has no task {name!r} that is read here: {nearest_names(name, TASKS)}")
    given = {key: value for key, value in options.items() if key != "window"}
    refused = sorted(set(given) - {"folds", "trust_checkpoint", "overlap", "blending", "mirroring"})
    if refused or given.get("mirroring") == "on":
        raise InputError(f"TotalSegmentator itself says the {refused[0] if refused else 'mirroring'}; leave it out")
    task, root = TASKS[name], weights_folder()
    missing = installed()[name]
    if missing:
        raise InputError(
            f"{root}: the weights of {name} are not all there (Dataset {', '.join(map(str, missing))}); download them with "
            f"TotalSegmentator (totalseg_download_weights), or set TOTALSEG_WEIGHTS_PATH to where they are"
        )
    networks = []
    for number, labels in task.parts:
        folder = _part_folder(root, number)
        assert folder is not None
        one = load_folder(folder, {"folds": ("0",), **given, "mirroring": "off"})
        if len(one.plan.labels) != len(labels) + 1 or len(one.plan.channels) != 1:
            raise InputError(
                f"{folder}: has {len(one.plan.labels) - 1} classes, and TotalSegmentator's part {len(labels)}"
            )
        networks.append(one)
    _check_parts(networks, name)
    card = _card(name, task, networks, given)
    digest = hashlib.sha256("\n".join([name, *(one.sha256 for one in networks)]).encode()).hexdigest()
    return TotalSegmentator(card, task, tuple(networks), digest, f"totalsegmentator:{name}")


def _check_parts(networks: Sequence[NnUnet], name: str) -> None:
    plans = [one.plan for one in networks]
    alike = {(plan.transpose, plan.spacing) for plan in plans}
    schemes = {plan.normalisations for plan in plans}
    several_statistics = len(schemes) > 1 and any(one.scheme != "CTNormalization" for pair in schemes for one in pair)
    if len(alike) > 1 or several_statistics or any(plan.turns_to_ras for plan in plans):
        raise InputError(
            f"totalsegmentator:{name}: the plans of its parts do not fit each other; download the weights again"
        )


def _card(name: str, task: Task, networks: Sequence[NnUnet], options: Mapping[str, Any]) -> ModelCard:
    first = networks[0].card
    overlap = options.get("overlap")
    step = _STEP if overlap is None else 1.0 - overlap
    assumed = [
        line for line in first.assumptions if line.partition(":")[0] in ("folds", "sums", "blending", "checkpoint")
    ]
    assumed.insert(0, "mirroring: none, as TotalSegmentator predicts")
    if len(networks) > 1:
        assumed.append(f"parts: each class is explained by its own of {len(networks)} networks; no logit is shared")
    if overlap is not None:
        assumed.append(f"overlap: windows {step:g} of their size apart as asked for; TotalSegmentator's are {_STEP:g}")
    window: Triple = networks[0].plan.patch
    found = {
        "name": f"TotalSegmentator {name}",
        "labels": ("background", *(label for _, part in task.parts for label in part)),
        "channels": ("MR",) if "_mr" in name else ("CT",),
        "spacing": (task.spacing,) * 3,
        "intensity_range": None,
        "window": window,
        "overlap": 1.0 - step,
        "step": step,
        "blending": first.blending,
        "padding": 0.0,
        "extra": {"assumed": assumed, "options": {"folds": list(options.get("folds") or ("0",))}},
    }
    return make_card(found, name)


TOTALSEGMENTATOR = register(Format("totalsegmentator", "TotalSegmentator task", lambda source: False, _load))
