"""Detectors that are simpler than a forest, so that the forest has to earn its place; higher is odder for all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from Agg2ExpLib.cohort.judge.forest import held_out_folds

FOREST = "isolation_forest"
#: Every detector, the forest first, and what people call it.
DETECTORS = {FOREST: "isolation forest", "robust_z": "robust z", "mahalanobis": "Mahalanobis", "lof": "LOF"}
# Beyond so many cases what one of them adds to the reference no longer shows, and a few folds do.
_MOST_ALONE, _FOLDS = 64, 8


def baseline_scorers() -> dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]:
    """Return simpler detectors that the forest has to be better than: name -> f(reference, cases), higher is odder."""
    return {"robust_z": robust_z, "mahalanobis": mahalanobis, "lof": local_outlier_factor}


def robust_z(reference: np.ndarray, cases: np.ndarray) -> np.ndarray:
    """Largest distance of any feature from the reference's median, in robust standard deviations (1.4826 MAD)."""
    middle = np.median(reference, axis=0)
    scale = 1.4826 * np.median(np.abs(reference - middle), axis=0)
    scale = np.where(scale > 0, scale, reference.std(axis=0))
    used = scale > 0
    if not used.any():
        return np.zeros(len(cases))
    return np.abs((cases[:, used] - middle[used]) / scale[used]).max(axis=1)


def mahalanobis(reference: np.ndarray, cases: np.ndarray) -> np.ndarray:
    """Mahalanobis distance with the covariance shrunk after Ledoit and Wolf, features standardised first."""
    from sklearn.covariance import LedoitWolf

    scale = reference.std(axis=0)
    used = scale > 0
    if not used.any():
        return np.zeros(len(cases))
    middle = reference[:, used].mean(axis=0)
    fitted = LedoitWolf().fit((reference[:, used] - middle) / scale[used])
    return np.sqrt(np.maximum(fitted.mahalanobis((cases[:, used] - middle) / scale[used]), 0.0))


def local_outlier_factor(reference: np.ndarray, cases: np.ndarray) -> np.ndarray:
    """Local outlier factor (scikit-learn) with 20 neighbours, or all others where there are fewer."""
    from sklearn.neighbors import LocalOutlierFactor

    model = LocalOutlierFactor(n_neighbors=min(20, len(reference) - 1), novelty=True).fit(reference)
    return -np.asarray(model.score_samples(cases))


def held_out_baselines(features: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Score each reference case by simpler detectors that have not seen it.

    Up to 64 cases each is left out alone, beyond in eight folds. The local outlier factor of more cases is taken within the
    cohort, as scikit-learn does, which is nearly held out: a case is never its own neighbour there, but one of its neighbours'.

    Parameters
    ----------
    features : ndarray, shape (cases, features)
        At least three cases.
    seed : int
        Of the folds.

    Returns
    -------
    dict of str to ndarray, shape (cases,)
        By detector.
    """
    from sklearn.neighbors import LocalOutlierFactor

    count = len(features)
    alone = count <= _MOST_ALONE
    found = {name: np.empty(count) for name in baseline_scorers()}
    for out in held_out_folds(count, _MOST_ALONE if alone else _FOLDS, seed):
        for name, score in baseline_scorers().items():
            if alone or name != "lof":
                found[name][out] = score(features[~out], features[out])
    if not alone:
        found["lof"] = -LocalOutlierFactor(n_neighbors=20).fit(features).negative_outlier_factor_
    return found


def held_out_matrices(features: np.ndarray, fewest: int, seed: int) -> dict[str, np.ndarray]:
    """Return :func:`held_out_baselines` of every class: detector -> scores, shape (cases, classes).

    Parameters
    ----------
    features : ndarray, shape (cases, classes, features)
        NaN rows for classes that a case lacks.
    fewest : int
        Classes of fewer cases are left NaN.
    seed : int
        Of the folds.
    """
    found = {name: np.full(features.shape[:2], np.nan) for name in baseline_scorers()}
    for index in range(features.shape[1]):
        there = np.isfinite(features[:, index]).all(axis=1)
        if there.sum() >= fewest:
            for name, scores in held_out_baselines(features[there, index], seed).items():
                found[name][there, index] = scores
    return found
