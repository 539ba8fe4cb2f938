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
        Confidence interval of the observed mean (Student's t, kept within 0 and 1); NaN for fewer than
        :data:`FEWEST_IN_BIN` cases.
    count : int
        Cases.
    """

    predicted: float
    observed: float
    low: float
    high: float
    count: int


def predicted_dice(
    scores: np.ndarray, dice: np.ndarray, folds: int = 5, patients: np.ndarray | None = None
) -> np.ndarray:
    """Predict each case's Dice from its score by a falling (isotonic) curve fitted to the other folds.

    Parameters
    ----------
    scores, dice : ndarray, shape (cases,)
        NaN is left out.
    folds : int
        Cases are dealt to folds in turn.
    patients : ndarray of int, shape (cases,), optional
        Whose scan a case is: all scans of a patient are in one fold.

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
    fold = _dealt(known, folds, patients)
    for index in range(folds):
        held, rest = known[fold == index], known[fold != index]
        curve = IsotonicRegression(increasing=False, out_of_bounds="clip").fit(scores[rest], dice[rest])
        result[held] = curve.predict(scores[held])
    return result


def _dealt(known: np.ndarray, folds: int, patients: np.ndarray | None) -> np.ndarray:
    if patients is None:
        return np.arange(len(known)) % folds
    _, first, index = np.unique(patients[known], return_index=True, return_inverse=True)
    # Patients in the order in which they come.
    return np.asarray(np.argsort(np.argsort(first))[index] % folds)


@dataclass(frozen=True)
class Gain:
    """By how much predictions err less than the mean of the other folds does, with a 95 % interval over patients."""

    cases: int
    error: float
    plain: float
    low: float
    high: float

    def sentence(self) -> str:
        """Return the conclusion.

        Examples
        --------
        >>> Gain(30, 0.02, 0.05, 0.01, 0.05).sentence()
        'The score predicts Dice better than the mean does: its error is smaller by 0.030 (95 % interval 0.010 to 0.050).'
        """
        if not math.isfinite(self.low):
            return "There are too few cases to say whether the score predicts Dice better than the mean does."
        told = f"by {abs(self.plain - self.error):.3f} (95 % interval {self.low:.3f} to {self.high:.3f})"
        if self.low > 0:
            return f"The score predicts Dice better than the mean does: its error is smaller {told}."
        if self.high < 0:
            return f"The score predicts Dice worse than the mean does: its error is larger {told}."
        return f"The score does not predict Dice better than the mean does: the errors differ {told}."


def gain_over_the_mean(
    predicted: np.ndarray, observed: np.ndarray, folds: int = 5, patients: np.ndarray | None = None, seed: int = 0
) -> Gain:
    """Compare held-out predictions with the held-out mean, case by case.

    Parameters
    ----------
    predicted, observed : ndarray, shape (cases,)
        From :func:`predicted_dice`, and the truth.
    folds, patients
        As there.
    seed : int
        Of the bootstrap over patients.
    """
    known = np.flatnonzero(np.isfinite(predicted) & np.isfinite(observed))
    if len(known) < 2 * folds:
        return Gain(len(known), math.nan, math.nan, math.nan, math.nan)
    fold = _dealt(known, folds, patients)
    truth = observed[known]
    means = np.array([truth[fold != one].mean() for one in range(folds)])
    errors, plain = np.abs(predicted[known] - truth), np.abs(means[fold] - truth)
    gains = plain - errors
    whose = np.arange(len(known)) if patients is None else np.unique(patients[known], return_inverse=True)[1]
    sums, counts = np.bincount(whose, gains), np.bincount(whose)
    drawn = np.random.default_rng(seed).integers(len(sums), size=(2000, len(sums)))
    low, high = np.quantile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), (0.025, 0.975))
    return Gain(len(known), float(errors.mean()), float(plain.mean()), float(low), float(high))


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
    if count >= FEWEST_IN_BIN:
        half = float(stats.t.ppf(0.5 + confidence / 2, count - 1) * observed.std(ddof=1) / math.sqrt(count))
    low, high = (max(mean - half, 0.0), min(mean + half, 1.0)) if math.isfinite(half) else (math.nan, math.nan)
    return Bin(float(predicted.mean()), mean, low, high, count)


def mean_error(predicted: np.ndarray, observed: np.ndarray) -> float:
    """Mean absolute error of the predictions; NaN without any."""
    known = np.isfinite(predicted) & np.isfinite(observed)
    return float(np.abs(predicted[known] - observed[known]).mean()) if known.any() else math.nan
