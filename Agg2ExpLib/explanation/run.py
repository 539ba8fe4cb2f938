"""explain(): a scan and a model go in, an Explanation folder comes out."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

import Agg2ExpLib
from Agg2ExpLib.anatomy import safe_file_name
from Agg2ExpLib.attribution import METHODS
from Agg2ExpLib.attribution.gradients import Attribution, attribute
from Agg2ExpLib.attribution.objective import objectives
from Agg2ExpLib.device import choose_device
from Agg2ExpLib.errors import Agg2ExpError, InputError
from Agg2ExpLib.explanation.folder import (
    DOCUMENT,
    FORMAT,
    FORMAT_VERSION,
    Explanation,
    Staging,
    attribution_file,
    region_file,
    write_text,
)
from Agg2ExpLib.explanation.settings import Settings
from Agg2ExpLib.importance import ImportanceTable, importance_row
from Agg2ExpLib.models import SegmentationModel, load_model
from Agg2ExpLib.progress import Progress
from Agg2ExpLib.segmentation import Segmentation, segment
from Agg2ExpLib.volume import (
    Volume,
    file_sha256,
    labels_to_input_grid,
    preprocess,
    read_volume,
    to_grid,
    write_volume,
)
from Agg2ExpLib.windows import Windows

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
    messages: list[str] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)


def explain(
    image: str | Path | Volume,
    model: str | Path | SegmentationModel,
    out: str | Path,
    settings: Settings | None = None,
    *,
    regions: Mapping[str, str | Path | Volume] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
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
    regions : mapping of str to path or Volume
        Extra regions by name: masks (non-zero is inside) on any grid; they may overlap.
    overwrite : bool
        Replace an Explanation folder that is there already.
    resume : bool
        Keep the finished classes when the run is stopped, and go on from them when it is started again.
    progress : Progress
        Where stages, counts and the time left go; also cancels.

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
    volume = image if isinstance(image, Volume) else read_volume(image)
    given = dict(regions or {})
    _check_region_names(given, loaded.card.labels)
    work = _prepare(volume, loaded, settings, device, given, progress)
    hashes = {"image": _image_sha256(volume), "model": loaded.sha256}
    staging = Staging(Path(out), _fingerprint(work, hashes), overwrite=overwrite, resume=resume)
    with staging.open() as folder:
        found = _segment(work, folder, progress)
        table, classes, passes = _attribute(work, found, wanted, folder, progress)
        work.timings["total_seconds"] = time.perf_counter() - started
        document = _document(work, found, hashes, classes, passes)
        table.to_matrix_csv(folder / "importance.csv")
        table.to_long_csv(folder / "importance_long.csv")
        document["files"] = sorted(
            str(path.relative_to(folder).as_posix()) for path in folder.rglob("*") if path.name.endswith((".nii.gz", ".csv"))
        )
        write_text(folder / DOCUMENT, json.dumps(document, indent=1, allow_nan=False) + "\n")
    return Explanation.load(out)


def _check_region_names(regions: Mapping[str, object], labels: Sequence[str]) -> None:
    taken = {safe_file_name(label): label for label in labels}
    for name in regions:
        if safe_file_name(name) in taken:
            raise InputError(f"region {name!r} has the name of {taken[safe_file_name(name)]!r}; give it a name of its own")
        taken[safe_file_name(name)] = name


def _prepare(
    volume: Volume,
    model: SegmentationModel,
    settings: Settings,
    device: torch.device,
    regions: Mapping[str, str | Path | Volume],
    progress: Progress,
) -> _Work:
    card = model.card
    prepared = preprocess(
        volume, spacing=card.spacing, orientation=card.orientation, intensity_range=card.intensity_range
    )
    windows = Windows(prepared.shape, card.window, card.overlap, card.blending)
    work = _Work(volume, prepared, model.to(device, settings.precision), settings, device, {}, [], windows)
    work.messages.extend(volume.notes)
    for name, source in regions.items():
        mask = source if isinstance(source, Volume) else read_volume(source, kind="labels")
        inside = to_grid(Volume((mask.voxels > 0).astype(np.uint8), mask.grid), prepared.grid, "nearest").voxels > 0
        work.regions[name] = inside
        work.region_notes.append(
            {
                "id": name,
                "source": str(mask.source or ""),
                "sha256": file_sha256(mask.source) if mask.source else "",
                "voxels": int(inside.sum()),
                "file": region_file(name),
            }
        )
        if not inside.any():
            work.messages.append(f"region {name} has no voxel within the scan; its importance is 0")
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
    hu = np.rint(work.prepared.voxels * (high - low) + low).astype(np.int16)
    write_volume(Volume(hu, work.prepared.grid), folder / "model_grid" / "image.nii.gz")
    for name, inside in work.regions.items():
        write_volume(Volume(inside.astype(np.uint8), work.prepared.grid), folder / region_file(name))
    return found
