"""Scores as a person reads them, and as files: JSON with reasons, or CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.cohort.judge.conformal import PatientScore, fewest_for
from Agg2ExpLib.cohort.judge.profile import FEWEST, Profile
from Agg2ExpLib.cohort.judge.scoring import FALSE_ALARMS, ClassScore, score_patients
from Agg2ExpLib.cohort.judge.words import alarms_in_words, p_in_words, patient_in_words
from Agg2ExpLib.storage import write_file


def describe_scores(profile: Profile, scores: Sequence[ClassScore], false_alarms: float = FALSE_ALARMS) -> str:
    """Return the scores of one case as a person reads them: what chance would give first, then unusual classes, with reasons.

    Parameters
    ----------
    profile : Profile
        The reference.
    scores : sequence of ClassScore
        Of one case.
    false_alarms : float
        The rate that the verdicts were made with.
    """
    scored = sorted((one for one in scores if one.status == "scored"), key=lambda one: (one.p, -one.score))
    lines = [f"against {len(profile.cases)} reference cases:"]
    for patient in score_patients(profile, scored, false_alarms):
        lines[0] += f" {alarms_in_words(patient.unusual, patient.scored, patient.expected)}"
        lines.append(f"  {patient_in_words(patient.verdict, _plain(patient.p), false_alarms)}")
    if any(one.own for one in scored):
        lines.append(
            "  this case is one of the reference: it is scored by forests that have not seen it, against the others"
        )
    lines += [f"  note: {note}" for note in profile.warnings()]
    for one in scored:
        told = "too few" if one.verdict == "undecided" else one.verdict
        limit = f" (threshold {one.threshold:.3f})" if math.isfinite(one.threshold) else ""
        lines.append(
            f"  {structure(one.name).name:<26.26} {told:<8} p {p_in_words(one.p)}, score {one.score:.3f}{limit}, higher than "
            f"{one.percentile:.0f} % of the reference"
            + ("" if one.settled else "; near the threshold: another seed may differ")
        )
        lines += [f"      {reason.sentence(one.name)}" for reason in one.reasons if reason.told(one.verdict)]
    if any(one.verdict == "undecided" for one in scored):
        lines.append(
            f"  too few: {fewest_for(false_alarms)} reference cases are needed to call a structure unusual at "
            f"{100 * false_alarms:g} %"
        )
    others = {
        "absent": "absent from the prediction",
        "unknown": "not in the profile",
        "few": f"under {FEWEST} reference cases",
    }
    for status, words in others.items():
        names = [structure(one.name).name for one in scores if one.status == status]
        if names:
            lines.append(f"  {words}: {', '.join(dict.fromkeys(names))}")
    return "\n".join(lines)


def describe_patients(patients: Sequence[PatientScore], false_alarms: float, references: int) -> str:
    """Return what many cases come to: how many patients and structures are unusual, and how many chance makes so."""
    judged = [one for one in patients if one.verdict in ("usual", "unusual")]
    odd = [one for one in judged if one.verdict == "unusual"]
    structures = alarms_in_words(
        sum(one.unusual for one in patients), sum(one.scored for one in patients), sum(one.expected for one in patients)
    )
    if not judged:
        return (
            f"no patient can be judged at {100 * false_alarms:g} %: {references} reference cases, "
            f"{fewest_for(false_alarms)} are needed; {structures}"
        )
    verb = "is" if len(odd) <= 1 else "are"
    return (
        f"{len(odd) or 'none'} of {len(judged)} patients {verb} unusual as a whole; {sum(one.rate for one in judged):.1f} are "
        f"expected by chance. Structure by structure: {structures}."
    )


def patient_document(one: PatientScore, false_alarms: float) -> dict[str, Any]:
    """Return a patient's verdict as plain values."""
    return {
        "case": one.case,
        "verdict": one.verdict,
        "p": _plain(one.p),
        "scored": one.scored,
        "unusual": one.unusual,
        "expected_by_chance": one.expected,
        "oddest": one.oddest,
        "false_alarms": false_alarms,
    }


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def write_scores(
    profile: Profile, scores: Sequence[ClassScore], path: str | Path, false_alarms: float = FALSE_ALARMS
) -> Path:
    """Write scores as ``.json`` (with reasons, and the reference scores for a plot) or as ``.csv``.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    path = Path(path)
    rows = [one.to_dict() for one in scores]
    if path.suffix.lower() == ".json":
        reference = {
            name: [float(value) for value in np.sort(profile.held_out[:, i]) if np.isfinite(value)]
            for i, name in enumerate(profile.classes)
        }
        document = {
            "format": "agg2exp-scores",
            "format_version": 2,
            "identity": profile.identity,
            "reference_cases": len(profile.cases),
            "reference_scores": reference,
            "warnings": profile.warnings(),
            "false_alarms": false_alarms,
            "trees": profile.trees,
            "stability": {name: _plain(value) for name, value in profile.stabilities().items()},
            "patients": [patient_document(one, false_alarms) for one in score_patients(profile, scores, false_alarms)],
            "scores": rows,
        }
        write_file(path, (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())
        return path
    stream = io.StringIO()
    names = sorted({key for row in rows for key in row["baselines"]})
    plain = ["case", "class", "status", "score", "percentile", "threshold", "p", "verdict", "settled"]
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*plain, *names, "reasons"])
    for row in rows:
        told = "; ".join(reason["sentence"] for reason in row["reasons"])
        cells = [*(row[key] for key in plain), *(row["baselines"].get(key) for key in names), told]
        writer.writerow(["" if cell is None else cell for cell in cells])
    write_file(path, stream.getvalue().encode())
    return path
