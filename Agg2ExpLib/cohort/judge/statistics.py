"""What a cohort says as a whole: global importance, outliers, and whether odd explanations warn of bad segmentations.

All tests are scipy's; families of tests are corrected after Benjamini and Hochberg (``scipy.stats.false_discovery_control``).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from Agg2ExpLib.cohort.table.tables import CohortTable


@dataclass(frozen=True, eq=False)
class MeanMatrix:
    """Mean of a measure over cases, with the confidence interval of the mean (Student's t).

    Attributes
    ----------
    mean, low, high : ndarray, shape (classes, rois)
        NaN where no case has the class (or, for the interval, only one has).
    counts : ndarray of int, shape (classes, rois)
        Cases that went in.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    counts: np.ndarray


def mean_matrix(cube: np.ndarray, confidence: float = 0.95) -> MeanMatrix:
    """Average local matrices over cases; NaN rows of absent classes are left out, per class, and counted.

    Parameters
    ----------
    cube : ndarray, shape (cases, classes, rois)
        ``mass`` or ``enrichment`` of a :class:`~Agg2ExpLib.cohort.table.tables.CohortTable`.
    confidence : float
        Of the interval.

    Returns
    -------
    MeanMatrix
        The global matrix.
    """
    from scipy import stats

    known = np.isfinite(cube)
    counts = known.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, cube, 0.0).sum(axis=0) / np.where(counts > 0, counts, np.nan)
        squares = np.where(known, (cube - mean) ** 2, 0.0).sum(axis=0)
        error = np.sqrt(squares / (counts - 1) / counts)
        half = np.where(counts > 1, stats.t.ppf(0.5 + confidence / 2, np.maximum(counts - 1, 1)) * error, np.nan)
    return MeanMatrix(mean, mean - half, mean + half, counts)


def outliers(values: np.ndarray, cases: Sequence[str]) -> list[tuple[str, float]]:
    """Name the cases beyond Tukey's fences (1.5 box lengths), the farthest first.

    Parameters
    ----------
    values : ndarray, shape (cases,)
        NaN is left out.
    cases : sequence of str
        Names.
    """
    known = np.isfinite(values)
    if known.sum() < 4:
        return []
    first, middle, third = np.percentile(values[known], (25, 50, 75))
    reach = 1.5 * (third - first)
    out = np.flatnonzero(known & ((values < first - reach) | (values > third + reach)))
    return sorted(((cases[i], float(values[i])) for i in out.tolist()), key=lambda pair: -abs(pair[1] - middle))


def corrected(p_values: np.ndarray) -> np.ndarray:
    """Return q-values of a family of tests (Benjamini-Hochberg); NaN stays NaN and is not counted."""
    from scipy import stats

    result = np.full(np.shape(p_values), np.nan)
    known = np.isfinite(p_values)
    if known.any():
        result[known] = stats.false_discovery_control(np.asarray(p_values)[known])
    return result


def rank_test(parts: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return statistic and p of Mann-Whitney's test of two samples, or of Kruskal and Wallis's of more."""
    from scipy import stats

    result = stats.mannwhitneyu(*parts) if len(parts) == 2 else stats.kruskal(*parts)
    return float(result.statistic), float(result.pvalue)


@dataclass(frozen=True)
class Correlation:
    """Spearman's correlation of anomaly score and Dice, for one class or (empty name) the means over classes."""

    name: str
    cases: int
    rho: float
    p: float
    q: float


def score_against_dice(scores: np.ndarray, dice: np.ndarray, classes: Sequence[str]) -> list[Correlation]:
    """Does an odd explanation go with a bad segmentation? The paper's Table 2: per class, and of the means.

    Parameters
    ----------
    scores, dice : ndarray, shape (cases, classes)
        NaN where not known.
    classes : sequence of str
        Names.

    Returns
    -------
    list of Correlation
        One per class, then the means with an empty name; q is corrected over the classes. Fewer than four cases, or no
        variation, give NaN.
    """
    pairs = [(name, scores[:, i], dice[:, i]) for i, name in enumerate(classes)]
    rows = [(name, *_spearman(first, second)) for name, first, second in pairs]
    q_values = corrected(np.array([row[3] for row in rows], dtype=float))
    both = np.isfinite(scores) & np.isfinite(dice)
    overall = _spearman(*(row_means(np.where(both, values, np.nan)) for values in (scores, dice)))
    return [
        *(Correlation(*row, float(q)) for row, q in zip(rows, q_values, strict=True)),
        Correlation("", *overall, float("nan")),
    ]


def row_means(values: np.ndarray) -> np.ndarray:
    """Return the mean of each case over its classes, shape (cases,); NaN is left out, and stays where nothing is known."""
    known = np.isfinite(values)
    counts = known.sum(axis=1)
    return np.where(known, values, 0.0).sum(axis=1) / np.where(counts > 0, counts, np.nan)


def class_ranks(values: np.ndarray) -> np.ndarray:
    """Return each value's rank among the cases of its class, 0 to 1: some detectors' scores have no common scale."""
    from scipy import stats

    counts = np.isfinite(values).sum(axis=0)
    return np.asarray(stats.rankdata(values, axis=0, nan_policy="omit")) / np.maximum(counts, 1)


def _spearman(first: np.ndarray, second: np.ndarray) -> tuple[int, float, float]:
    from scipy import stats

    known = np.isfinite(first) & np.isfinite(second)
    count = int(known.sum())
    if count < 4 or np.ptp(first[known]) == 0 or np.ptp(second[known]) == 0:
        return count, float("nan"), float("nan")
    result = stats.spearmanr(first[known], second[known])
    return count, float(result.statistic), float(result.pvalue)


def auroc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve of scores for a yes or no; NaN scores are left out, NaN when one side is empty."""
    from sklearn.metrics import roc_auc_score

    known = np.isfinite(scores)
    truth = np.asarray(positive, dtype=bool)[known]
    if not truth.any() or truth.all():
        return float("nan")
    return float(roc_auc_score(truth, scores[known]))


@dataclass(frozen=True)
class MetadataTest:
    """Whether a column of metadata differs between inliers and outliers: Mann-Whitney for numbers, chi-square for words."""

    column: str
    test: str
    statistic: float
    p: float
    q: float
    note: str = ""


def metadata_tests(table: CohortTable, outlying: np.ndarray) -> list[MetadataTest]:
    """Compare the metadata of outliers with that of inliers, as the paper does for age and sex.

    Parameters
    ----------
    table : CohortTable
        With metadata.
    outlying : ndarray of bool, shape (cases,)
        Who is an outlier.

    Returns
    -------
    list of MetadataTest
        One per column that varies, q corrected over the columns.
    """
    found: list[tuple[str, str, float, float, str]] = []
    for column in table.metadata:
        numbers = table.numbers(column)
        one = (
            _compare_numbers(numbers, outlying)
            if numbers is not None
            else _compare_words(table.column(column), outlying)
        )
        if one is not None:
            found.append((column, *one))
    q_values = corrected(np.array([one[3] for one in found], dtype=float))
    return [MetadataTest(*one[:4], float(q), one[4]) for one, q in zip(found, q_values, strict=True)]


def _compare_numbers(numbers: np.ndarray, outlying: np.ndarray) -> tuple[str, float, float, str] | None:
    known = np.isfinite(numbers)
    parts = [numbers[known & outlying], numbers[known & ~outlying]]
    if min(map(len, parts)) < 1 or np.ptp(numbers[known]) == 0:
        return None
    return ("Mann-Whitney", *rank_test(parts), "")


def _compare_words(texts: Sequence[str], outlying: np.ndarray) -> tuple[str, float, float, str] | None:
    from scipy import stats

    words = sorted({text.strip() for text in texts} - {""})
    counts = np.array(
        [[sum(t.strip() == word and bool(o) == side for t, o in zip(texts, outlying, strict=True)) for word in words]
         for side in (True, False)]
    )  # fmt: skip
    # A word for each case is a name, not a group.
    if not 2 <= len(words) <= max(2, len(texts) // 2) or (counts.sum(axis=1) == 0).any():
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result: Any = stats.chi2_contingency(counts)
    few = "expected counts under 5: take it with care" if (result.expected_freq < 5).any() else ""
    return "chi-square", float(result.statistic), float(result.pvalue), few
