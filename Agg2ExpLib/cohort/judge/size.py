"""How much of an importance is size: what a region of the same size would hold elsewhere, and shares that compare between scans.

Mass goes with volume: the larger a structure, the more of its own attribution lies inside of it. Two comparisons say what is
left. From the tables: the share of the volume (a region picked at random holds that much), and shares among the model's
structures alone, without the background, whose size is that of the field of view. From kept volumes: the same mask shifted
within the scan, and a shell of as many voxels around the structure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from Agg2ExpLib.cohort.table.tables import CohortTable

_BACKGROUND = "background"


@dataclass(frozen=True, eq=False)
class OwnShares:
    """What classes rely on themselves, beside their sizes; each of shape (cases, classes), NaN where not known.

    Attributes
    ----------
    own : ndarray
        Share of a class's attribution inside of the class: 1 - context.
    volume : ndarray
        Share of the volume that the class has: what the same attribution spread evenly would have inside.
    own_within, volume_within : ndarray
        The same two among the model's structures without the background. These can be compared between scans of different
        fields of view: air, table and what the model has no name for play no part.
    """

    own: np.ndarray
    volume: np.ndarray
    own_within: np.ndarray
    volume_within: np.ndarray


def own_shares(table: CohortTable) -> OwnShares:
    """Return every class's own share beside its share of the volume."""
    labels = [name for name in table.identity["model"].get("labels") or () if name in table.rois]
    inside = [table.rois.index(name) for name in labels if name != _BACKGROUND]
    mass = table.values["mass"]
    nothing = np.full(mass.shape[:2], math.nan)
    own, volume, own_within, volume_within = nothing.copy(), nothing.copy(), nothing.copy(), nothing.copy()
    for row, name in enumerate(table.classes):
        if name not in table.rois:
            continue
        column = table.rois.index(name)
        own[:, row] = mass[:, row, column]
        volume[:, row] = np.where(np.isfinite(own[:, row]), table.volumes[:, column], math.nan)
        if column in inside:
            with np.errstate(invalid="ignore", divide="ignore"):
                own_within[:, row] = own[:, row] / mass[:, row, inside].sum(axis=1)
                volume_within[:, row] = volume[:, row] / table.volumes[:, inside].sum(axis=1)
    return OwnShares(own, volume, own_within, volume_within)


def size_correlation(shares: OwnShares) -> tuple[int, float]:
    """Return how many structures there are, and Spearman's correlation over them of median own share and median volume."""
    from scipy import stats

    with np.errstate(invalid="ignore"):
        pairs = [
            (np.median(mine[known]), np.median(size[known]))
            for mine, size in zip(shares.own_within.T, shares.volume_within.T, strict=True)
            for known in [np.isfinite(mine) & np.isfinite(size)]
            if known.any()
        ]
    if len(pairs) < 4:
        return len(pairs), math.nan
    first, second = np.array(pairs).T
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return len(pairs), math.nan
    return len(pairs), float(stats.spearmanr(first, second).statistic)


def shifted_shares(attribution: np.ndarray, mask: np.ndarray, count: int = 200, seed: int = 0) -> np.ndarray:
    """Return the share of |E| inside of a mask shifted to random places where it fits whole.

    Parameters
    ----------
    attribution : ndarray, shape (i, j, k)
        E_c.
    mask : ndarray of bool, same shape
        The structure.
    count : int
        Shifts.
    seed : int
        Of the shifts.

    Returns
    -------
    ndarray, shape (count,)
        Each of the same size and form as the structure's own share; empty for an empty mask.
    """
    strength = np.abs(attribution).astype(np.float64)
    where = np.argwhere(mask)
    total = strength.sum()
    if not len(where) or total <= 0:
        return np.empty(0)
    low, high = where.min(axis=0), where.max(axis=0)
    rng = np.random.default_rng(seed)
    starts = np.column_stack(
        [rng.integers(0, side - (top - bottom), count) for side, bottom, top in zip(mask.shape, low, high, strict=True)]
    )
    flat = np.ravel_multi_index(tuple((where - low).T), mask.shape)
    values = strength.ravel()
    begins = np.ravel_multi_index(tuple(starts.T), mask.shape)
    return np.array([values[flat + begin].sum() for begin in begins]) / total


def shell_share(attribution: np.ndarray, mask: np.ndarray, spacing: tuple[float, ...]) -> float:
    """Return the share of |E| in the shell of as many voxels nearest to the structure's outside; NaN for an empty mask.

    Where more voxels are equally near than the shell can hold, each counts as its part.
    """
    from scipy.ndimage import distance_transform_edt

    strength = np.abs(attribution).astype(np.float64)
    size, total = int(mask.sum()), strength.sum()
    if not size or size == mask.size or total <= 0:
        return math.nan
    # No form of that volume needs a thicker shell than a ball does (Brunn and Minkowski), so that distances are needed no
    # farther out; only at the edge of the scan, where the shell is cut, they are.
    radius = (3.0 * size * math.prod(spacing) / (4.0 * math.pi)) ** (1 / 3)
    for reach in ((2.0 ** (1 / 3) - 1.0) * radius + max(spacing), math.inf):
        box = _around(mask, reach, spacing)
        outside = ~mask[box]
        far = distance_transform_edt(outside, sampling=spacing)[outside]
        wanted = min(size, mask.size - size)
        if (far <= reach).sum() >= wanted:
            break
    limit = np.partition(far, wanted - 1)[wanted - 1]
    nearer, at = far < limit, far == limit
    part = (wanted - np.count_nonzero(nearer)) / np.count_nonzero(at)
    values = strength[box][outside]
    return float((values[nearer].sum() + part * values[at].sum()) / total)


def _around(mask: np.ndarray, reach: float, spacing: tuple[float, ...]) -> tuple[slice, ...]:
    """Return the box around a mask with a margin in millimetres."""
    if not math.isfinite(reach):
        return tuple(slice(None) for _ in spacing)
    box = []
    for axis, step in enumerate(spacing):
        line = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        margin = math.ceil(reach / step) + 1
        box.append(slice(max(int(line[0]) - margin, 0), int(line[-1]) + margin + 1))
    return tuple(box)
