"""How unusual a case is against a reference profile, and why, in words."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.cohort.judge.baselines import FOREST, baseline_scorers
from Agg2ExpLib.cohort.judge.forest import anomaly_score, contributions
from Agg2ExpLib.cohort.judge.profile import FEWEST, Profile
from Agg2ExpLib.cohort.table.tables import CohortTable
from Agg2ExpLib.progress import Progress
from Agg2ExpLib.storage import write_file

FALSE_ALARMS = 0.05
#: The reference range of a region: the central 95 % of the reference cases.
RANGE = (0.025, 0.975)
_MOST_REASONS = 3
# A share that no percent sign shows is not worth a sentence.
_LEAST_SHARE = 0.005


@dataclass(frozen=True)
class Reason:
    """A region that makes a case unusual.

    Attributes
    ----------
    roi : str
        The region.
    value, low, high : float
        Its share of the class's attribution, and the reference range of that share.
    contribution : float
        Shapley value of the forest's path length; positive is odder. NaN for a region that the forest does not know.
    """

    roi: str
    value: float
    low: float
    high: float
    contribution: float

    def shows(self) -> bool:
        """Tell whether value and range still differ when they are rounded for people."""
        return percent(self.value) not in (percent(self.low), percent(self.high))

    def told(self, verdict: str) -> bool:
        """Tell whether people are told: what the reference never shows also of a usual score, for the forest cannot see it."""
        return verdict == "unusual" or not self.contribution > 0

    def sentence(self, name: str) -> str:
        """Return it in words, for the class ``name``."""
        region, usual = structure(self.roi).name, percent_range(self.low, self.high)
        return f"{structure(name).name} relied {percent(self.value)} on '{region}' (reference {usual})"

    def phrase(self) -> str:
        """Return it in fewer words, for where the class is written beside."""
        return f"{percent(self.value)} on {structure(self.roi).name} ({percent_range(self.low, self.high)})"


@dataclass(frozen=True)
class ClassScore:
    """One class of one case against the reference.

    Attributes
    ----------
    case, name : str
        Case and class.
    status : str
        ``scored``; ``absent`` from the prediction; ``unknown`` to the profile; ``few`` reference cases.
    score : float
        Isolation forest, 0 to 1; higher is odder.
    percentile : float
        Percent of the reference's held-out scores that are no higher.
    threshold : float
        Score above which the chosen share of reference cases would be alarms.
    verdict : str
        ``unusual``, ``usual`` or empty.
    reasons : tuple of Reason
        The regions that make it unusual, the strongest first.
    baselines : mapping of str to float
        Scores of simpler detectors.
    """

    case: str
    name: str
    status: str
    score: float = math.nan
    percentile: float = math.nan
    threshold: float = math.nan
    verdict: str = ""
    reasons: tuple[Reason, ...] = ()
    baselines: Mapping[str, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; a number that is not known is ``None``."""

        def plain(value: float) -> float | None:
            return value if math.isfinite(value) else None

        return {
            "case": self.case,
            "class": self.name,
            "status": self.status,
            "score": plain(self.score),
            "percentile": plain(self.percentile),
            "threshold": plain(self.threshold),
            "verdict": self.verdict,
            "reasons": [
                {
                    "roi": one.roi,
                    "value": one.value,
                    "reference": [one.low, one.high],
                    "contribution": plain(one.contribution),
                    "sentence": one.sentence(self.name),
                    "told": one.told(self.verdict),
                }
                for one in self.reasons
            ],
            "baselines": {name: plain(value) for name, value in (self.baselines or {}).items()},
        }


def score_table(
    profile: Profile,
    table: CohortTable,
    *,
    false_alarms: float = FALSE_ALARMS,
    reasons_for: int = 100,
    with_baselines: bool = True,
    progress: Progress | None = None,
) -> list[ClassScore]:
    """Score every class of every case.

    Parameters
    ----------
    profile : Profile
        The reference.
    table : CohortTable
        New cases, made with the same model and settings.
    false_alarms : float
        Share of reference cases that may be called unusual.
    reasons_for : int
        Per class, reasons are looked for in this many of the oddest cases.
    with_baselines : bool
        Also score with the simpler detectors.
    progress : Progress
        One unit a class.

    Returns
    -------
    list of ClassScore
        By class, then by case.

    Raises
    ------
    InputError
        Another model, method or settings than the profile's.
    """
    what = table.cases[0] if len(table.cases) == 1 else "the cohort"
    profile.refuse_other(table.identity, what)
    progress = progress or Progress()
    progress.stage("scores", len(table.classes))
    scores: list[ClassScore] = []
    for index, name in enumerate(table.classes):
        rows = _aligned(table.values["mass"][:, index], table.rois, profile.rois)
        extra = {roi: table.values["mass"][:, index, j] for j, roi in enumerate(table.rois) if roi not in profile.rois}
        scores += _score_class(profile, name, table.cases, rows, extra, false_alarms, reasons_for, with_baselines)
        progress.advance(detail=name)
    return scores


def score_matrices(scores: Sequence[ClassScore], cases: Sequence[str], classes: Sequence[str]) -> dict[str, np.ndarray]:
    """Return detector -> scores, shape (cases, classes); NaN where a class is absent."""
    rows, columns = ({name: i for i, name in enumerate(names)} for names in (cases, classes))
    found: dict[str, np.ndarray] = {}
    for one in scores:
        if one.status == "scored":
            for detector, value in {FOREST: one.score, **(one.baselines or {})}.items():
                matrix = found.setdefault(detector, np.full((len(cases), len(classes)), np.nan))
                matrix[rows[one.case], columns[one.name]] = value
    return found


def _aligned(rows: np.ndarray, there: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    """Put columns in the profile's order; a region that the cases do not have holds nothing."""
    found = np.zeros((len(rows), len(wanted)))
    for column, roi in enumerate(wanted):
        if roi in there:
            found[:, column] = rows[:, there.index(roi)]
    found[~np.isfinite(rows).any(axis=1)] = np.nan
    return found


def _score_class(
    profile: Profile,
    name: str,
    cases: Sequence[str],
    rows: np.ndarray,
    extra: Mapping[str, np.ndarray],
    false_alarms: float,
    reasons_for: int,
    with_baselines: bool,
) -> list[ClassScore]:
    if name not in profile.classes:
        return [ClassScore(case, name, "unknown") for case in cases]
    forest = profile.forest(name)
    if forest is None:
        return [ClassScore(case, name, "few") for case in cases]
    there = np.flatnonzero(np.isfinite(rows).all(axis=1))
    result = [ClassScore(case, name, "absent") for case in cases]
    if not len(there):
        return result
    reference = profile.reference(name)
    held_out = profile.held_out[:, profile.classes.index(name)]
    held_out = np.sort(held_out[np.isfinite(held_out)])
    # The next higher score: with few cases no more of them may be alarms than was asked for.
    threshold = float(np.quantile(held_out, 1.0 - false_alarms, method="higher"))
    scores = anomaly_score(forest, rows[there])
    simple = {key: f(reference, rows[there]) for key, f in baseline_scorers().items()} if with_baselines else {}
    oddest = np.argsort(-scores, kind="stable")[:reasons_for]
    shapley = np.full((len(there), len(profile.rois)), np.nan)
    shapley[oddest] = contributions(forest, rows[there][oddest])
    chosen = set(oddest.tolist())
    usual = _usual(reference)
    for position, row in enumerate(there.tolist()):
        found = {roi: float(values[row]) for roi, values in extra.items() if np.isfinite(values[row])}
        reasons = _reasons(profile.rois, usual, rows[row], shapley[position], found) if position in chosen else ()
        score = float(scores[position])
        result[row] = ClassScore(
            cases[row],
            name,
            "scored",
            score,
            100.0 * float(np.searchsorted(held_out, score, side="right")) / len(held_out),
            threshold,
            "unusual" if score > threshold else "usual",
            reasons,
            {key: float(values[position]) for key, values in simple.items()},
        )
    return result


def _usual(reference: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the reference range of each region, low and high, and where all reference cases are alike."""
    low, high = np.quantile(reference, RANGE, axis=0)
    return low, high, np.ptp(reference, axis=0) == 0


def _reasons(
    rois: Sequence[str],
    usual: tuple[np.ndarray, np.ndarray, np.ndarray],
    row: np.ndarray,
    shapley: np.ndarray,
    extra: Mapping[str, float],
) -> tuple[Reason, ...]:
    """Choose regions outside of their reference range: those that the reference never shows first, then by contribution.

    A forest cannot split where all reference cases are alike, so a region that they all lack is looked at on its own.
    """
    low, high, never = usual
    novel = [Reason(roi, value, 0.0, 0.0, math.nan) for roi, value in extra.items() if value > _LEAST_SHARE]
    known = []
    for j, roi in enumerate(rois):
        one = Reason(roi, float(row[j]), float(low[j]), float(high[j]), float(shapley[j]))
        if never[j]:
            if abs(row[j] - low[j]) > _LEAST_SHARE:
                novel.append(one)
        elif (row[j] < low[j] or row[j] > high[j]) and shapley[j] > 0 and one.shows():
            known.append(one)
    novel.sort(key=lambda one: -abs(one.value - one.high))
    known.sort(key=lambda one: -one.contribution)
    return tuple([*novel, *known][:_MOST_REASONS])


def percent(share: float) -> str:
    """Return a share in percent, as short as it can be said.

    Examples
    --------
    >>> percent(0.142), percent(0.0042), percent(0.00001)
    ('14 %', '0.4 %', '0 %')
    """
    value = 100.0 * share
    return f"{value:.0f} %" if value >= 9.5 or value < 0.05 else f"{value:.1f} %"


def percent_range(low: float, high: float) -> str:
    """Return a range of shares in percent.

    Examples
    --------
    >>> percent_range(0.0, 0.02), percent_range(0.0, 0.0)
    ('0-2.0 %', '0 %')
    """
    first, last = percent(low), percent(high)
    return first if first == last else f"{first.removesuffix(' %')}-{last}"


def describe_scores(profile: Profile, scores: Sequence[ClassScore]) -> str:
    """Return scores as a person reads them: unusual classes first, with reasons."""
    scored = sorted((one for one in scores if one.status == "scored"), key=lambda one: -one.percentile)
    lines = [f"against {len(profile.cases)} reference cases; a score is unusual above its threshold"]
    lines += [f"  note: {note}" for note in profile.warnings()]
    for one in scored:
        lines.append(
            f"  {structure(one.name).name:<26.26} {one.verdict:<8} score {one.score:.3f} (threshold {one.threshold:.3f}), "
            f"higher than {one.percentile:.0f} % of the reference"
        )
        lines += [f"      {reason.sentence(one.name)}" for reason in one.reasons if reason.told(one.verdict)]
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


def write_scores(profile: Profile, scores: Sequence[ClassScore], path: str | Path) -> Path:
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
            "format_version": 1,
            "identity": profile.identity,
            "reference_cases": len(profile.cases),
            "reference_scores": reference,
            "warnings": profile.warnings(),
            "scores": rows,
        }
        write_file(path, (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())
        return path
    stream = io.StringIO()
    names = sorted({key for row in rows for key in row["baselines"]})
    plain = ["case", "class", "status", "score", "percentile", "threshold", "verdict"]
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*plain, *names, "reasons"])
    for row in rows:
        told = "; ".join(reason["sentence"] for reason in row["reasons"])
        cells = [*(row[key] for key in plain), *(row["baselines"].get(key) for key in names), told]
        writer.writerow(["" if cell is None else cell for cell in cells])
    write_file(path, stream.getvalue().encode())
    return path
