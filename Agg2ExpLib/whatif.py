"""What if a region were not there? Replace it in the scan, predict again, and compare with the first prediction."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from Agg2ExpLib.agreement import dice_of_labels
from Agg2ExpLib.case.case import Case
from Agg2ExpLib.case.filling import check_fill
from Agg2ExpLib.device import Compute
from Agg2ExpLib.errors import InputError, OutputError, nearest_names
from Agg2ExpLib.explanation import Explanation
from Agg2ExpLib.explanation.document import scan_of
from Agg2ExpLib.models import Model, load_model
from Agg2ExpLib.models.loading import OPTIONS
from Agg2ExpLib.progress import Progress
from Agg2ExpLib.regions import as_regions, regions_on_grid
from Agg2ExpLib.storage import write_file, write_folder, write_table
from Agg2ExpLib.volume import Grid, Volume, write_volume

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


def whatif(
    explanation: Explanation,
    region: str,
    out: str | Path,
    *,
    mask: str | Path | Volume | None = None,
    fill: str = "shell",
    model: str | Path | Model | None = None,
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
        One of :data:`Agg2ExpLib.case.filling.FILLS`.
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
    check_fill(fill)
    first = explanation.model_prediction()
    inside = region_of(explanation, region, mask, first)
    case = case_of(explanation, model, Compute(device=device), progress)
    found = case.what_if(inside, fill, seed)
    before, after = np.asarray(first.voxels), np.asarray(found.labels)
    result = _compared(case.labels, before, after, abs(np.linalg.det(first.affine[:3, :3])), out)
    about = {
        "region": region,
        "fill": fill,
        "seed": seed,
        "voxels": int(inside.sum()),
        "model_sha256": case.model.sha256,
    }
    _write(result, case.prepared.to_scan(after, found.parts[0].logits), about)
    return result


def case_of(
    explanation: Explanation, model: str | Path | Model | None, compute: Compute, progress: Progress | None = None
) -> Case:
    """Return the case that an explanation was made of: its scan and its model again.

    The scan is read from where it was; when that file is gone or has changed, the folder's own copy serves where the model's
    preparation can start from it, and that is said.

    Raises
    ------
    InputError
        The scan is gone and its copy cannot serve, or the model is another one.
    """
    if "given_prediction" in explanation.document:
        raise InputError(
            f"{explanation.folder}: a given prediction was explained there, and here the model's own is needed; explain the scan "
            "without --prediction"
        )
    loaded = explained_model(explanation, model)
    progress = progress or Progress()
    entries = [explanation.document["image"], *explanation.document.get("other_channels", [])]
    paths = [Path(str(entry["path"])) for entry in entries]
    there = all(str(entry["path"]) and path.exists() for entry, path in zip(entries, paths, strict=True))
    scans = [scan_of(entry, path) for entry, path in zip(entries, paths, strict=True)] if there else [None]
    if all(scan is not None for scan in scans):
        return Case.open([scan for scan in scans if scan is not None], loaded, compute=compute, progress=progress)
    if len(entries) > 1 or loaded.card.intensity_range is None:
        raise InputError(
            f"{paths[0]}: the scan that was explained is gone or has changed, and {loaded.card.name} cannot start from the "
            f"copy in {explanation.folder}; put the scan back, or explain it again"
        )
    progress.message(
        f"{paths[0].name or 'the scan'} is gone or has changed since it was explained; the copy in {explanation.folder}, on "
        "the model's grid and in whole HU, takes its place"
    )
    return Case.open(explanation.model_image(), loaded, compute=compute, progress=progress)


def explained_model(explanation: Explanation, model: str | Path | Model | None) -> Model:
    """Return the model that made an explanation.

    Raises
    ------
    InputError
        It is no longer where it was, or ``model`` is another one.
    """
    said = explanation.document["model"]
    loaded = load_as_told(said, model) if model is None or isinstance(model, (str, Path)) else model
    if loaded.sha256 != said["sha256"]:
        raise InputError(
            f"{loaded.source} is not the model that {explanation.folder} was made with "
            f"(sha256 {loaded.sha256[:12]}, expected {str(said['sha256'])[:12]}); name that one with --model"
        )
    return loaded


def load_as_told(said: Mapping[str, Any], model: str | Path | None) -> Model:
    """Load the model that a document tells of, with its windows, from where it was or from where it is now."""
    source = Path(model) if model is not None else _source(str(said["path"]), str(said.get("name", "")))
    given: dict[str, Any] = {}
    if Path(source).is_file() and "labels" in said:
        given = {key: said[key] and tuple(said[key]) for key in ("labels", "intensity_range", "window")}
        given["spacing"] = said["spacing_mm"] and tuple(said["spacing_mm"])
    given |= {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in said.get("options", {}).items()
        if key in OPTIONS
    }
    loaded = load_model(source, **given)
    windows = {key: said[key] for key in ("window", "overlap", "blending") if key in said}
    windows |= {"window": tuple(windows["window"])} if windows.get("window") else {}
    if any(getattr(loaded.card, key) != value for key, value in windows.items()):
        loaded = load_model(source, **{**given, **windows})
    return loaded


def _source(told: str, name: str) -> str | Path:
    """The model folder that holds these weights, the weights themselves when bare, or a bundled model of that name."""
    from Agg2ExpLib.models import bundled_models
    from Agg2ExpLib.models.registry import formats

    weights = Path(told)
    if told.partition(":")[0] in formats():
        # A name that only its format understands, such as totalsegmentator:total.
        return told
    if not told or not weights.exists():
        bundled = bundled_models().get(name)
        if bundled is None:
            raise InputError(f"{told or name}: the model that was explained is no longer there; name it with --model")
        return bundled
    folder = weights.parent.parent
    return folder if (folder / "configs" / "metadata.json").is_file() else weights


def region_of(explanation: Explanation, name: str, mask: str | Path | Volume | None, first: Volume) -> np.ndarray:
    """Return a class, a region of an explanation or any mask on the model's grid, the grid of ``first``.

    Raises
    ------
    InputError
        A name that is not known, or a region without a voxel within the scan.
    """
    if mask is not None:
        image = explanation.document["image"]
        frame = image.get("dicom", {}).get("frame_of_reference", "")
        scan_grid = Grid(tuple(image["shape"]), np.array(image["affine"]))
        inside = regions_on_grid(as_regions({name: mask}), first.grid, (), frame, scan_grid).masks[0]
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


def _write(result: WhatIf, prediction: Volume, about: dict[str, Any]) -> None:
    rows = zip(result.classes, result.dice, result.before_ml, result.after_ml, strict=True)
    with write_folder(result.folder) as part:
        write_volume(prediction, part / "prediction.nii.gz")
        table = [[name, *(repr(float(value)) for value in values)] for name, *values in rows]
        write_table(part / "whatif.csv", COLUMNS, table)
        document = {"format": "agg2exp-whatif", "format_version": 1, **about}
        write_file(part / "whatif.json", json.dumps(document, indent=1))


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
