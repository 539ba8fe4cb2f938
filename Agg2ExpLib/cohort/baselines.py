"""Detectors that are simpler than a forest, so that the forest has to earn its place; higher is odder for all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


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
