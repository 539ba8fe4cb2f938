"""Detectors that are simpler than a forest, so that the forest has to earn its place; higher is odder for all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from Agg2ExpLib.cohort.judge.forest import anomaly_score, fit_forest, held_out_folds, held_out_scores

FOREST, SIZES = "isolation_forest", "sizes"
#: Every detector, the forest first, and what people call it. The last one knows nothing of the explanation: an isolation
#: forest on the regions' shares of the volume. What it finds too, the sizes of the structures tell alone.
DETECTORS = {
    FOREST: "isolation forest",
    "robust_z": "robust z",
    "mahalanobis": "Mahalanobis",
    "lof": "LOF",
    SIZES: "sizes only",
}
# Trees of the forest on sizes.
_SIZE_TREES = 500
# Beyond so many cases what one of them adds to the reference no longer shows, and a few folds do.
_MOST_ALONE, _FOLDS = 64, 8


def baseline_scorers() -> dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]:
    """Return simpler detectors that the forest has to be better than: name -> f(reference, cases), higher is odder."""
    return {"robust_z": robust_z, "mahalanobis": mahalanobis, "lof": local_outlier_factor}


def robust_z(reference: np.ndarray, cases: np.ndarray, least: float = 0.0) -> np.ndarray:
    """Largest distance of any feature from the reference's median, in robust standard deviations (1.4826 MAD), or ``least``."""
    middle = np.median(reference, axis=0)
    scale = 1.4826 * np.median(np.abs(reference - middle), axis=0)
    scale = np.maximum(np.where(scale > 0, scale, 0.0 if least else reference.std(axis=0)), least)
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


def sizes_only(reference: np.ndarray, cases: np.ndarray, seed: int) -> np.ndarray:
    """Isolation forest on shares of the volume, which ignores the explanation; NaN where they are not known.

    Parameters
    ----------
    reference, cases : ndarray, shape (cases, rois)
        Shares of the volume; reference cases and regions without known shares are left out.
    seed : int
        Of the forest.
    """
    found = np.full(len(cases), np.nan)
    used = np.isfinite(reference).any(axis=0)
    whole = reference[np.isfinite(reference[:, used]).all(axis=1)][:, used]
    there = np.isfinite(cases[:, used]).all(axis=1)
    if len(whole) > 1 and used.any() and there.any():
        found[there] = anomaly_score(fit_forest(whole, seed, _SIZE_TREES), cases[there][:, used])
    return found


def held_out_sizes(
    volumes: np.ndarray, present: np.ndarray, fewest: int, seed: int, patients: np.ndarray | None = None
) -> np.ndarray:
    """Return held-out scores of :func:`sizes_only`, shape (cases, classes), each class among the cases that have it.

    Parameters
    ----------
    volumes : ndarray, shape (cases, rois)
        Shares of the volume.
    present : ndarray of bool, shape (cases, classes)
        Which case has which class.
    fewest : int
        Classes of fewer cases are left NaN.
    seed : int
        Of the forests.
    patients : ndarray of int, shape (cases,), optional
        Whose scan a case is.
    """
    found = np.full(present.shape, np.nan)
    used = np.isfinite(volumes).any(axis=0)
    known = np.isfinite(volumes[:, used]).all(axis=1) & used.any()
    whose = np.arange(len(volumes)) if patients is None else patients
    done: dict[bytes, np.ndarray] = {}
    for index in range(present.shape[1]):
        there = present[:, index] & known
        if len(np.unique(whose[there])) < fewest:
            continue
        # Classes that the same cases have share their scores.
        key = there.tobytes()
        if key not in done:
            done[key] = held_out_scores(volumes[there][:, used], seed, _SIZE_TREES, whose[there])[0]
        found[there, index] = done[key]
    return found


def held_out_baselines(features: np.ndarray, seed: int, patients: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Score each reference case by simpler detectors that have not seen it.

    Up to 64 cases each is left out alone, beyond in eight folds. The local outlier factor of more cases is taken within the
    cohort, as scikit-learn does, which is nearly held out: a case is never its own neighbour there, but one of its neighbours'.

    Parameters
    ----------
    features : ndarray, shape (cases, features)
        At least three cases.
    seed : int
        Of the folds.
    patients : ndarray of int, shape (cases,), optional
        Whose scan a case is: all scans of a patient are left out together.

    Returns
    -------
    dict of str to ndarray, shape (cases,)
        By detector.
    """
    from sklearn.neighbors import LocalOutlierFactor

    count = len(features)
    alone = count <= _MOST_ALONE
    apart = patients is None or len(np.unique(patients)) == count
    found = {name: np.empty(count) for name in baseline_scorers()}
    for out in held_out_folds(count, _MOST_ALONE if alone else _FOLDS, seed, patients):
        for name, score in baseline_scorers().items():
            if alone or name != "lof" or not apart:
                found[name][out] = score(features[~out], features[out])
    if not alone and apart:
        found["lof"] = -LocalOutlierFactor(n_neighbors=20).fit(features).negative_outlier_factor_
    return found


def held_out_matrices(
    features: np.ndarray, fewest: int, seed: int, patients: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Return :func:`held_out_baselines` of every class: detector -> scores, shape (cases, classes).

    Parameters
    ----------
    features : ndarray, shape (cases, classes, features)
        NaN rows for classes that a case lacks.
    fewest : int
        Classes of fewer cases are left NaN.
    seed : int
        Of the folds.
    patients : ndarray of int, shape (cases,), optional
        Whose scan a case is.
    """
    whose = np.arange(len(features)) if patients is None else patients
    found = {name: np.full(features.shape[:2], np.nan) for name in baseline_scorers()}
    for index in range(features.shape[1]):
        there = np.isfinite(features[:, index]).all(axis=1)
        if there.sum() >= fewest and len(np.unique(whose[there])) > 1:
            for name, scores in held_out_baselines(features[there, index], seed, whose[there]).items():
                found[name][there, index] = scores
    return found
