"""How sure an alarm is: conformal p-values of scores, for a structure and for a patient as a whole.

A new case that is like the reference is as likely to have any rank among the reference's held-out scores as any other, so
that ``p = (1 + number at least as odd) / (n + 1)`` is at most a with a chance of a or less (Vovk et al. 2005), whatever the
distribution of scores. Where a patient has several scans in the reference, each of the patient's scans counts as its share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Shares are sums of floating-point weights.
_TINY = 1e-9


def weights_of(patients: np.ndarray) -> np.ndarray:
    """Return the weight of each case, shape (cases,): 1 over the number of scans of its patient."""
    _, index, counts = np.unique(patients, return_inverse=True, return_counts=True)
    return np.asarray(1.0 / counts[index])


def p_values(reference: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return conformal p-values of scores.

    Parameters
    ----------
    reference : ndarray, shape (cases,)
        Held-out scores; higher is odder.
    scores : ndarray, shape (new cases,)
        Scores of new cases.
    weights : ndarray, shape (cases,), optional
        Of the reference cases; 1 each by default.

    Returns
    -------
    ndarray, shape (new cases,)
        Between 1 / (n + 1) and 1.

    Examples
    --------
    >>> p_values(np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.35, 0.5, 0.0])).tolist()
    [0.4, 0.2, 1.0]
    """
    order = np.argsort(reference)
    weight = np.ones(len(reference)) if weights is None else weights
    # Weight of what is at least as odd: everything from the first reference score that is not lower.
    above = np.append(np.cumsum(weight[order][::-1])[::-1], 0.0)
    odder = above[np.searchsorted(reference[order], scores, side="left")]
    return np.asarray((1.0 + odder) / (1.0 + weight.sum()))


def threshold(reference: np.ndarray, alarms: float, weights: np.ndarray | None = None) -> float:
    """Return the score above which p is at most ``alarms``; NaN where no score can be: there are too few reference cases."""
    weight = np.ones(len(reference)) if weights is None else weights
    allowed = alarms * (1.0 + weight.sum()) - 1.0 + _TINY
    if allowed < 0:
        return math.nan
    order = np.argsort(-reference)
    over = np.flatnonzero(np.cumsum(weight[order]) > allowed)
    return float(reference[order][over[0]]) if len(over) else float(reference.min() - 1.0)


def rate_of(count: float, alarms: float) -> float:
    """Return how often a usual case is called unusual at that many reference cases: at most ``alarms``.

    Examples
    --------
    >>> round(rate_of(60, 0.05), 4), rate_of(10, 0.05)
    (0.0492, 0.0)
    """
    return math.floor(alarms * (count + 1.0) + _TINY) / (count + 1.0)


def fewest_for(alarms: float) -> int:
    """Return how many reference cases are needed before anything can be called unusual at that rate.

    Examples
    --------
    >>> fewest_for(0.05), fewest_for(0.2)
    (19, 4)
    """
    return max(math.ceil(1.0 / alarms - 1.0 - _TINY), 1)


@dataclass(frozen=True)
class PatientScore:
    """A patient as a whole against the reference.

    Attributes
    ----------
    case : str
        The patient's case.
    p : float
        Conformal p-value of the oddest structure: how often a usual patient has one that lies as far out.
    verdict : str
        ``unusual``, ``usual``, or ``undecided`` with too few reference cases.
    scored, unusual : int
        Structures with a score, and those of them that are unusual.
    expected : float
        How many of them chance alone makes unusual.
    oddest : str
        The structure that lies farthest out.
    rate : float
        How often a usual patient is called unusual at this number of reference patients.
    """

    case: str
    p: float
    verdict: str
    scored: int
    unusual: int
    expected: float
    oddest: str
    rate: float = 0.0


def farthest(
    reference: np.ndarray, scores: np.ndarray, explained: np.ndarray | None = None
) -> tuple[np.ndarray, float, int]:
    """Return how far out the oddest structure of each patient lies, in standard deviations of its structure.

    The new patient is one of those that means and deviations are taken over, and each patient's oddest structure is looked
    for among all that it has, so that all are treated alike: among those of the new patient alone, reference patients that
    lack some would have fewer to be odd in.

    Parameters
    ----------
    reference : ndarray, shape (cases, classes)
        Held-out scores; NaN where a class is absent.
    scores : ndarray, shape (classes,)
        Of the new patient.
    explained : ndarray of bool, shape (classes,), optional
        Structures that the new patient was asked for, there or not; by default those that it has.

    Returns
    -------
    ndarray, shape (cases,); float; int
        Of the reference patients (NaN without any of these structures), of the new one, and its oddest structure.
    """
    both = np.vstack([reference, scores])
    known = np.isfinite(both)
    used = (known[-1] if explained is None else explained) & (known.sum(axis=0) > 2)
    if not (used & known[-1]).any():
        return np.full(len(reference), math.nan), math.nan, -1
    values, there = np.where(known, both, 0.0)[:, used], known[:, used]
    count = there.sum(axis=0)
    mean = values.sum(axis=0) / count
    spread = np.sqrt(np.where(there, (values - mean) ** 2, 0.0).sum(axis=0) / (count - 1))
    far = np.where(there & (spread > 0), (values - mean) / np.where(spread > 0, spread, 1.0), -np.inf)
    most = far.max(axis=1)
    found = np.where(np.isfinite(most), most, math.nan)
    return found[:-1], float(found[-1]), int(np.flatnonzero(used)[far[-1].argmax()])


def patient_p(
    reference: np.ndarray,
    scores: np.ndarray,
    classes: Sequence[str],
    weights: np.ndarray | None = None,
    explained: np.ndarray | None = None,
) -> tuple[float, float, str]:
    """Return the conformal p-value of a patient's oddest structure, how many reference patients it is among, and its name.

    Parameters are those of :func:`farthest`, the names of the classes, and the weights of :func:`p_values`.
    """
    others, own, index = farthest(reference, scores, explained)
    known = np.isfinite(others)
    if not math.isfinite(own) or not known.any():
        return math.nan, 0.0, ""
    weight = np.ones(len(others)) if weights is None else weights
    p = float(p_values(others[known], np.array([own]), weight[known])[0])
    return p, float(weight[known].sum()), classes[index]
