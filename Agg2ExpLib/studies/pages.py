"""The phantom study's results on disk: Markdown, JSON, CSV and a figure."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.cohort.judge.baselines import DETECTORS
from Agg2ExpLib.cohort.judge.intervals import Difference
from Agg2ExpLib.cohort.judge.reasons import percent
from Agg2ExpLib.cohort.judge.score_files import describe_patients
from Agg2ExpLib.cohort.report.page import number, p_value
from Agg2ExpLib.storage import write_file
from Agg2ExpLib.studies.measures import MEAN, MEAN_OF_RANKS, Line, Naming, plain
from Agg2ExpLib.studies.picture import study_picture


def write_results(out: Path, found: Mapping[str, Any]) -> str:
    """Write every file of the results; return the Markdown.

    Parameters
    ----------
    out : path
        Folder of the study.
    found : mapping
        From :func:`Agg2ExpLib.studies.phantom_study.evaluate`.

    Raises
    ------
    OutputError
        A file cannot be written.
    """
    rows = [plain(one) for one in found["lines"]]
    names = [plain(one) for one in found["namings"]]
    cases = _case_rows(found)
    document = {
        "format": "agg2exp-phantom-study",
        "format_version": 1,
        "design": found["design"].to_dict(),
        "identity": found["identity"],
        "versions": found["versions"],
        "false_alarms": found["false_alarms"],
        "warnings": found["warnings"],
        "structures": rows,
        "beyond_size": {name: [plain(one) for one in some] for name, some in found["beyond_size"].items()},
        "reasons": names,
        "cases": cases,
    }
    text = _markdown(found)
    write_file(out / "study.json", (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())
    write_file(out / "structures.csv", _csv(rows))
    write_file(out / "reasons.csv", _csv(names))
    write_file(out / "cases.csv", _csv(cases))
    write_file(out / "study.png", study_picture(found, DETECTORS))
    write_file(out / "study.md", text.encode())
    return text


def _case_rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per case and structure."""
    table, rows = found["table"], []
    for i, case in enumerate(table.cases):
        finding = found["findings"][case]
        for j, name in enumerate(table.classes):
            one = found["scores"][case, name]
            values = {detector: _finite(matrix[i, j]) for detector, matrix in found["matrices"].items()}
            rows.append(
                {
                    "case": case,
                    "structure": name,
                    "kind": finding.get("kind", ""),
                    "severity": finding.get("severity"),
                    "side": finding.get("side", ""),
                    "distance_mm": _finite(found["distances"][i, j]),
                    "near": bool(found["near"][i, j]),
                    "dice": _finite(table.dice[i, j]),
                    "surface_dice": _finite(table.surface_dice[i, j]),
                    "status": one.status,
                    **values,
                    "percentile": _finite(one.percentile),
                    "verdict": one.verdict,
                    "share_in_finding": _finite(found["shares"][case, name]) if finding else None,
                    "reasons": "; ".join(reason.sentence(name) for reason in one.reasons),
                }
            )
    return rows


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value is None else value for key, value in row.items()} for row in rows)
    return stream.getvalue().encode()


def _markdown(found: Mapping[str, Any]) -> str:
    design, table = found["design"], found["table"]
    model, settings = found["identity"]["model"], found["identity"]["settings"]
    known = table.dice[np.isfinite(table.dice)]
    dice = float(known.mean()) if known.size else math.nan
    parts = [
        "# Does an odd explanation warn? Phantoms with known findings",
        f"{design.reference} healthy reference patients (seed {design.reference_seed}), {design.new} new ones (seed "
        f"{design.new_seed}), {int(found['ill'].sum())} of them with one finding; phantoms of {design.spacing:g} mm; model "
        f"{model.get('name')} (sha256 {str(model.get('sha256'))[:16]}), method {settings.get('method')}; mean Dice of the new "
        f"{number(dice)}. A finding is near a structure when, in the ground truth, it lies within {design.near_mm:g} mm of it. "
        "Phantoms are a test bed, not patients.",
        *(f"Note: {note}." for note in found["warnings"]),
        "## AUROC of the score for a finding near the structure (95 % interval)",
        _table(found["lines"], lambda one: f"{number(one.auroc)} ({number(one.low)}-{number(one.high)})"
               if math.isfinite(one.auroc) else "–", True),
        "Rows over all structures ask whether the patient has any finding.",
        "## Spearman correlation of score and Dice (95 % interval; p)",
        _table(found["lines"], _followed, False),
        "Negative: odder explanations go with worse segmentations.",
        "## The same at equal sizes: partial Spearman correlation given the score of sizes only (p)",
        _table(found["lines"], lambda one: f"{number(one.given_size)} ({p_value(one.given_size_p)})"
               if math.isfinite(one.given_size) else "–", False),
        "Near 0: the explanation adds nothing to the sizes of the regions.",
        "## Does the explanation tell more than the sizes? Detector minus sizes only, mean of ranks (95 % for all pairs together)",
        _differences(found["beyond_size"]),
        f"Verdicts: {describe_patients(found['patients'], found['false_alarms'], design.reference)}",
        f"## Reasons that name the finding's region, and verdicts (at a false-alarm rate of {percent(found['false_alarms'])})",
        _reasons(found["namings"]),
        "Share: median share of the attribution inside of the finding, of those near. The forest itself does not know the "
        "finding's region, which no reference patient has; it is named for what lies in it.",
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _differences(found: Mapping[str, Sequence[Difference]]) -> str:
    """One row per detector, and a sentence that concludes."""
    by = {name: {one.first: one for one in some} for name, some in found.items()}
    if not by["auroc"]:
        return "Too few patients have a score of every detector."

    def cell(one: Difference) -> str:
        return f"{one.value:+.3f} ({one.low:+.3f} to {one.high:+.3f})" if math.isfinite(one.low) else "–"

    rows = [[DETECTORS.get(name, name), *(cell(by[measure][name]) for measure in by)] for name in by["auroc"]]
    real = [DETECTORS.get(name, name) for name, one in by["auroc"].items() if one.real and one.value > 0]
    told = (
        f"{' and '.join(real)} told findings better than the sizes did."
        if real
        else "No detector told findings better than the sizes did, beyond what chance gives."
    )
    return _grid(["detector", "AUROC for any finding", "Spearman with mean Dice"], rows) + "\n\n" + told


def _followed(one: Line) -> str:
    if not math.isfinite(one.rho):
        return "–"
    within = f"{number(one.rho_low)} to {number(one.rho_high)}; " if math.isfinite(one.rho_low) else ""
    return f"{number(one.rho)} ({within}{p_value(one.p)})"


def _table(lines: Sequence[Line], cell: Any, counts: bool) -> str:
    structures = list(dict.fromkeys(one.structure for one in lines))
    detectors = list(dict.fromkeys(one.detector for one in lines))
    by = {(one.structure, one.detector): one for one in lines}
    head = ["structure", *(["cases", "near"] if counts else []), *(DETECTORS.get(name, name) for name in detectors)]
    rows = []
    for name in structures:
        first = by[name, detectors[0]]
        shown = name if name in (MEAN, MEAN_OF_RANKS) else structure(name).name
        rows.append([shown, *([str(first.cases), str(first.near)] if counts else []),
                     *(cell(by[name, detector]) for detector in detectors)])  # fmt: skip
    return _grid(head, rows)


def _reasons(namings: Sequence[Naming]) -> str:
    def of(part: int, whole: int) -> str:
        return f"{part} of {whole}" if whole else "–"

    head = ["structure", "named when near", "named first", "share", "named when far", "unusual when near",
            "unusual when far", "unusual in healthy patients"]  # fmt: skip
    rows = [
        [
            structure(one.structure).name if one.structure else "all",
            of(one.named, one.near),
            of(one.first, one.near),
            percent(one.median_share) if math.isfinite(one.median_share) else "–",
            of(one.far_named, one.far),
            of(one.near_unusual, one.near),
            of(one.far_unusual, one.far),
            of(one.healthy_unusual, one.healthy),
        ]
        for one in namings
    ]
    return _grid(head, rows)


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))
