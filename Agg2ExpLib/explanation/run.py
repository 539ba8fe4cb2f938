"""explain(): a scan and a model go in, an Explanation folder comes out."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

import Agg2ExpLib
from Agg2ExpLib.case.objective import Objective, objectives
from Agg2ExpLib.case.segmentation import Segmentation, segment
from Agg2ExpLib.case.windows import Windows
from Agg2ExpLib.device import choose_device, dtype_of
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.explanation.folder import (
    DOCUMENT,
    FORMAT,
    FORMAT_VERSION,
    GAME_FILE,
    SUPERVOXELS_FILE,
    Explanation,
    Staging,
    attribution_file,
    region_file,
    supervoxel_file,
    write_supervoxel_table,
    write_text,
)
from Agg2ExpLib.explanation.settings import Settings
from Agg2ExpLib.importance import ImportanceTable, absent_row, build_table, importance_row
from Agg2ExpLib.methods import METHODS, OWN_MAP
from Agg2ExpLib.methods.dispatch import attribute
from Agg2ExpLib.methods.games.supervoxel_map import SupervoxelMap, read_map
from Agg2ExpLib.methods.games.supervoxels import Supervoxels, make_supervoxels
from Agg2ExpLib.methods.gradients import Attribution, PassCount, SupervoxelValues
from Agg2ExpLib.models import SegmentationModel, load_model
from Agg2ExpLib.progress import Progress
from Agg2ExpLib.regions import Region, as_regions, check_names, regions_on_grid
from Agg2ExpLib.volume import (
    MIN_AXIS,
    Volume,
    file_sha256,
    labels_to_input_grid,
    preprocess,
    read_volume,
    to_grid,
    write_volume,
)

# Whole numbers are fine enough for a range as wide as this, and pack to a third.
_ROUNDED_RANGE = 256
# A larger share of what completeness promises is worth a message.
_TOLERATED_GAP = 0.05


@dataclass
class _Work:
    """What is known so far of the case at hand."""

    volume: Volume
    prepared: Volume
    model: SegmentationModel
    settings: Settings
    device: torch.device
    regions: dict[str, np.ndarray]
    region_notes: list[dict[str, Any]]
    windows: Windows
    truth: np.ndarray | None = None
    truth_note: dict[str, str] | None = None
    supervoxel_map: SupervoxelMap | None = None
    messages: list[str] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)


def explain(
    image: str | Path | Volume,
    model: str | Path | SegmentationModel,
    out: str | Path,
    settings: Settings | None = None,
    *,
    regions: Mapping[str, str | Path | Volume | Region] | None = None,
    truth: str | Path | Volume | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
    series: str | int | None = None,
) -> Explanation:
    """Segment a CT, attribute each class's prediction to voxels, aggregate to RoI importance, and write it all.

    Parameters
    ----------
    image : path or Volume
        CT in HU: a file, a folder with a DICOM series, or a volume already read.
    model : name, path or SegmentationModel
        What is explained; see :func:`Agg2ExpLib.models.load_model`.
    out : path
        Folder to make; it appears only when complete.
    settings : Settings
        Method, classes, samples, reduction, seed, precision, device.
    regions : mapping of str to path, Volume or Region
        Extra regions by name, on any grid; they may overlap. A mask is inside where it is above 0.
    truth : path or Volume, optional
        True classes as a label map on any grid, for value functions that compare with it. Its file and hash are noted in
        explanation.json, as those of a supervoxel map are.
    overwrite : bool
        Replace an Explanation folder that is there already.
    resume : bool
        Keep the finished classes when the run is stopped, and go on from them when it is started again.
    progress : Progress
        Where stages, counts and the time left go; also cancels.
    series : str or int, optional
        Of a DICOM folder: see :func:`Agg2ExpLib.volume.read_volume`.

    Returns
    -------
    Explanation
        The folder, read back.

    Raises
    ------
    InputError
        An image, model, region or setting that cannot be used.
    OutputError
        ``out`` exists or cannot be written.
    Cancelled
        When ``progress`` says so.
    """
    settings, progress = settings or Settings(), progress or Progress()
    started = time.perf_counter()
    device = choose_device(settings.device)
    loaded = model if isinstance(model, SegmentationModel) else load_model(model)
    wanted = settings.class_indices(loaded.card.labels)
    volume = image if isinstance(image, Volume) else read_volume(image, series=series)
    given = dict(regions or {})
    check_names(given, loaded.card.labels)
    work = _prepare(volume, loaded, settings, device, given, progress)
    if truth is not None:
        work.truth, work.truth_note = _truth_on_grid(truth, work)
    hashes = {"image": _image_sha256(image, volume), "model": loaded.sha256}
    staging = Staging(Path(out), _fingerprint(work, hashes), overwrite=overwrite, resume=resume)
    with staging.open() as folder:
        found = _segment(work, folder, progress)
        table, classes, passes = _attribute(work, found, wanted, folder, progress)
        work.timings["total_seconds"] = time.perf_counter() - started
        document = _document(work, found, hashes, classes, passes)
        table.to_matrix_csv(folder / "importance.csv")
        table.to_long_csv(folder / "importance_long.csv")
        document["files"] = _own_files(folder, document)
        write_text(folder / DOCUMENT, json.dumps(document, indent=1, allow_nan=False) + "\n")
    return Explanation.load(out)


def _own_files(folder: Path, document: Mapping[str, Any]) -> list[str]:
    """Return the files of this explanation; what a stopped run left beside them is removed."""
    own = {"importance.csv", "importance_long.csv", "prediction.nii.gz"}
    own |= {"model_grid/image.nii.gz", "model_grid/prediction.nii.gz"}
    own |= {entry["file"] for entry in (*document["classes"], *document["regions"]) if "file" in entry}
    own |= {supervoxel_file(entry["id"]) for entry in document["classes"] if "supervoxels" in entry}
    if METHODS[document["settings"]["method"]].supervoxels and (folder / SUPERVOXELS_FILE).is_file():
        own.add(SUPERVOXELS_FILE)
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        if path.relative_to(folder).as_posix() not in {*own, "fingerprint"}:
            path.unlink()
    return sorted(own)


def _truth_on_grid(source: str | Path | Volume, work: _Work) -> tuple[np.ndarray, dict[str, str]]:
    given = source if isinstance(source, Volume) else read_volume(source, kind="labels")
    highest, count = int(given.voxels.max()), len(work.model.card.labels)
    if highest >= count:
        raise InputError(
            f"the truth {given.source or ''} has label {highest}, but the model has {count} classes; is it its label set?"
        )
    return to_grid(given, work.prepared.grid, "nearest").voxels, _whence(given)


def _whence(volume: Volume) -> dict[str, str]:
    """Where a volume beside the scan came from; of one in memory there is nothing to tell."""
    path = volume.source
    return (
        {"path": str(path.resolve()), "sha256": volume.sha256 or file_sha256(path)}
        if path
        else {"path": "", "sha256": ""}
    )


def _prepare(
    volume: Volume,
    model: SegmentationModel,
    settings: Settings,
    device: torch.device,
    regions: Mapping[str, str | Path | Volume | Region],
    progress: Progress,
) -> _Work:
    card = model.card
    prepared = preprocess(
        volume, spacing=card.spacing, orientation=card.orientation, intensity_range=card.intensity_range
    )
    if min(prepared.shape) < MIN_AXIS:
        size = " x ".join(map(str, prepared.shape))
        raise InputError(
            f"{volume.source or 'the volume'}: at the model's spacing the scan has only {size} voxels; "
            f"give one with {MIN_AXIS} at least along each axis"
        )
    windows = Windows(prepared.shape, card.window, card.overlap, card.blending)
    work = _Work(
        volume, prepared, model.to(device, dtype_of(settings.precision, device)), settings, device, {}, [], windows
    )
    work.messages.extend([*volume.notes, *card.assumptions])
    if settings.supervoxel_kind == OWN_MAP:
        work.supervoxel_map = read_map(settings.supervoxels, prepared.grid)
        work.messages.extend(work.supervoxel_map.notes)
    frame = volume.dicom.frame_of_reference if volume.dicom else ""
    placed = regions_on_grid(as_regions(regions), prepared.grid, card.labels, frame, volume.grid)
    work.messages.extend(placed.notes)
    for region, inside in zip(placed.regions, placed.masks, strict=True):
        work.regions[region.name] = inside
        work.region_notes.append(
            {
                "id": region.name,
                "source": region.source,
                "sha256": region.sha256,
                "voxels": int(inside.sum()),
                "file": region_file(region.name),
            }
        )
    for message in work.messages:
        progress.message(message)
    return work


def _segment(work: _Work, folder: Path, progress: Progress) -> Segmentation:
    begin = time.perf_counter()
    found = segment(
        work.model,
        torch.from_numpy(work.prepared.voxels),
        work.windows,
        len(work.model.card.labels),
        batch_size=work.settings.batch_size,
        device=work.device,
        precision=work.settings.precision,
        progress=progress,
    )
    work.timings["segmentation_seconds"] = time.perf_counter() - begin
    labels = Volume(np.asarray(found.labels), work.prepared.grid)
    write_volume(labels, folder / "model_grid" / "prediction.nii.gz")
    write_volume(labels_to_input_grid(labels, work.volume.grid), folder / "prediction.nii.gz")
    low, high = work.model.card.intensity_range
    hu = work.prepared.voxels * (high - low) + low
    if low >= -(2**15) and high < 2**15 and high - low >= _ROUNDED_RANGE:
        hu = np.rint(hu).astype(np.int16)
    write_volume(Volume(hu, work.prepared.grid), folder / "model_grid" / "image.nii.gz")
    for name, inside in work.regions.items():
        write_volume(Volume(inside.astype(np.uint8), work.prepared.grid), folder / region_file(name))
    return found


def _attribute(
    work: _Work, found: Segmentation, wanted: Sequence[int], folder: Path, progress: Progress
) -> tuple[ImportanceTable, list[dict[str, Any]], PassCount]:
    begin = time.perf_counter()
    labels, names = found.labels, work.model.card.labels
    masks = list(work.regions.values())
    aims = {aim.class_index: aim for aim in objectives(found, work.windows, wanted, work.settings.reduction)}
    kept = _finished_before(folder, [names[index] for index in wanted])
    todo = [aim for aim in aims.values() if names[aim.class_index] not in kept]
    passes, rows, entries = PassCount(), {}, {}
    supervoxels = _supervoxels(work, found, folder) if todo else None
    for one in _attributions(work, found, todo, supervoxels, folder, passes, progress):
        name = names[one.class_index]
        full = Volume(one.full(labels.shape).astype(np.float32), work.prepared.grid)
        write_volume(full, folder / attribution_file(name))
        if one.supervoxels is not None:
            write_supervoxel_table(one.supervoxels, folder / supervoxel_file(name))
        rows[name] = importance_row(one.values, one.box, labels, len(names), masks)
        entries[name] = _class_entry(name, aims[one.class_index], one)
        _keep(folder, name, rows[name], entries[name])
    for aim in aims.values():
        name = names[aim.class_index]
        if name in kept:
            rows[name], entries[name] = kept[name]
        elif not aim.voxels:
            rows[name] = absent_row(labels, len(names), masks)
            entries[name] = {"id": name, "label": aim.class_index, "status": "absent", "voxels": 0}
            work.messages.append(f"{name} is absent from the prediction; its row is empty")
            progress.message(work.messages[-1])
        elif name not in rows:
            rows[name] = absent_row(labels, len(names), masks)
            entries[name] = {"id": name, "label": aim.class_index, "status": "absent", "voxels": aim.voxels}
            work.messages.append(f"{name} has no {work.settings.value} voxel; its row is empty")
            progress.message(work.messages[-1])
    _tell_completeness(work, entries, progress)
    work.timings["attribution_seconds"] = time.perf_counter() - begin
    order = [names[index] for index in wanted]
    table = build_table({name: rows[name] for name in order}, [*names, *work.regions])
    return table, [entries[name] for name in order], passes


def _tell_completeness(work: _Work, entries: Mapping[str, Mapping[str, Any]], progress: Progress) -> None:
    """Say how far the sums of integrated gradients are from what they promise, when that is much."""
    gaps = {name: entry["completeness_gap"] for name, entry in entries.items() if "completeness_gap" in entry}
    worst = max(gaps, key=lambda name: gaps[name], default="")
    if worst and gaps[worst] > _TOLERATED_GAP:
        work.messages.append(
            f"integrated gradients sum to F(scan) - F(air) within {gaps[worst]:.0%} only ({worst}); "
            "more --samples bring them closer"
        )
        progress.message(work.messages[-1])


def _supervoxels(work: _Work, found: Segmentation, folder: Path) -> Supervoxels | None:
    """Divide the scan, where the method asks for it, and keep the map."""
    if not METHODS[work.settings.method].supervoxels:
        return None
    if work.supervoxel_map is not None:
        made = work.supervoxel_map.supervoxels
    else:
        made = make_supervoxels(
            work.settings.supervoxels,
            work.prepared.voxels,
            found.labels,
            work.model.card.labels,
            regions=work.regions,
            count=work.settings.supervoxel_count,
            spacing=work.prepared.spacing,
        )
    write_volume(Volume(made.labels, work.prepared.grid), folder / SUPERVOXELS_FILE)
    return made


def _attributions(
    work: _Work,
    found: Segmentation,
    todo: Sequence[Objective],
    supervoxels: Supervoxels | None,
    folder: Path,
    passes: PassCount,
    progress: Progress,
) -> Iterator[Attribution]:
    settings = work.settings
    return attribute(
        work.model,
        torch.from_numpy(work.prepared.voxels),
        work.windows,
        todo,
        method=settings.method,
        samples=settings.samples,
        sigma=settings.sigma,
        path=settings.path,
        seed=settings.seed,
        batch_size=settings.batch_size,
        device=work.device,
        precision=settings.precision,
        memory_budget=settings.memory_budget,
        kind=settings.supervoxel_kind,
        supervoxels=supervoxels,
        estimator=settings.estimator,
        scope=settings.scope,
        ridge=settings.ridge,
        value=settings.value,
        truth=work.truth,
        prediction=found.labels,
        n_classes=len(work.model.card.labels),
        voxel_ml=work.prepared.grid.voxel_volume / 1000.0,
        layer=settings.layer,
        checkpoint=folder / GAME_FILE,
        names=work.model.card.labels,
        progress=progress,
        passes=passes,
    )


def _class_entry(name: str, aim: Objective, one: Attribution) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": name,
        "label": aim.class_index,
        "status": "explained",
        "voxels": aim.voxels,
        "objective": aim.value,
        "windows_run": one.windows_run,
        "backward_passes": one.backward_passes,
        "file": attribution_file(name),
    }
    if np.isfinite(one.baseline_value):
        entry["baseline_objective"] = one.baseline_value
        entry["completeness_gap"] = one.completeness_gap
    if one.supervoxels is not None:
        entry.update(_supervoxel_notes(one.supervoxels))
    return entry


def _supervoxel_notes(table: SupervoxelValues) -> dict[str, Any]:
    notes: dict[str, Any] = {"supervoxels": len(table.names), "full_value": table.full}
    if np.isfinite(table.empty):
        change = table.full - table.empty
        gap = abs(float(table.values.sum()) - change) / max(abs(change), 1e-12)
        notes["removed_value"] = table.empty
        notes["coalitions"] = table.coalitions
        notes["efficiency_gap"] = gap
        notes["largest_standard_error"] = float(table.errors.max())
    return notes


def _keep(folder: Path, name: str, row: Mapping[str, np.ndarray], entry: Mapping[str, Any]) -> None:
    """Note a finished class beside its attribution, for a resumed run."""
    text = json.dumps({"row": {key: values.tolist() for key, values in row.items()}, "entry": entry})
    write_text((folder / attribution_file(name)).with_suffix(".json"), text)


def _finished_before(folder: Path, names: Sequence[str]) -> dict[str, tuple[dict[str, np.ndarray], dict[str, Any]]]:
    kept = {}
    for name in names:
        note = (folder / attribution_file(name)).with_suffix(".json")
        if note.is_file() and (folder / attribution_file(name)).is_file():
            try:
                found = json.loads(note.read_text(encoding="utf-8"))
                kept[name] = ({key: np.array(values) for key, values in found["row"].items()}, found["entry"])
            except (ValueError, KeyError):
                # A note cut short by a kill: the class is simply computed again.
                continue
    return kept


def _image_sha256(image: str | Path | Volume, volume: Volume) -> str:
    """SHA-256 of the scan's file; of voxels and affine for a volume in memory, which may have been changed since."""
    if not isinstance(image, Volume):
        return volume.sha256
    digest = hashlib.sha256(np.ascontiguousarray(volume.voxels).tobytes())
    digest.update(np.ascontiguousarray(volume.affine).tobytes())
    return digest.hexdigest()


def _fingerprint(work: _Work, hashes: Mapping[str, str]) -> str:
    """Everything that the finished classes of a stopped run depend on; the choice of classes does not matter."""
    settings = {key: value for key, value in work.settings.to_dict().items() if key not in ("classes", "memory_budget")}
    regions = {name: hashlib.sha256(mask.tobytes()).hexdigest() for name, mask in work.regions.items()}
    truth = "" if work.truth is None else hashlib.sha256(np.ascontiguousarray(work.truth).tobytes()).hexdigest()
    own_map = work.supervoxel_map.sha256 if work.supervoxel_map else ""
    card = work.model.card
    parts = [Agg2ExpLib.__version__, hashes, settings, regions, truth, own_map, asdict(card)]
    return json.dumps(parts, sort_keys=True, default=str)


def _document(
    work: _Work, found: Segmentation, hashes: Mapping[str, str], classes: list[dict[str, Any]], passes: PassCount
) -> dict[str, Any]:
    card, volume = work.model.card, work.volume
    settings = work.settings.to_dict()
    settings["samples"] = work.settings.samples_taken
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "image": {
            "name": volume.source.name if volume.source else "volume in memory",
            "path": str(volume.source.resolve()) if volume.source else "",
            "sha256": hashes["image"],
            "shape": list(volume.shape),
            "spacing_mm": list(volume.spacing),
            "affine": volume.affine.tolist(),
            **({"dicom": asdict(volume.dicom)} if volume.dicom else {}),
        },
        "model": {
            "name": card.name,
            "path": str(work.model.source),
            "sha256": hashes["model"],
            "labels": list(card.labels),
            "colours": [list(colour) for colour in card.colours],
            "spacing_mm": list(card.spacing) if card.spacing else None,
            "orientation": card.orientation,
            "intensity_range": list(card.intensity_range),
            "window": list(card.window),
            "overlap": card.overlap,
            "blending": card.blending,
            "architecture": dict(card.architecture),
            "assumptions": list(card.assumptions),
        },
        "settings": settings,
        "device": str(work.device),
        "model_grid": {"shape": list(work.prepared.shape), "affine": work.prepared.affine.tolist()},
        "windows": len(work.windows),
        "classes": classes,
        "regions": work.region_notes,
        **({"truth": work.truth_note} if work.truth_note else {}),
        **({"supervoxel_map": work.supervoxel_map.to_dict()} if work.supervoxel_map else {}),
        "network_passes": {
            "segmentation_forward": found.forward_passes,
            "attribution_forward": passes.forward,
            "attribution_backward": passes.backward,
        },
        "timings": {key: round(value, 3) for key, value in work.timings.items()},
        "messages": work.messages,
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    versions = {"agg2exp": Agg2ExpLib.__version__, "python": platform.python_version()}
    for name in ("torch", "monai", "numpy", "SimpleITK"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "unknown"
    return versions
