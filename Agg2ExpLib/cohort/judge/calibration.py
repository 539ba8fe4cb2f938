"""Dice predicted from the anomaly score, and how far such predictions can be trusted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

#: Of so many cases each a group of a calibration curve is made, where there are enough.
FEWEST_IN_BIN = 5


@dataclass(frozen=True)
class Bin:
    """One group of cases of a calibration curve.

    Attributes
    ----------
    predicted, observed : float
        Mean predicted and mean true Dice.
    low, high : float
        Confidence interval of the observed mean (Student's t, kept within 0 and 1); NaN for a single case.
    count : int
        Cases.
    """

    predicted: float
    observed: float
    low: float
    high: float
    count: int


def predicted_dice(scores: np.ndarray, dice: np.ndarray, folds: int = 5) -> np.ndarray:
    """Predict each case's Dice from its score by a falling (isotonic) curve fitted to the other folds.

    Parameters
    ----------
    scores, dice : ndarray, shape (cases,)
        NaN is left out.
    folds : int
        Cases are dealt to folds in turn.

    Returns
    -------
    ndarray, shape (cases,)
        NaN where it cannot be predicted, and everywhere with fewer than two cases a fold.
    """
    from sklearn.isotonic import IsotonicRegression

    known = np.flatnonzero(np.isfinite(scores) & np.isfinite(dice))
    result = np.full(len(scores), np.nan)
    if len(known) < 2 * folds:
        return result
    fold = np.arange(len(known)) % folds
    for index in range(folds):
        held, rest = known[fold == index], known[fold != index]
        curve = IsotonicRegression(increasing=False, out_of_bounds="clip").fit(scores[rest], dice[rest])
        result[held] = curve.predict(scores[held])
    return result


def calibration_curve(
    predicted: np.ndarray, observed: np.ndarray, bins: int = 5, confidence: float = 0.95
) -> list[Bin]:
    """Compare predicted with observed Dice in groups of cases, lowest prediction first.

    Parameters
    ----------
    predicted, observed : ndarray, shape (cases,)
        NaN is left out.
    bins : int
        Groups of equal count, at most; fewer where a group would have under :data:`FEWEST_IN_BIN` cases. Cases of one
        prediction are never parted, so that counts may differ.
    confidence : float
        Of the intervals.

    Returns
    -------
    list of Bin
        Empty without cases.
    """
    known = np.flatnonzero(np.isfinite(predicted) & np.isfinite(observed))
    order = known[np.argsort(predicted[known], kind="stable")]
    if not len(order):
        return []
    count = min(bins, max(len(order) // FEWEST_IN_BIN, 1))
    values = predicted[order]
    # Each border moves up to where the prediction changes.
    borders = {int(np.searchsorted(values, values[len(order) * k // count], side="left")) for k in range(1, count)}
    return [_bin(predicted[part], observed[part], confidence) for part in np.split(order, sorted(borders - {0}))]


def _bin(predicted: np.ndarray, observed: np.ndarray, confidence: float) -> Bin:
    from scipy import stats

    count, mean = len(observed), float(observed.mean())
    half = math.nan
    if count > 1:
        half = float(stats.t.ppf(0.5 + confidence / 2, count - 1) * observed.std(ddof=1) / math.sqrt(count))
    low, high = (max(mean - half, 0.0), min(mean + half, 1.0)) if math.isfinite(half) else (math.nan, math.nan)
    return Bin(float(predicted.mean()), mean, low, high, count)


def mean_error(predicted: np.ndarray, observed: np.ndarray) -> float:
    """Mean absolute error of the predictions; NaN without any."""
    known = np.isfinite(predicted) & np.isfinite(observed)
    return float(np.abs(predicted[known] - observed[known]).mean()) if known.any() else math.nan


def error_of_the_mean(predicted: np.ndarray, observed: np.ndarray) -> float:
    """Mean absolute error of who predicts the cases' mean Dice for all: what a prediction has to be better than."""
    known = np.isfinite(predicted) & np.isfinite(observed)
    return float(np.abs(observed[known] - observed[known].mean()).mean()) if known.any() else math.nan
