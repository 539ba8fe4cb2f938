"""``python -m Agg2ExpLib.studies.phantom_study --out DIR``: does an odd explanation warn, measured on phantoms with known findings.

Healthy reference patients make a profile; new patients, half of them with one finding, are scored against it, by the
forest and by simpler detectors. Everything that could be tuned is fixed in :mod:`Agg2ExpLib.studies.design` and in
the defaults of the profile before a new patient is looked at. Stopped at any time, the same command goes on: phantoms and
explained cases that are there are not made again.

Written to DIR: ``study.md`` (tables, to read), ``study.json`` (everything), ``structures.csv``, ``reasons.csv``,
``cases.csv``, ``study.png``, ``profile.npz`` and the two cohort folders, of which ``agg2exp cohort report`` makes reports.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from Agg2ExpLib.cohort.judge.profile import Profile, fit_profile
from Agg2ExpLib.cohort.judge.scoring import FALSE_ALARMS, ClassScore, score_matrices, score_patients, score_table
from Agg2ExpLib.cohort.run.cases import find_cohort
from Agg2ExpLib.cohort.run.runner import default_workers, run_cohort
from Agg2ExpLib.cohort.run.work import Job
from Agg2ExpLib.cohort.table.tables import CohortTable
from Agg2ExpLib.errors import Agg2ExpError, InputError, OutputError
from Agg2ExpLib.progress import Progress, TerminalSink
from Agg2ExpLib.request import request_of
from Agg2ExpLib.storage import write_file
from Agg2ExpLib.studies.design import CLASSES, Design, distances
from Agg2ExpLib.studies.measures import beyond_size, lines, namings
from Agg2ExpLib.studies.pages import write_results


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study, or go on with it."""
    parser = argparse.ArgumentParser(prog="python -m Agg2ExpLib.studies.phantom_study", description=__doc__)
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument(
        "--model", default="thorax-phantom", help="bundled name or model folder (default thorax-phantom)"
    )
    parser.add_argument("--method", default="gradient")
    parser.add_argument("--samples", type=int, metavar="N", help="of the method")
    parser.add_argument("--classes", default=",".join(CLASSES), metavar="A,B", help="structures of the thorax-17 set")
    parser.add_argument(
        "--reference", type=int, default=Design.reference, metavar="N", help="healthy patients (default 60)"
    )
    parser.add_argument("--new", type=int, default=Design.new, metavar="N", help="new patients (default 40)")
    parser.add_argument("--spacing", type=float, default=Design.spacing, help="of the phantoms, mm (default 3)")
    parser.add_argument("--workers", type=int, metavar="N", help="processes; default one per GPU, else one per core")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(arguments)
    # Other libraries' notes on what they will change are none for whoever runs a study.
    warnings.filterwarnings("ignore", category=FutureWarning)
    try:
        print(run_study(options, Progress(TerminalSink() if sys.stderr.isatty() else None)))
        return 0
    except Agg2ExpError as error:
        print(f"agg2exp: {error}", file=sys.stderr)
        return 2


def run_study(options: argparse.Namespace, progress: Progress) -> str:
    """Do what is not done yet, and write the results.

    Parameters
    ----------
    options : argparse.Namespace
        Of :func:`main`.
    progress : Progress
        Where stages go.

    Returns
    -------
    str
        The results in words.

    Raises
    ------
    InputError
        The folder holds a study of another design, or cases failed.
    OutputError
        It cannot be written.
    """
    from Agg2ExpLib.models import load_model

    out = Path(options.out)
    classes = tuple(part.strip() for part in options.classes.split(",") if part.strip())
    design = Design(options.reference, options.new, spacing=options.spacing, classes=classes)
    _same_design(out, design)
    phantoms = {"reference": design.write_reference, "new": design.write_new}
    request = request_of(options.method, classes=classes, samples=options.samples, device=options.device)
    workers = options.workers or default_workers(options.device)
    for name, write in phantoms.items():
        write(out / "phantoms" / name, progress)
        job = Job(out / name, partial(load_model, options.model), request)
        summary = run_cohort(
            find_cohort(out / "phantoms" / name), job, workers=workers, retry_failed=True, progress=progress
        )
        if summary.failed:
            raise InputError(f"{summary.failed} cases failed, such as {': '.join(summary.reasons[0])}; run again")
    profile = fit_profile(CohortTable.read(out / "reference"), progress=progress)
    profile.save(out / "profile.npz")
    return write_results(out, evaluate(out, design, profile))


def _same_design(out: Path, design: Design) -> None:
    """Note the design in the folder; refuse a folder of another one, whose phantoms would be taken for these."""
    path = out / "design.json"
    wanted = design.to_dict()
    if path.is_file():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = None
        if found != wanted:
            raise InputError(f"{out} holds a study of another design (see design.json); give another --out")
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot create {out}: {error.strerror}; choose another --out") from error
    write_file(path, (json.dumps(wanted, indent=1) + "\n").encode())


def evaluate(out: Path, design: Design, profile: Profile) -> dict[str, Any]:
    """Score the new patients and measure; return what ``study.json`` holds, and the arrays that pictures are drawn from.

    Parameters
    ----------
    out : path
        Folder of the study, both cohorts finished.
    design : Design
        Its design.
    profile : Profile
        Of the reference.
    """
    table = CohortTable.read(out / "new")
    classes = table.classes
    far = np.array([distances(out / "phantoms" / "new" / case, classes) for case in table.cases])
    near = far <= design.near_mm
    regions = {case: _regions(out / "phantoms" / "new" / case) for case in table.cases}
    ill = np.array([bool(regions[case]) for case in table.cases])
    scores = score_table(profile, table, reasons_for=len(table.cases))
    matrices = score_matrices(scores, table.cases, classes)
    pairs = [(i, case, j, name) for i, case in enumerate(table.cases) for j, name in enumerate(classes)]
    shares = {(case, name): _share(table, i, j, regions[case]) for i, case, j, name in pairs}
    by_pair = {(case, name): bool(near[i, j]) for i, case, j, name in pairs}
    return {
        "design": design,
        "identity": table.identity,
        "versions": dict(profile.versions),
        "false_alarms": FALSE_ALARMS,
        "warnings": profile.warnings(),
        "table": table,
        "distances": far,
        "near": near,
        "ill": ill,
        "matrices": matrices,
        "lines": lines(matrices, table.dice, near, ill, classes),
        "beyond_size": beyond_size(matrices, table.dice, ill),
        "namings": namings(scores, by_pair, regions, shares, classes),
        "scores": _by_pair(scores),
        "patients": score_patients(profile, scores),
        "findings": {case: _finding(out / "phantoms" / "new" / case) for case in table.cases},
        "shares": shares,
    }


def _by_pair(scores: Sequence[ClassScore]) -> dict[tuple[str, str], ClassScore]:
    return {(one.case, one.name): one for one in scores}


def _regions(case: Path) -> list[str]:
    return [path.name.removesuffix(".nii.gz") for path in sorted((case / "findings").glob("*.nii.gz"))]


def _finding(case: Path) -> dict[str, Any]:
    found = json.loads((case / "case.json").read_text(encoding="utf-8"))["findings"]
    return dict(found[0]) if found else {}


def _share(table: CohortTable, case: int, name: int, regions: Sequence[str]) -> float:
    """Share of a class's attribution inside of the case's findings."""
    return float(sum(table.values["mass"][case, name, table.rois.index(region)] for region in regions))


if __name__ == "__main__":
    sys.exit(main())
