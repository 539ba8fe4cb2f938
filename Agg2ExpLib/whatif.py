"""What if a region were not there? Replace it in the scan, predict again, and compare with the first prediction."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from Agg2ExpLib.agreement import dice_of_labels
from Agg2ExpLib.case.segmentation import segment
from Agg2ExpLib.case.windows import Windows
from Agg2ExpLib.device import choose_device, dtype_of
from Agg2ExpLib.errors import InputError, OutputError, nearest_names
from Agg2ExpLib.explanation import Explanation
from Agg2ExpLib.explanation.folder import partial_folder, write_text
from Agg2ExpLib.models import SegmentationModel, load_model
from Agg2ExpLib.progress import Progress
from Agg2ExpLib.regions import as_regions, regions_on_grid
from Agg2ExpLib.volume import Grid, Volume, labels_to_input_grid, preprocess, write_volume

#: Fill -> what takes the region's place.
FILLS: dict[str, str] = {
    "air": "the lowest intensity that the model knows (-1024 HU for most)",
    "shell": "the mean of a 10 mm shell around the region",
    "noise": "normal noise with the mean and spread of that shell",
}
SHELL_MM = 10.0
COLUMNS = ("class", "dice", "volume_before_ml", "volume_after_ml")


@dataclass(frozen=True)
class WhatIf:
    """What changed.

    Attributes
    ----------
    classes : tuple of str
        The model's structures, background left out.
    dice : ndarray, shape (classes,)
        Agreement of the second prediction with the first; NaN for a structure that is in neither.
    before_ml, after_ml : ndarray, shape (classes,)
        Volume of each structure in the first and in the second prediction, ml.
    folder : Path
        Where ``prediction.nii.gz`` (on the scan's own grid), ``whatif.csv`` and ``whatif.json`` lie.
    """

    classes: tuple[str, ...]
    dice: np.ndarray
    before_ml: np.ndarray
    after_ml: np.ndarray
    folder: Path


def fill_region(
    scan: np.ndarray, inside: np.ndarray, spacing: tuple[float, float, float], fill: str, seed: int = 0
) -> np.ndarray:
    """Return a copy of a scaled scan in which a region is replaced.

    Parameters
    ----------
    scan : ndarray of float, shape (i, j, k)
        Preprocessed scan, 0 to 1.
    inside : ndarray of bool, same shape
        The region.
    spacing : tuple of float
        Voxel size, mm.
    fill : str
        One of :data:`FILLS`.
    seed : int
        Of the noise.

    Raises
    ------
    InputError
        An unknown fill, an empty region, or a region with no scan around it to take a mean of.

    Examples
    --------
    >>> scan = np.full((3, 3, 3), 0.5)
    >>> inside = np.zeros((3, 3, 3), dtype=bool)
    >>> inside[1, 1, 1] = True
    >>> float(fill_region(scan, inside, (1.0, 1.0, 1.0), "air")[1, 1, 1])
    0.0
    """
    if fill not in FILLS:
        raise InputError(f"unknown fill {fill!r}: use {', '.join(FILLS)}")
    if not inside.any():
        raise InputError("the region has no voxel within the scan, so there is nothing to replace")
    out = scan.copy()
    if fill == "air":
        out[inside] = 0.0
        return out
    shell = scan[_shell(inside, spacing)]
    if not shell.size:
        raise InputError("the region fills the whole scan, so nothing is around it; use --fill air")
    mean = float(shell.mean(dtype=np.float64))
    if fill == "shell":
        out[inside] = mean
        return out
    rng = np.random.default_rng(seed)
    noise = rng.normal(mean, float(shell.std(dtype=np.float64)), int(inside.sum()))
    out[inside] = np.clip(noise, 0.0, 1.0).astype(scan.dtype)
    return out


def _shell(inside: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    from scipy.ndimage import distance_transform_edt

    # Only the neighbourhood is measured: the distance over a whole scan takes long.
    margin = [math.ceil(SHELL_MM / step) + 1 for step in spacing]
    where = np.argwhere(inside)
    low, high = where.min(axis=0), where.max(axis=0) + 1
    box = tuple(
        slice(max(int(a) - m, 0), min(int(b) + m, n))
        for a, b, m, n in zip(low, high, margin, inside.shape, strict=True)
    )
    near = distance_transform_edt(~inside[box], sampling=spacing) <= SHELL_MM
    shell = np.zeros_like(inside)
    shell[box] = near & ~inside[box]
    return shell


def whatif(
    explanation: Explanation,
    region: str,
    out: str | Path,
    *,
    mask: str | Path | Volume | None = None,
    fill: str = "shell",
    model: str | Path | SegmentationModel | None = None,
    device: str = "auto",
    seed: int = 0,
    progress: Progress | None = None,
) -> WhatIf:
    """Replace a region, predict again, write the second prediction and what changed.

    Parameters
    ----------
    explanation : Explanation
        Of the scan; its first prediction is compared with.
    region : str
        A class of the model, an extra region of the explanation, or a name for ``mask``.
    out : path
        Folder to make; it appears only when complete.
    mask : path or Volume
        Any other region, on any grid; non-zero is inside.
    fill : str
        One of :data:`FILLS`.
    model : path or SegmentationModel
        By default the one that was explained, from where it was then.
    device, seed, progress
        As for an explanation.

    Raises
    ------
    InputError
        A region that is not known or is empty, or another model than the one explained.
    OutputError
        ``out`` exists or cannot be written.
    """
    progress = progress or Progress()
    out = Path(out)
    if out.exists():
        raise OutputError(f"{out} exists already; give another --out")
    if fill not in FILLS:
        raise InputError(f"unknown fill {fill!r}: use {', '.join(FILLS)}")
    chosen = choose_device(device)
    first = explanation.model_prediction()
    inside = _region(explanation, region, mask, first)
    loaded = explained_model(explanation, model)
    card = loaded.card
    scan = preprocess(explanation.model_image(), spacing=None, orientation=None, intensity_range=card.intensity_range)
    changed = fill_region(scan.voxels, inside, first.spacing, fill, seed)
    found = segment(
        loaded.to(chosen, dtype_of("float32", chosen)),
        torch.from_numpy(changed),
        Windows(first.shape, card.window, card.overlap, card.blending),
        len(card.labels),
        device=chosen,
        progress=progress,
    )
    before = np.asarray(first.voxels)
    result = _compared(card.labels, before, np.asarray(found.labels), abs(np.linalg.det(first.affine[:3, :3])), out)
    about = {"region": region, "fill": fill, "seed": seed, "voxels": int(inside.sum()), "model_sha256": loaded.sha256}
    _write(result, Volume(np.asarray(found.labels), first.grid), explanation, about)
    return result


def explained_model(explanation: Explanation, model: str | Path | SegmentationModel | None) -> SegmentationModel:
    """Return the model that made an explanation.

    Raises
    ------
    InputError
        It is no longer where it was, or ``model`` is another one.
    """
    said = explanation.document["model"]
    if isinstance(model, SegmentationModel):
        loaded = model
    else:
        source = Path(model) if model is not None else _source(Path(said["path"]), str(said["name"]))
        bare = source.is_file()
        loaded = load_model(
            source,
            labels=tuple(said["labels"]) if bare else None,
            spacing=tuple(said["spacing_mm"]) if bare and said["spacing_mm"] else None,
            window=tuple(said["window"]),
            intensity_range=tuple(said["intensity_range"]) if bare else None,
            overlap=said["overlap"],
            blending=said["blending"],
        )
    if loaded.sha256 != said["sha256"]:
        raise InputError(
            f"{loaded.source} is not the model that {explanation.folder} was made with "
            f"(sha256 {loaded.sha256[:12]}, expected {str(said['sha256'])[:12]}); name that one with --model"
        )
    return loaded


def _source(weights: Path, name: str) -> Path:
    """The model folder that holds these weights, the weights themselves when bare, or a bundled model of that name."""
    from Agg2ExpLib.models import bundled_models

    if not weights.is_file():
        bundled = bundled_models().get(name)
        if bundled is None:
            raise InputError(f"{weights}: the model that was explained is no longer there; name it with --model")
        return bundled
    folder = weights.parent.parent
    return folder if (folder / "configs" / "metadata.json").is_file() else weights


def _region(explanation: Explanation, name: str, mask: str | Path | Volume | None, first: Volume) -> np.ndarray:
    if mask is not None:
        image = explanation.document["image"]
        frame = image.get("dicom", {}).get("frame_of_reference", "")
        scan_grid = Grid(tuple(image["shape"]), np.array(image["affine"]))
        placed = regions_on_grid(as_regions({name: mask}), first.grid, (), frame, scan_grid)
        inside = placed.masks[0]
    elif name in explanation.labels:
        inside = np.asarray(first.voxels) == explanation.labels.index(name)
    elif name in explanation.regions:
        inside = np.asarray(explanation.region(name).voxels) > 0
    else:
        known = [*explanation.labels, *explanation.regions]
        raise InputError(f"{explanation.folder} has no region {name!r}: {nearest_names(name, known)}")
    if not inside.any():
        raise InputError(f"region {name} has no voxel within the scan, so there is nothing to replace; choose another")
    return inside


def _compared(labels: tuple[str, ...], before: np.ndarray, after: np.ndarray, voxel_mm3: float, out: Path) -> WhatIf:
    count = len(labels)
    ml = [np.bincount(one.ravel(), minlength=count)[1:count] * voxel_mm3 / 1000.0 for one in (before, after)]
    return WhatIf(labels[1:], dice_of_labels(before, after, count)[1:], ml[0], ml[1], out)


def _write(result: WhatIf, labels: Volume, explanation: Explanation, about: dict[str, Any]) -> None:
    image = explanation.document["image"]
    grid = Grid(tuple(image["shape"]), np.array(image["affine"]))
    partial = partial_folder(result.folder)
    try:
        import shutil

        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            write_volume(labels_to_input_grid(labels, grid), partial / "prediction.nii.gz")
            with (partial / "whatif.csv").open("w", newline="", encoding="utf-8") as stream:
                writer = csv.writer(stream)
                writer.writerow(COLUMNS)
                for row in zip(result.classes, result.dice, result.before_ml, result.after_ml, strict=True):
                    writer.writerow([row[0], *(repr(float(value)) for value in row[1:])])
            write_text(
                partial / "whatif.json",
                json.dumps({"format": "agg2exp-whatif", "format_version": 1, **about}, indent=1),
            )
            partial.rename(result.folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    except OSError as error:
        raise OutputError(f"cannot write {result.folder}: {error.strerror or error}; choose another --out") from error


def describe_whatif(result: WhatIf) -> str:
    """Return what changed as lines for people, the most changed structures first."""
    lines = [f"{'structure':<26}{'Dice':>7}{'before, ml':>12}{'after, ml':>12}"]
    order = np.argsort(np.where(np.isfinite(result.dice), result.dice, 2.0))
    for row in order:
        if np.isfinite(result.dice[row]):
            lines.append(
                f"{result.classes[row]:<26}{result.dice[row]:>7.3f}{result.before_ml[row]:>12.1f}{result.after_ml[row]:>12.1f}"
            )
    return "\n".join([*lines, "", f"{result.folder}/  prediction.nii.gz, whatif.csv, whatif.json"])
