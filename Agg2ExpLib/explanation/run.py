"""explain(): a scan and a model go in; an Explanation folder comes out, or a result in memory."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, overload

import numpy as np

import Agg2ExpLib
from Agg2ExpLib.case.case import Case
from Agg2ExpLib.explanation.document import class_entry, document_of, image_sha256, voxels_sha256
from Agg2ExpLib.explanation.folder import Explanation, longest_file
from Agg2ExpLib.explanation.inputs import Copied, Inputs, Source, read_inputs
from Agg2ExpLib.explanation.result import Result
from Agg2ExpLib.explanation.sinks import FolderSink, MemorySink, Sink
from Agg2ExpLib.importance import ImportanceTable, build_table
from Agg2ExpLib.methods import RemovalMethod
from Agg2ExpLib.models import Model
from Agg2ExpLib.progress import Progress
from Agg2ExpLib.request import Request
from Agg2ExpLib.volume import Volume

# A larger share of what completeness promises is worth a message.
_TOLERATED_GAP = 0.05
# A prediction of the same model differs at borders alone.
_AGREES = 0.95


@dataclass
class _Told:
    """Sentences for the user, said once and kept for the document."""

    progress: Progress
    messages: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.messages.append(text)
        self.progress.message(text)


@overload
def explain(
    image: Any, model: str | Path | Model, out: str | Path, request: Request | None = None, **more: Any
) -> Explanation: ...


@overload
def explain(
    image: Any, model: str | Path | Model, out: None = None, request: Request | None = None, **more: Any
) -> Result: ...


def explain(  # type: ignore[misc]
    image: Any,
    model: str | Path | Model,
    out: str | Path | None = None,
    request: Request | None = None,
    *,
    regions: Mapping[str, Source] | None = None,
    truth: str | Path | Volume | None = None,
    prediction: str | Path | Volume | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
) -> Explanation | Result:
    """Segment a scan, attribute each class's prediction to voxels, and aggregate to RoI importance.

    Parameters
    ----------
    image : path or Volume, or a sequence of them, or Copied
        The scan: a file, a folder with a DICOM series, or a volume already read; one for each channel of the model.
    model : name, path or Model
        What is explained; see :func:`Agg2ExpLib.models.load_model`.
    out : path, optional
        Folder to make; it appears only when complete. Without it nothing is written, and the result stays in memory.
    request : Request
        Method, classes, reduction, device.
    regions : mapping of str to path, Volume or Region
        Extra regions by name, on any grid; they may overlap. A mask is inside where it is above 0.
    truth : path or Volume, optional
        True classes as a label map on any grid, for value functions that compare with it. Its file and hash are noted in
        explanation.json, as those of a supervoxel map are.
    prediction : path or Volume, optional
        A label map of this scan that the model's makers wrote: what is explained in place of the networks' own decision.
    overwrite : bool
        Replace an Explanation folder that is there already.
    resume : bool
        Keep the finished classes when the run is stopped, and go on from them when it is started again.
    progress : Progress
        Where stages, counts and the time left go; also cancels.

    Returns
    -------
    Explanation or Result
        The folder, read back; or the result in memory.

    Raises
    ------
    InputError
        An image, model, region or setting that cannot be used.
    OutputError
        ``out`` exists or cannot be written.
    Cancelled
        When ``progress`` says so.
    """
    request, progress = request or Request(), progress or Progress()
    origins: list[Mapping[str, Any]] = []
    if isinstance(image, Copied):
        image, origins = image.scan, [image.origin, *image.others]
    started = time.perf_counter()
    told = _Told(progress)
    case = Case.open(image, model, compute=request.compute, progress=progress, prediction=prediction)
    wanted = request.class_indices(case.labels)
    for index in wanted:
        case.check_explainable(index)
    case.check_method(request.method, wanted)
    inputs = _inputs(case, request, dict(regions or {}), truth)
    given = list(image) if isinstance(image, (list, tuple)) else [image]
    if len(given) != len(case.images):
        # Of a name that stands for several files.
        given = [str(volume.source) for volume in case.images]
    hashes = [image_sha256(one, volume) for one, volume in zip(given, case.images, strict=True)]
    for text in _notes(case, inputs):
        told.say(text)
    sink: Sink = MemorySink()
    if out is not None:
        sign, longest = _fingerprint(case, request, inputs, hashes), longest_file(case.labels, case.model.card.channels)
        sink = FolderSink(Path(out), sign, longest, overwrite=overwrite, resume=resume)
    timings: dict[str, float] = {}
    with sink.opened():
        progress.plan(_plan(case, request, min(request.largest or len(wanted), len(wanted))))
        begin = time.perf_counter()
        case.segmentation  # noqa: B018 - computed here, so that its time is its own
        timings["segmentation_seconds"] = time.perf_counter() - begin
        _tell_agreement(case, told)
        sink.take_segmentation(case, inputs.regions)
        if request.largest is not None:
            wanted = _largest(case, wanted, request.largest)
            request = replace(request, classes=tuple(case.labels[index] for index in wanted), largest=None)
        begin = time.perf_counter()
        table, classes = _attribute(case, request, inputs, wanted, sink, told)
        timings["attribution_seconds"] = time.perf_counter() - begin
        timings["total_seconds"] = time.perf_counter() - started
        document = document_of(case, request, inputs, hashes, classes, told.messages, timings)
        for entry, origin in zip([document["image"], *document.get("other_channels", [])], origins, strict=False):
            entry["origin"] = dict(origin)
        sink.close(case, table, document)
    found: Explanation | Result = sink.result()
    return found


def _plan(case: Case, request: Request, classes: int) -> list[tuple[str, float, float]]:
    """What is to come, in passes forward: what of it lies in which windows is known after the segmentation."""
    from Agg2ExpLib.case.cost import BACKWARD, passes_of
    from Agg2ExpLib.case.windows import Windows

    counts = [
        len(Windows.over(case.prepared.shape, part.tiling or case.model.card.tiling)) for part in case.model.parts
    ]
    ends = passes_of(request.method, max(counts), classes, len(case.labels))
    least, most = (forward + BACKWARD * backward for forward, backward in ends)
    return [*(("segmentation", count, count) for count in counts), ("attributions", least, most)]


def _largest(case: Case, wanted: Sequence[int], count: int) -> list[int]:
    """Those of the most voxels that are there, in the model's order; the first ones when none is there."""
    sizes = np.bincount(case.segmentation.labels.ravel(), minlength=len(case.labels))
    best = sorted(wanted, key=lambda index: -int(sizes[index]))[:count]
    return sorted([index for index in best if sizes[index]] or best)


def _inputs(case: Case, request: Request, regions: dict[str, Source], truth: str | Path | Volume | None) -> Inputs:
    grid, method = case.prepared.grid, request.method
    own = method.own_map(grid) if isinstance(method, RemovalMethod) else None
    return read_inputs(grid, case.labels, regions, truth, own, case.images[0] if case.images else None)


def _notes(case: Case, inputs: Inputs) -> list[str]:
    read = [note for volume in case.images for note in volume.notes]
    return list(dict.fromkeys([*read, *case.prepared.notes, *case.model.card.assumptions, *inputs.notes]))


def _attribute(
    case: Case, request: Request, inputs: Inputs, wanted: Sequence[int], sink: Sink, told: _Told
) -> tuple[ImportanceTable, list[dict[str, Any]]]:
    names = case.labels
    rois = case.rois(inputs.regions)
    aims = {aim.class_index: aim for aim in case.objectives(wanted, request.reduction)}
    kept = sink.finished([names[index] for index in wanted])
    todo = [aim for aim in aims.values() if names[aim.class_index] not in kept]
    rows: dict[str, Any] = {name: row for name, (row, _) in kept.items()}
    entries: dict[str, dict[str, Any]] = {name: entry for name, (_, entry) in kept.items()}
    supervoxels = _divide(case, request, inputs, sink) if todo else None
    found = case.attribute(
        request.method,
        objectives=todo,
        regions=inputs.regions,
        truth=inputs.truth,
        supervoxels=supervoxels,
        checkpoint=sink.checkpoint,
    )
    for one in found:
        name = names[one.class_index]
        rows[name] = rois.row(one.channels, one.box)
        channels = case.model.card.channels
        entries[name] = class_entry(name, one.class_index, aims[one.class_index].voxels, one, channels)
        if len(channels) > 1:
            masses = [_finite(rois.row(part[None], one.box)["mass"]) for part in one.channels]
            entries[name]["channel_mass"] = dict(zip(channels, masses, strict=True))
        sink.take_class(case, name, one, rows[name], entries[name])
    for aim in aims.values():
        name = names[aim.class_index]
        if name not in rows:
            rows[name] = rois.absent()
            entries[name] = {"id": name, "label": aim.class_index, "status": "absent", "voxels": aim.voxels}
            value = getattr(request.method, "value", "")
            told.say(
                f"{name} has no {value} voxel; its row is empty"
                if aim.voxels
                else f"{name} is absent from the prediction; its row is empty"
            )
    _tell_completeness(entries, told)
    order = [names[index] for index in wanted]
    return build_table({name: rows[name] for name in order}, rois.names), [entries[name] for name in order]


def _finite(values: Any) -> list[float | None]:
    """Return plain numbers; ``None`` where a channel has no attribution at all."""
    return [float(value) if np.isfinite(value) else None for value in values]


def _tell_agreement(case: Case, told: _Told) -> None:
    """Say how far a given prediction is what the networks decide here."""
    share = case.segmentation.agreement
    if share is None:
        return
    told.say(
        f"the prediction of {case.given.source.name if case.given and case.given.source else 'memory'} is explained; the model "
        f"itself decides the same at {share:.2%} of the voxels"
        + ("" if share > _AGREES else ": is it the prediction of this model?")
    )


def _divide(case: Case, request: Request, inputs: Inputs, sink: Sink) -> Any:
    """Divide the scan, where the method asks for it, and keep the map."""
    if not isinstance(request.method, RemovalMethod):
        return None
    own = inputs.supervoxel_map
    made = own.supervoxels if own else request.method.divide(case.context(regions=inputs.regions))
    sink.take_supervoxels(case, made)
    return made


def _tell_completeness(entries: Mapping[str, Mapping[str, Any]], told: _Told) -> None:
    """Say how far the sums of integrated gradients are from what they promise, when that is much."""
    gaps = {name: entry["completeness_gap"] for name, entry in entries.items() if "completeness_gap" in entry}
    worst = max(gaps, key=lambda name: gaps[name], default="")
    if worst and gaps[worst] > _TOLERATED_GAP:
        told.say(
            f"integrated gradients sum to F(scan) - F(air) within {gaps[worst]:.0%} only ({worst}); "
            "more --samples bring them closer"
        )


def _fingerprint(case: Case, request: Request, inputs: Inputs, hashes: Sequence[str]) -> str:
    """Everything that the finished classes of a stopped run depend on; the choice of classes does not matter."""
    parts = [
        Agg2ExpLib.__version__,
        list(hashes),
        case.model.sha256,
        request.identity,
        case.compute.batch_size,
        case.compute.device,
        inputs.fingerprint(),
        "" if case.given is None else voxels_sha256(case.given),
        asdict(case.model.card),
    ]
    return json.dumps(parts, sort_keys=True, default=str)
