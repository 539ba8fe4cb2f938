"""What the phantom study measures: does a score tell where a finding is near, does it follow Dice, do reasons name it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from Agg2ExpLib.cohort.judge.baselines import SIZES
from Agg2ExpLib.cohort.judge.intervals import Difference, area_for, area_interval, paired_differences, spearman_with
from Agg2ExpLib.cohort.judge.scoring import ClassScore
from Agg2ExpLib.cohort.judge.statistics import auroc, class_ranks, row_means, score_against_dice

#: Rows over all classes: the mean of the scores as they are, and of their ranks among the new cases, since some detectors'
#: scores have no common scale.
MEAN, MEAN_OF_RANKS = "mean of scores", "mean of ranks"


@dataclass(frozen=True)
class Line:
    """One detector on one structure, or on all.

    Attributes
    ----------
    structure, detector : str
        What was scored, and by what.
    cases, near : int
        New cases with the structure, and those of them with a finding near it (of a mean: with any finding).
    auroc, low, high : float
        Area under the ROC curve of the score for "near"; NaN when all or none are. Its 95 % interval (Newcombe's method 5); NaN
        with fewer than five cases on either side.
    rho, rho_low, rho_high, p, q : float
        Spearman's correlation of score and Dice, its 95 % interval (NaN with fewer than ten cases) and p; q corrected over the
        structures of a detector.
    given_size, given_size_p : float
        The same at equal scores of the detector that sees sizes only, and its p; NaN for that detector itself.
    """

    structure: str
    detector: str
    cases: int
    near: int
    auroc: float
    low: float
    high: float
    rho: float
    rho_low: float
    rho_high: float
    p: float
    q: float
    given_size: float
    given_size_p: float


@dataclass(frozen=True)
class Naming:
    """How often reasons name the finding, when it is given as a region, and how often a verdict is unusual.

    Attributes
    ----------
    structure : str
        Structure; empty for all together.
    near, named, first : int
        Explanations with a finding near; those whose reasons name it; those whose first reason does.
    far, far_named : int
        Explanations of ill patients with no finding near, and those whose reasons name the finding all the same.
    near_unusual, far_unusual, healthy, healthy_unusual : int
        Verdicts of the forest; of healthy patients all explanations are counted.
    median_share : float
        Median share of the attribution that lies in the finding, of those near.
    """

    structure: str
    near: int
    named: int
    first: int
    far: int
    far_named: int
    near_unusual: int
    far_unusual: int
    healthy: int
    healthy_unusual: int
    median_share: float


def lines(
    matrices: Mapping[str, np.ndarray], dice: np.ndarray, near: np.ndarray, ill: np.ndarray, classes: Sequence[str]
) -> list[Line]:
    """Measure every detector on every structure and over all.

    Parameters
    ----------
    matrices : mapping of str to ndarray, shape (cases, classes)
        Scores by detector.
    dice : ndarray, shape (cases, classes)
        NaN where not known.
    near : ndarray of bool, shape (cases, classes)
        Whether a finding is near the structure.
    ill : ndarray of bool, shape (cases,)
        Whether the patient has a finding at all.
    classes : sequence of str
        Structures.
    """
    found = []
    sizes = matrices.get(SIZES)
    for detector, scores in matrices.items():
        given = None if detector == SIZES else sizes
        by_class = score_against_dice(scores, dice, classes, given)
        for i, name in enumerate(classes):
            found.append(_line(name, detector, scores[:, i], near[:, i], by_class[i]))
        for name, values in ((MEAN, scores), (MEAN_OF_RANKS, class_ranks(scores))):
            ranked = class_ranks(given) if given is not None and name == MEAN_OF_RANKS else given
            overall = score_against_dice(values, dice, classes, ranked)[-1]
            found.append(_line(name, detector, row_means(values), ill, overall))
    return found


def beyond_size(
    matrices: Mapping[str, np.ndarray], dice: np.ndarray, ill: np.ndarray
) -> dict[str, tuple[Difference, ...]]:
    """Compare every detector with the one that sees sizes only: the mean of ranks over all structures, by patient.

    Parameters
    ----------
    matrices : mapping of str to ndarray, shape (cases, classes)
        Scores by detector.
    dice : ndarray, shape (cases, classes)
        NaN where not known.
    ill : ndarray of bool, shape (cases,)
        Whether the patient has a finding.

    Returns
    -------
    dict of str to tuple of Difference
        Detector minus sizes only, of "auroc" (has a finding) and "rho" (Spearman with the mean Dice; below 0: follows Dice more
        closely). The intervals hold at 95 % for all pairs of detectors of a measure together.
    """
    # Sizes only last: a pair is the former minus the latter.
    ordered = sorted(matrices.items(), key=lambda one: one[0] == SIZES)
    scores = {detector: row_means(class_ranks(matrix)) for detector, matrix in ordered}
    means = row_means(dice)
    known = np.flatnonzero(np.isfinite([*scores.values(), means]).all(axis=0))
    found = {}
    for name, measure in (("auroc", area_for(ill)), ("rho", spearman_with(means))):
        found[name] = tuple(one for one in paired_differences(scores, measure, known) if one.second == SIZES)
    return found


def _line(name: str, detector: str, scores: np.ndarray, positive: np.ndarray, correlation: Any) -> Line:
    known = np.isfinite(scores)
    cases, near = int(known.sum()), int(positive[known].sum())
    area = auroc(scores, positive)
    low, high = area_interval(area, near, cases - near)
    one = correlation
    followed = (one.rho, one.low, one.high, one.p, one.q, one.given_size, one.given_size_p)
    return Line(name, detector, cases, near, area, low, high, *followed)


def namings(
    scores: Sequence[ClassScore],
    near: Mapping[tuple[str, str], bool],
    regions: Mapping[str, Sequence[str]],
    shares: Mapping[tuple[str, str], float],
    classes: Sequence[str],
) -> list[Naming]:
    """Count reasons and verdicts per structure, and over all.

    Parameters
    ----------
    scores : sequence of ClassScore
        Of the new cases.
    near : mapping of (case, class) to bool
        Whether a finding is near.
    regions : mapping of case to region names
        Findings of each case; empty for a healthy patient.
    shares : mapping of (case, class) to float
        Share of the attribution that lies in the case's findings.
    classes : sequence of str
        Structures.
    """
    return [_naming(name, [one for one in scores if one.status == "scored" and name in ("", one.name)], near, regions, shares)
            for name in (*classes, "")]  # fmt: skip


def _naming(
    name: str,
    scored: Sequence[ClassScore],
    near: Mapping[tuple[str, str], bool],
    regions: Mapping[str, Sequence[str]],
    shares: Mapping[tuple[str, str], float],
) -> Naming:
    close = [one for one in scored if near[one.case, one.name]]
    healthy = [one for one in scored if not regions[one.case]]
    far = [one for one in scored if regions[one.case] and not near[one.case, one.name]]

    def named(one: ClassScore, most: int | None = None) -> bool:
        return any(reason.roi in regions[one.case] for reason in one.reasons[:most])

    def unusual(some: Sequence[ClassScore]) -> int:
        return sum(one.verdict == "unusual" for one in some)

    share = float(np.median([shares[one.case, one.name] for one in close])) if close else float("nan")
    return Naming(
        name,
        len(close),
        sum(map(named, close)),
        sum(named(one, 1) for one in close),
        len(far),
        sum(map(named, far)),
        unusual(close),
        unusual(far),
        len(healthy),
        unusual(healthy),
        share,
    )


def plain(one: Line | Naming | Difference) -> dict[str, Any]:
    """Return plain values for JSON; a number that is not known is ``None``."""
    return {
        key: None if isinstance(value, float) and not np.isfinite(value) else value
        for key, value in asdict(one).items()
    }
