"""How unusual a case is against a reference profile, and why."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from Agg2ExpLib.cohort.judge.baselines import FOREST, SIZES, baseline_scorers, held_out_baselines, sizes_only
from Agg2ExpLib.cohort.judge.conformal import PatientScore, p_values, patient_p, rate_of, threshold
from Agg2ExpLib.cohort.judge.forest import contributions, fit_forest, score_with_error
from Agg2ExpLib.cohort.judge.profile import Profile
from Agg2ExpLib.cohort.judge.reasons import Reason, find_reasons, usual_range
from Agg2ExpLib.cohort.table.tables import CohortTable
from Agg2ExpLib.progress import Progress

#: Share of usual structures, and of usual patients, that may be called unusual.
FALSE_ALARMS = 0.05
# Two standard errors: scores nearer to the threshold might be called otherwise with another seed.
_ERRORS = 2.0
_LARGE = 512
# Two scans of the same masses to so many digits are one scan.
_DIGITS = 10


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
        Score above which p is at most the chosen rate of false alarms; NaN with too few reference cases.
    verdict : str
        ``unusual``, ``usual``, ``undecided`` (too few reference cases for the rate that was asked for) or empty.
    reasons : tuple of Reason
        The regions that make it unusual, the strongest first.
    baselines : mapping of str to float
        Scores of simpler detectors.
    p : float
        Conformal p-value: how often a usual case has a score as high.
    rate : float
        How often a usual case is called unusual: the rate that was asked for, or the next lower one that there can be.
    error : float
        Standard error of the score from the random choices of the trees.
    settled : bool
        Whether the verdict would hardly be another with another seed.
    own : str
        The profile's reference case that this one is; it is scored by what has not seen it. Empty for a new case.
    """

    case: str
    name: str
    status: str
    score: float = math.nan
    percentile: float = math.nan
    threshold: float = math.nan
    verdict: str = ""
    reasons: tuple[Reason, ...] = ()
    baselines: Mapping[str, float] = field(default_factory=dict)
    p: float = math.nan
    rate: float = math.nan
    error: float = math.nan
    settled: bool = True
    own: str = ""

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
            "p": plain(self.p),
            "verdict": self.verdict,
            "error": plain(self.error),
            "settled": self.settled,
            "reference_case": self.own,
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
            "baselines": {name: plain(value) for name, value in self.baselines.items()},
        }


def score_table(
    profile: Profile,
    table: CohortTable,
    *,
    false_alarms: float = FALSE_ALARMS,
    reasons_for: int | Container[tuple[str, str]] = 100,
    with_baselines: bool = True,
    progress: Progress | None = None,
) -> list[ClassScore]:
    """Score every class of every case.

    A case that the profile was fitted with is found by its masses, whatever it is called now: its scores are those of
    forests that have not seen it, and its reference is all the others.

    Parameters
    ----------
    profile : Profile
        The reference.
    table : CohortTable
        New cases, made with the same model and settings.
    false_alarms : float
        Share of usual cases that may be called unusual, per class.
    reasons_for : int, or (case, class) pairs
        Where reasons are looked for: per class in this many of the oddest cases, or in these.
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
    cube = np.stack(
        [_aligned(table.values["mass"][:, i], table.rois, profile.rois) for i in range(len(table.classes))], axis=1
    )
    volumes = _volumes(table, profile)
    own = own_cases(profile, table.classes, cube)
    scores: list[ClassScore] = []
    for index, name in enumerate(table.classes):
        extra = {roi: table.values["mass"][:, index, j] for j, roi in enumerate(table.rois) if roi not in profile.rois}
        one = _ClassScoring(profile, name, table.cases, cube[:, index], volumes, extra, own)
        scores += one.scores(false_alarms, reasons_for, with_baselines)
        progress.advance(detail=name)
    return scores


def score_patients(
    profile: Profile, scores: Sequence[ClassScore], false_alarms: float = FALSE_ALARMS
) -> list[PatientScore]:
    """Judge each patient as a whole, at a rate of false alarms of its own.

    Parameters
    ----------
    profile : Profile
        The reference.
    scores : sequence of ClassScore
        From :func:`score_table`.
    false_alarms : float
        Share of usual patients that may be called unusual.

    Returns
    -------
    list of PatientScore
        In the order in which cases come in the scores.
    """
    by_case: dict[str, list[ClassScore]] = {}
    for one in scores:
        by_case.setdefault(one.case, []).append(one)
    weights, found = profile.weights(), []
    columns = {name: i for i, name in enumerate(profile.classes)}
    for case, some in by_case.items():
        scored = [one for one in some if one.status == "scored"]
        row = np.full(len(profile.classes), np.nan)
        others = np.ones(len(profile.cases), dtype=bool)
        there = {one.name for one in some if one.status in ("scored", "absent")}
        explained = np.array([name in there for name in profile.classes])
        for one in scored:
            row[columns[one.name]] = one.score
            if one.own:
                others = profile.patients != profile.patients[profile.cases.index(one.own)]
        p, count, oddest = patient_p(profile.held_out[others], row, profile.classes, weights[others], explained)
        rate = rate_of(count, false_alarms)
        verdict = _verdict(p, rate, false_alarms) if scored else ""
        unusual = sum(one.verdict == "unusual" for one in scored)
        by_chance = sum(one.rate for one in scored)
        found.append(PatientScore(case, p, verdict, len(scored), unusual, by_chance, oddest, rate))
    return found


def own_cases(profile: Profile, classes: Sequence[str], cube: np.ndarray) -> list[int]:
    """Return, per case, which reference case it is, by its masses; -1 for a new one.

    Parameters
    ----------
    profile : Profile
        The reference.
    classes : sequence of str
        Of the cases.
    cube : ndarray, shape (cases, classes, regions of the profile)
        Masses.
    """
    common = [name for name in classes if name in profile.classes]
    theirs = profile.features[:, [profile.classes.index(name) for name in common]]
    mine = cube[:, [classes.index(name) for name in common]]
    known = {_print_of(rows): index for index, rows in enumerate(theirs)}
    return [known.get(_print_of(rows), -1) if np.isfinite(rows).any() else -1 for rows in mine]


def _print_of(rows: np.ndarray) -> bytes:
    # Adding 0 makes one zero of the two that there are.
    return (np.round(np.nan_to_num(rows, nan=-1.0), _DIGITS) + 0.0).tobytes()


def _volumes(table: CohortTable, profile: Profile) -> np.ndarray:
    found = np.full((len(table.cases), len(profile.rois)), np.nan)
    for column, roi in enumerate(profile.rois):
        found[:, column] = table.volumes[:, table.rois.index(roi)] if roi in table.rois else 0.0
    return found


def _verdict(p: float, rate: float, alarms: float) -> str:
    if not math.isfinite(p) or rate <= 0:
        return "undecided"
    return "unusual" if p <= alarms + 1e-9 else "usual"


def score_matrices(scores: Sequence[ClassScore], cases: Sequence[str], classes: Sequence[str]) -> dict[str, np.ndarray]:
    """Return detector -> scores, shape (cases, classes); NaN where a class is absent."""
    rows, columns = ({name: i for i, name in enumerate(names)} for names in (cases, classes))
    found: dict[str, np.ndarray] = {}
    for one in scores:
        if one.status == "scored":
            for detector, value in {FOREST: one.score, **one.baselines}.items():
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


@dataclass(frozen=True, eq=False)
class _ClassScoring:
    """One class of all cases against the reference."""

    profile: Profile
    name: str
    cases: Sequence[str]
    rows: np.ndarray
    volumes: np.ndarray
    extra: Mapping[str, np.ndarray]
    own: Sequence[int]

    def scores(
        self, false_alarms: float, reasons_for: int | Container[tuple[str, str]], with_baselines: bool
    ) -> list[ClassScore]:
        profile, name = self.profile, self.name
        if name not in profile.classes:
            return [ClassScore(case, name, "unknown") for case in self.cases]
        forest = profile.forest(name)
        if forest is None:
            return [ClassScore(case, name, "few") for case in self.cases]
        there = np.flatnonzero(np.isfinite(self.rows).all(axis=1))
        result = [ClassScore(case, name, "absent") for case in self.cases]
        if not len(there):
            return result
        index = profile.classes.index(name)
        held_out, errors = profile.held_out[:, index], profile.errors[:, index]
        scores, own_errors = score_with_error(forest, self.rows[there])
        known = [self.own[row] for row in there.tolist()]
        for position, mine in enumerate(known):
            if mine >= 0:
                scores[position], own_errors[position] = held_out[mine], errors[mine]
        simple = self._baselines(there, known) if with_baselines else {}
        if isinstance(reasons_for, int):
            chosen = set(np.argsort(-scores, kind="stable")[:reasons_for].tolist())
        else:
            chosen = {k for k, row in enumerate(there.tolist()) if (self.cases[row], name) in reasons_for}
        judged = self._judge(scores, own_errors, known, false_alarms)
        for position, row in enumerate(there.tolist()):
            result[row] = replace(
                judged[position],
                case=self.cases[row],
                reasons=self._reasons(row, known[position], forest) if position in chosen else (),
                baselines={key: float(values[position]) for key, values in simple.items()},
            )
        return result

    def _judge(
        self, scores: np.ndarray, errors: np.ndarray, known: Sequence[int], false_alarms: float
    ) -> list[ClassScore]:
        """Return p, threshold and verdict of each score: new cases against all, a reference case against the others."""
        profile, weights = self.profile, self.profile.weights()
        index = profile.classes.index(self.name)
        there = np.isfinite(profile.held_out[:, index])
        found = []
        cache: dict[int, tuple[Any, ...]] = {}
        for score, error, case in zip(scores.tolist(), errors.tolist(), known, strict=True):
            # In a large reference one patient moves no threshold, and each of them would cost a sorting.
            large = case >= 0 and there.sum() > _LARGE
            mine = -1 if large else case
            if mine not in cache:
                others = there & (profile.patients != profile.patients[mine]) if mine >= 0 else there
                held_out, weight = profile.held_out[others, index], weights[others]
                limit = threshold(held_out, false_alarms, weight)
                near = profile.errors[others, index][np.abs(held_out - limit).argmin()] if math.isfinite(limit) else 0.0
                cache[mine] = held_out, weight, limit, float(near), rate_of(float(weight.sum()), false_alarms)
            held_out, weight, limit, near, rate = cache[mine]
            p = float(p_values(held_out, np.array([score]), weight)[0])
            if large:
                same = there & (profile.patients == profile.patients[case])
                odder, all_of_it = weights[same & (profile.held_out[:, index] >= score)].sum(), 1.0 + weight.sum()
                p = float((p * all_of_it - odder) / (all_of_it - weights[same].sum()))
            found.append(
                ClassScore(
                    "",
                    self.name,
                    "scored",
                    score,
                    100.0 * float(weight[held_out <= score].sum() / weight.sum()),
                    limit,
                    _verdict(p, rate, false_alarms),
                    p=p,
                    rate=rate,
                    error=error,
                    settled=not abs(score - limit) < _ERRORS * math.hypot(error, near),
                    own=profile.cases[case] if case >= 0 else "",
                )
            )
        return found

    def _baselines(self, there: np.ndarray, known: Sequence[int]) -> dict[str, np.ndarray]:
        """Score with the simpler detectors; reference cases by what has not seen them."""
        profile, index = self.profile, self.profile.classes.index(self.name)
        reference = profile.reference(self.name)
        present = np.isfinite(profile.features[:, index]).all(axis=1)
        found = {key: score(reference, self.rows[there]) for key, score in baseline_scorers().items()}
        found[SIZES] = sizes_only(profile.volumes[present], self.volumes[there], profile.seed)
        mine = {position: int(np.count_nonzero(present[:case])) for position, case in enumerate(known) if case >= 0}
        if mine:
            whose = profile.patients[present]
            held_out = held_out_baselines(reference, profile.seed, whose)
            for position, row in mine.items():
                for key, values in held_out.items():
                    found[key][position] = values[row]
                rest = profile.volumes[present][whose != whose[row]]
                found[SIZES][position] = sizes_only(rest, self.volumes[there[[position]]], profile.seed)[0]
        return found

    def _reasons(self, row: int, mine: int, forest: Any) -> tuple[Reason, ...]:
        profile, index = self.profile, self.profile.classes.index(self.name)
        extra = {roi: float(values[row]) for roi, values in self.extra.items() if np.isfinite(values[row])}
        reference = profile.reference(self.name)
        if mine >= 0:
            # The range and the forest leave the case itself out.
            present = np.isfinite(profile.features[:, index]).all(axis=1)
            reference = profile.features[present & (profile.patients != profile.patients[mine]), index]
            forest = fit_forest(reference, profile.seed, profile.trees)
        shapley = contributions(forest, self.rows[[row]])[0]
        return find_reasons(profile.rois, usual_range(reference), self.rows[row], shapley, extra)
