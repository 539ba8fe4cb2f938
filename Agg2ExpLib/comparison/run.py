"""compare_methods(): cases and a model go in, the table of the paper's benchmark comes out.

::

    DIR/
      quality_long.csv       case, method, class, measure, value, and its 95 % interval
      quality_table.csv      one row per method: mean and spread of each measure
      quality_table.md       the same, to read
      quality.png            the same, to see
      comparison.json        settings, passes used and saved, what failed, versions
      settings.json          what the results below belong to
      cases/CASE/*.json      the results, one file per method

A run that was stopped goes on when the same command is given again: a method that is done on a case stays done. Of the
case at work, the segmentation is made once more.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import Agg2ExpLib
from Agg2ExpLib.case.case import Case
from Agg2ExpLib.comparison.case import SHARED, ComparedCase, is_done
from Agg2ExpLib.comparison.figure import draw
from Agg2ExpLib.comparison.files import read_json, write_bytes, write_json
from Agg2ExpLib.comparison.passes import Share, work_of, work_of_method
from Agg2ExpLib.comparison.plan import Plan
from Agg2ExpLib.comparison.table import QualityTable, Row
from Agg2ExpLib.device import choose_device
from Agg2ExpLib.errors import Agg2ExpError, Cancelled, InputError, OutputError
from Agg2ExpLib.explanation.document import voxels_sha256
from Agg2ExpLib.figures.fonts import undrawable
from Agg2ExpLib.models import Model
from Agg2ExpLib.progress import Progress
from Agg2ExpLib.storage import Kind, clear_folder, open_folder
from Agg2ExpLib.volume import Volume, read_volume

FORMAT = "agg2exp-comparison"


def _is_ours(folder: Path) -> bool:
    """Other programs have a settings.json too."""
    marker = folder / "settings.json"
    try:
        return marker.is_file() and read_json(marker).get("format") == FORMAT
    except InputError:
        return False


KIND = Kind("a comparison's folder", _is_ours)


@dataclass
class Comparison:
    """What a comparison found.

    Attributes
    ----------
    folder : Path
        Where it lies.
    table : QualityTable
        Every measured value.
    passes, naive_passes : int
        Network passes used, and what the per-class, per-method procedure would have used for the same results.
    failures : list of dict
        ``case``, ``method`` (empty when the whole case failed) and ``reason``.
    notes : list of str
        Sentences about classes that could not be measured, and about supervoxel maps.
    maps : dict
        Case -> file and hash of its supervoxel map.
    """

    folder: Path
    table: QualityTable
    passes: int = 0
    naive_passes: int = 0
    failures: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    maps: dict[str, dict[str, Any]] = field(default_factory=dict)


def compare_methods(
    scans: dict[str, Path | Volume],
    model: Model,
    out: str | Path,
    plan: Plan | None = None,
    *,
    overwrite: bool = False,
    wait: bool = False,
    progress: Progress | None = None,
) -> Comparison:
    """Explain every case by every method and measure the quality of the attributions.

    Parameters
    ----------
    scans : mapping of str to path or Volume
        CTs by name of case.
    model : Model
        What is explained.
    out : path
        Folder of the results; a stopped comparison in it goes on.
    plan : Plan
        Methods, classes, measures.
    overwrite : bool
        Replace a comparison with other settings.
    wait : bool
        Wait for another run that is at work on ``out`` rather than be refused.
    progress : Progress
        Counts passes over all cases; also cancels.

    Raises
    ------
    InputError
        Settings that the model cannot meet, or no case that could be measured.
    OutputError
        ``out`` holds something else, another run is at work on it, or it cannot be written.
    """
    plan, progress, out = plan or Plan(), progress or Progress(), Path(out)
    wanted = plan.class_indices(model.card.labels)
    compute = replace(plan.compute, device=str(choose_device(plan.device)))
    identity = _identity(plan, model, wanted)
    maps = {name: plan.map_of(name, source if isinstance(source, Path) else None) for name, source in scans.items()}
    waiting = partial(progress.stage, "waiting for another run", 1) if wait else None
    with open_folder(out, KIND, wait=waiting):
        _open(out, identity, plan, overwrite)
        work = work_of(plan, len(model.card.labels))
        progress.stage("comparison", work * len(scans))
        result = Comparison(out, QualityTable([]))
        for name, source in scans.items():
            part = Share(progress, work, None)
            part.stage("case", work)
            try:
                volume = source if isinstance(source, Volume) else read_volume(source)
                own = f"{identity} {voxels_sha256(volume)}"
                opened = Case.open(volume, model, compute=compute)
                case = ComparedCase(name, opened, plan, wanted, out / "cases" / name, maps[name])
                _run_case(case, own, part, result)
            except Cancelled:
                raise
            except Agg2ExpError as error:
                if isinstance(error, OutputError):
                    raise
                result.failures.append({"case": name, "method": "", "reason": str(error)})
                progress.message(f"{name} failed and is left out: {error}")
            part.finish()
        _finish(result, plan, model, scans, wanted)
    return result


def _run_case(case: ComparedCase, identity: str, progress: Progress, result: Comparison) -> None:
    """Do what is not done yet, and collect everything."""
    plan, shared = case.plan, case.folder / SHARED
    if case.own_map:
        result.maps[case.name] = case.own_map.to_dict()
        result.notes += [f"{case.name}: {note}" for note in case.own_map.notes]
    todo = [spec for spec in plan.specs if not is_done(case.folder / spec.file, case.identity_of(spec, identity))]
    if todo or not is_done(shared, identity):
        case.segment(Share(progress, 0, f"{case.name}, segmentation"))
        share = Share(progress, plan.subsets, f"{case.name}, perturbed predictions")
        case.share(identity, share)
        share.finish()
    else:
        progress.advance(plan.subsets)
    about = read_json(shared)
    result.passes += about["passes"] + about["segmentation_passes"]
    result.notes += [f"{name} is absent from the prediction of {case.name}" for name in about["absent"]]
    for spec in plan.specs:
        if spec not in todo:
            progress.advance(work_of_method(plan, spec, len(case.labels)))
        else:
            try:
                case.measure(spec, identity, progress)
            except Cancelled:
                raise
            except Agg2ExpError as error:
                if isinstance(error, OutputError):
                    raise
                result.failures.append({"case": case.name, "method": spec.name, "reason": str(error)})
                progress.message(f"{spec.name} failed on {case.name} and is left out: {error}")
                continue
        found = read_json(case.folder / spec.file)
        result.passes += found["passes"]
        result.naive_passes += found["naive_passes"]
        result.notes += found["notes"]
        result.table.rows.extend(
            Row(case.name, spec.name, label, measure, *numbers)
            for label, measures in found["classes"].items()
            for measure, numbers in measures.items()
        )


def _identity(plan: Plan, model: Model, wanted: list[int]) -> str:
    """Everything that a result depends on, but the scan; which methods are asked for does not matter."""
    apart = ("methods", "classes", "device", "supervoxel_map")
    settings = {key: value for key, value in plan.to_dict().items() if key not in apart}
    parts = [Agg2ExpLib.__version__, model.sha256, settings, wanted, asdict(model.card)]
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _open(out: Path, identity: str, plan: Plan, overwrite: bool) -> None:
    marker = out / "settings.json"
    if marker.is_file():
        if read_json(marker).get("identity") == identity:
            return
        if not overwrite:
            raise OutputError(
                f"{out} holds a comparison with other settings; give another --out, or --overwrite to replace it"
            )
        clear_folder(out)
    write_json(marker, {"format": FORMAT, "format_version": 1, "identity": identity, "plan": plan.to_dict()})


def _finish(result: Comparison, plan: Plan, model: Model, scans: dict[str, Path | Volume], wanted: list[int]) -> None:
    if not result.table.rows:
        reasons = [failure["reason"] for failure in result.failures] or result.notes
        first = reasons[0] if reasons else "every attribution is 0 everywhere"
        raise InputError(
            f"nothing could be measured on {len(scans)} case{'s' if len(scans) > 1 else ''}; first: {first}"
        )
    out, specs = result.folder, list(plan.specs)
    summary = result.table.summary([spec.name for spec in specs])
    write_bytes(out / "quality_long.csv", result.table.to_long_csv().encode())
    write_bytes(out / "quality_table.csv", summary.to_csv().encode())
    write_bytes(
        out / "quality_table.md", summary.to_markdown(f"{plan.mask_sentence}\n\n{passes_sentence(result)}").encode()
    )
    if lacking := undrawable([*(row.label for row in result.table.rows), *(spec.readable for spec in specs)]):
        result.notes.append(lacking)
    write_bytes(out / "quality.png", draw(result.table, summary, {spec.name: spec.readable for spec in specs}))
    about: dict[str, Any] = {
        "format": FORMAT,
        "format_version": 1,
        "plan": plan.to_dict(),
        "model": {"name": model.card.name, "sha256": model.sha256},
        "classes": [model.card.labels[index] for index in wanted],
        "cases": {name: str(source) if isinstance(source, Path) else "in memory" for name, source in scans.items()},
        "network_passes": result.passes,
        "network_passes_per_class_and_method": result.naive_passes,
        "supervoxel_maps": result.maps,
        "failures": result.failures,
        "notes": result.notes,
        "versions": {"agg2exp": Agg2ExpLib.__version__},
    }
    write_json(out / "comparison.json", about)


def passes_sentence(result: Comparison) -> str:
    """Return what the comparison cost, in words."""
    times = result.naive_passes / max(result.passes, 1)
    return (
        f"{result.passes} network passes; method by method and class by class, every window each time, "
        f"it would have been {result.naive_passes}: {times:.1f} times as many."
    )
