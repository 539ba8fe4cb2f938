"""Which instance of a class is explained unlike the others? Of one patient, so that what chance does has to be said.

Shares of importance inside of an instance, in its rim and outside are taken as two log ratios: inside against all around, and rim
against farther out. A line over the logarithm of volume (Theil and Sen's: the median slope of all pairs) takes off what goes with
size. What is left is measured by the largest robust z among all instances of the class. How often chance gives one as large
depends on how many instances there are (of five alike ones, one lies above 3.5 on average), so it is counted: in a thousand
draws of as many alike instances of the same sizes, whose log ratios are of Student's t with 4 degrees of freedom.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from Agg2ExpLib.cohort.judge.baselines import robust_z

#: Of fewer instances nothing is said.
FEWEST = 5
#: An instance is marked when fewer than so many as odd are expected among as many alike ones.
EXPECTED = 0.05
# Shares below count as this: what is not there has no logarithm.
_LEAST_SHARE = 1e-3
# A scatter of the log ratios below five percent counts as five: alike beyond what anybody would call a difference.
_LEAST_SCATTER = 0.05
_DRAWS = 1000
# Of Student's t that draws are of: tails heavier than normal, so that those of real shares are no alarm.
_FREEDOM = 4


@dataclass(frozen=True, eq=False)
class Oddness:
    """How instances compare with one another; arrays have the shape (instances,).

    Attributes
    ----------
    z : ndarray
        Largest robust z of the two log ratios; NaN of all when there are fewer than :data:`FEWEST`, or of one without importance.
    expected : ndarray
        How many of as many alike instances lie at least as far out by chance.
    why : tuple of str
        How it differs most, in words.
    size_correlation : float
        Spearman's, of volume and the share inside: what the line takes off. NaN where not known.
    """

    z: np.ndarray
    expected: np.ndarray
    why: tuple[str, ...]
    size_correlation: float

    @property
    def odd(self) -> np.ndarray:
        """Which ones are marked."""
        return np.asarray(self.expected < EXPECTED)


def oddness(shares: np.ndarray, volumes: np.ndarray, seed: int = 0) -> Oddness:
    """Compare the instances of a class with one another.

    Parameters
    ----------
    shares : ndarray, shape (instances, 3)
        Of importance inside, in the rim, and outside; NaN for an instance that has none.
    volumes : ndarray, shape (instances,)
        In any unit.
    seed : int
        Of the draws.
    """
    from scipy import stats

    count = len(shares)
    z, expected, why = np.full(count, math.nan), np.full(count, math.nan), [""] * count
    known = np.flatnonzero(np.isfinite(shares).all(axis=1))
    if len(known) < FEWEST:
        return Oddness(z, expected, tuple(why), math.nan)
    inside, rim, outside = np.maximum(shares[known], _LEAST_SHARE).T
    size = np.log(volumes[known])
    left = _without_size(size, np.stack([np.log(inside / (rim + outside)), np.log(rim / outside)], axis=1))
    z[known] = robust_z(left, left, _LEAST_SCATTER)
    rng = np.random.default_rng(seed)
    draws = (_without_size(size, rng.standard_t(_FREEDOM, left.shape)) for _ in range(_DRAWS))
    by_chance = np.sort(np.concatenate([robust_z(one, one) for one in draws]))
    expected[known] = (len(by_chance) - np.searchsorted(by_chance, z[known]) + 1.0) / (_DRAWS + 1.0)
    apart = np.stack([robust_z(one[:, None], one[:, None], _LEAST_SCATTER) for one in left.T], axis=1)
    for row, column, higher in zip(known, apart.argmax(axis=1), left > np.median(left, axis=0), strict=True):
        words = ("more inside", "less inside") if column == 0 else ("more rim", "less rim")
        why[row] = words[0 if higher[column] else 1]
    varied = np.ptp(size) > 0 and np.ptp(inside) > 0
    return Oddness(z, expected, tuple(why), float(stats.spearmanr(size, inside).statistic) if varied else math.nan)


def _without_size(size: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Take a line over ``size`` off each column: the median slope of all pairs that differ in size."""
    first, second = np.triu_indices(len(size), 1)
    apart = size[first] - size[second]
    used = np.abs(apart) > 1e-6
    if not used.any():
        return values
    slopes = (values[first] - values[second])[used] / apart[used, None]
    return np.asarray(values - np.median(slopes, axis=0) * size[:, None])
