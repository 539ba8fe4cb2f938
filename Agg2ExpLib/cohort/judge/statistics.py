"""What a cohort says as a whole: global importance, outliers, and whether odd explanations warn of bad segmentations.

All tests are scipy's; families of tests are corrected after Benjamini and Hochberg (``scipy.stats.false_discovery_control``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from Agg2ExpLib.cohort.judge.intervals import (
    FEWEST_FOR_MEAN,
    area_interval,
    by_patient,
    correlation_interval,
    detectable_area,
    detectable_correlation,
    partial_spearman,
)
from Agg2ExpLib.cohort.run.csv_tables import is_missing
from Agg2ExpLib.cohort.table.tables import PATIENT_COLUMNS, CohortTable


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
        The global matrix; no interval (NaN) with fewer than five cases.
    """
    from scipy import stats

    known = np.isfinite(cube)
    counts = known.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, cube, 0.0).sum(axis=0) / np.where(counts > 0, counts, np.nan)
        squares = np.where(known, (cube - mean) ** 2, 0.0).sum(axis=0)
        error = np.sqrt(squares / (counts - 1) / counts)
        many = counts >= FEWEST_FOR_MEAN
        half = np.where(many, stats.t.ppf(0.5 + confidence / 2, np.maximum(counts - 1, 1)) * error, np.nan)
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
    """Spearman's correlation of anomaly score and Dice, for one class or (empty name) the means over classes.

    Attributes
    ----------
    name : str
        Class.
    cases : int
        Cases; of several scans of a patient the mean is one.
    rho, p, q : float
        Correlation, its p, and p corrected over the classes.
    low, high : float
        95 % interval of rho; NaN with fewer than ten cases.
    given_size : float
        The correlation at equal scores of ``sizes only``: what the explanation adds to the sizes of the structures.
    given_size_p, given_size_low, given_size_high : float
        Its p and its interval.
    """

    name: str
    cases: int
    rho: float
    p: float
    q: float
    low: float = math.nan
    high: float = math.nan
    given_size: float = math.nan
    given_size_p: float = math.nan
    given_size_low: float = math.nan
    given_size_high: float = math.nan


def score_against_dice(
    scores: np.ndarray,
    dice: np.ndarray,
    classes: Sequence[str],
    sizes: np.ndarray | None = None,
    patients: np.ndarray | None = None,
) -> list[Correlation]:
    """Does an odd explanation go with a bad segmentation? The paper's Table 2: per class, and of the means.

    Parameters
    ----------
    scores, dice : ndarray, shape (cases, classes)
        NaN where not known.
    classes : sequence of str
        Names.
    sizes : ndarray, shape (cases, classes), optional
        Scores of ``sizes only``, for the partial correlation.
    patients : ndarray of int, shape (cases,), optional
        Whose scan a case is.

    Returns
    -------
    list of Correlation
        One per class, then the means with an empty name; q is corrected over the classes. Fewer than four cases, or no
        variation, give NaN.
    """
    given = np.full(scores.shape, np.nan) if sizes is None else sizes
    both = np.isfinite(scores) & np.isfinite(dice)
    triples = [(name, scores[:, i], dice[:, i], given[:, i]) for i, name in enumerate(classes)]
    means = [row_means(np.where(both, values, np.nan)) for values in (scores, dice, given)]
    triples.append(("", means[0], means[1], means[2]))
    found = []
    for name, *values in triples:
        first, second, third = (by_patient(one, patients) for one in values)
        count, rho, p = _spearman(first, second)
        part_count, part, part_p = partial_spearman(first, second, third)
        found.append(
            Correlation(
                name, count, rho, p, math.nan, *correlation_interval(rho, count), part, part_p,
                *correlation_interval(part, part_count, 1),
            )
        )  # fmt: skip
    q_values = corrected(np.array([one.p for one in found[:-1]]))
    return [*(replace(one, q=float(q)) for one, q in zip(found[:-1], q_values, strict=True)), found[-1]]


def row_means(values: np.ndarray) -> np.ndarray:
    """Return the mean of each case over its classes, shape (cases,), as if each case had all of them; NaN where nothing is known.

    A class that a case lacks counts as the class's mean moved by what sets the case apart in its other classes. With a plain
    mean a case without a difficult class would be better, and less odd, than others for that alone.

    Examples
    --------
    >>> row_means(np.array([[0.9, 0.5], [0.7, np.nan], [0.8, 0.6]])).round(3).tolist()
    [0.7, 0.575, 0.7]
    """
    known = np.isfinite(values)
    whole = known[:, known.any(axis=0)]
    if whole.all():
        return np.asarray(values[:, known.any(axis=0)].mean(axis=1)) if whole.size else np.full(len(values), np.nan)
    columns = np.where(known, values, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    counts = known.sum(axis=1)
    apart = np.where(known, values - columns, 0.0).sum(axis=1) / np.where(counts > 0, counts, np.nan)
    return apart + (columns[known.any(axis=0)].mean() if whole.size else np.nan)


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
    """Whether a column of metadata goes with oddness.

    Attributes
    ----------
    column, test : str
        What was tested how: Spearman, Mann-Whitney or Kruskal-Wallis on the score; Fisher's exact test on who is an outlier.
    effect : str
        What ``value`` is: ``rho``, or the chance that a case of the first word is odder than one of the second.
    value, low, high : float
        Effect and its 95 % interval; NaN where there is none.
    p, q : float
        q is corrected over all tests of all columns.
    note : str
        What this number of cases can find.
    """

    column: str
    test: str
    effect: str
    value: float
    low: float
    high: float
    p: float
    q: float
    note: str = ""


def metadata_tests(table: CohortTable, score: np.ndarray, outlying: np.ndarray) -> list[MetadataTest]:
    """Ask of every column of metadata whether it goes with the anomaly score, and with who is an outlier.

    Parameters
    ----------
    table : CohortTable
        With metadata.
    score : ndarray, shape (cases,)
        Anomaly score of each case; NaN where there is none.
    outlying : ndarray of bool, shape (cases,)
        Who is an outlier.

    Returns
    -------
    list of MetadataTest
        Two per column that varies (numbers) or has two words or more (words), q corrected over all of them. Of several scans
        of a patient the mean score counts, and the metadata of the first.
    """
    patients = table.patients()
    first = np.unique(patients, return_index=True)[1]
    if len(first) == len(patients):
        first = np.arange(len(patients))  # values of so many patients stay in the order of the cases
    mean = by_patient(score, patients)
    odd = by_patient(outlying.astype(float), patients) > 0.5
    found: list[MetadataTest] = []
    for column in table.metadata:
        if column.strip().lower() in PATIENT_COLUMNS:
            continue  # the number of a patient says nothing, and a test of it would weigh on the others
        numbers = table.numbers(column)
        if numbers is not None:
            found += _of_numbers(column, by_patient(numbers, patients), mean, odd)
        else:
            found += _of_words(column, [table.column(column)[i] for i in first], mean, odd)
    q_values = corrected(np.array([one.p for one in found], dtype=float))
    return [replace(one, q=float(q)) for one, q in zip(found, q_values, strict=True)]


def _of_numbers(column: str, numbers: np.ndarray, score: np.ndarray, odd: np.ndarray) -> list[MetadataTest]:
    from scipy import stats

    known = np.isfinite(numbers) & np.isfinite(score)
    count, rho, p = _spearman(numbers, score)
    if not math.isfinite(rho):
        return []
    note = f"{count} cases: finds |rho| from {detectable_correlation(count):.2f} on (80 % power)"
    found = [
        MetadataTest(
            column, "Spearman with the score", "rho", rho, *correlation_interval(rho, count), p, math.nan, note
        )
    ]
    parts = numbers[known & odd], numbers[known & ~odd]
    if min(map(len, parts)):
        area = float(stats.mannwhitneyu(*parts).statistic) / len(parts[0]) / len(parts[1])
        sizes = len(parts[0]), len(parts[1])
        note = f"{sizes[0]} outliers: finds a chance from {detectable_area(*sizes):.2f} on (80 % power)"
        p = rank_test(parts)[1]
        found.append(
            MetadataTest(column, "Mann-Whitney, outliers against others", "chance of a higher value in an outlier", area,
                         *area_interval(area, *sizes), p, math.nan, note)
        )  # fmt: skip
    return found


def _of_words(column: str, texts: Sequence[str], score: np.ndarray, odd: np.ndarray) -> list[MetadataTest]:
    from scipy import stats

    plain = ["" if is_missing(text) else text.strip() for text in texts]
    words = sorted(set(plain) - {""})
    # A word for each case is a name, not a group.
    if not 2 <= len(words) <= max(2, len(plain) // 2):
        return []
    members = [np.array([text == word for text in plain]) for word in words]
    parts = [score[mine & np.isfinite(score)] for mine in members]
    parts = [part for part in parts if len(part)]
    found: list[MetadataTest] = []
    if len(parts) == 2 and np.ptp(np.concatenate(parts)) > 0:
        sizes = len(parts[0]), len(parts[1])
        area = float(stats.mannwhitneyu(*parts).statistic) / sizes[0] / sizes[1]
        note = f"{sizes[0]} and {sizes[1]} cases: finds a chance from {detectable_area(*sizes):.2f} on (80 % power)"
        effect = f"chance that {words[0]} is odder than {words[1]}"
        found.append(
            MetadataTest(column, "Mann-Whitney on the score", effect, area, *area_interval(area, *sizes),
                         rank_test(parts)[1], math.nan, note)
        )  # fmt: skip
    elif len(parts) > 2 and np.ptp(np.concatenate(parts)) > 0:
        nothing = (math.nan,) * 3
        found.append(
            MetadataTest(column, "Kruskal-Wallis on the score", "", *nothing, rank_test(parts)[1], math.nan, "")
        )
    counts = np.array([[int((mine & (odd == side)).sum()) for mine in members] for side in (True, False)])
    if (counts.sum(axis=1) > 0).all() and (counts.sum(axis=0) > 0).all():
        note = ", ".join(f"{word} {a} of {a + b}" for word, a, b in zip(words[:4], counts[0], counts[1], strict=False))
        # Of more than two words scipy draws tables at random: the same ones each time.
        drawn = stats.MonteCarloMethod(rng=np.random.default_rng(0)) if counts.shape[1] > 2 else None
        p = float(stats.fisher_exact(counts, method=drawn).pvalue)
        found.append(MetadataTest(column, "Fisher, outliers", "", math.nan, math.nan, math.nan, p, math.nan, note))
    return found
