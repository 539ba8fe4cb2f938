"""Which regions make a case unusual, and how shares are said."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from Agg2ExpLib.anatomy import structure

#: The reference range of a region: the central 95 % of the reference cases; with fewer than :data:`FEWEST_FOR_RANGE` of them,
#: whose tails nothing can be said of, from the lowest to the highest.
RANGE = (0.025, 0.975)
FEWEST_FOR_RANGE = 40
_MOST_REASONS = 3
# A region is worth a sentence when it holds a hundredth of the attribution, here or usually, and lies half a point outside of
# its range. Of a region that the reference never has, half a point is enough.
_LEAST_SHARE, _LEAST_EFFECT = 0.01, 0.005


@dataclass(frozen=True)
class Reason:
    """A region that makes a case unusual.

    Attributes
    ----------
    roi : str
        The region.
    value, low, high : float
        Its share of the class's attribution, and the reference range of that share.
    contribution : float
        Shapley value of the forest's path length; positive is odder. NaN for a region that the forest does not know.
    """

    roi: str
    value: float
    low: float
    high: float
    contribution: float

    def shows(self) -> bool:
        """Tell whether value and range still differ when they are rounded for people."""
        return percent(self.value) not in (percent(self.low), percent(self.high))

    def told(self, verdict: str) -> bool:
        """Return whether the reason is shown: with a usual score only a region that the reference lacks, as no tree splits by it."""
        return verdict != "usual" or not self.contribution > 0

    def sentence(self, name: str) -> str:
        """Return it in words, for the class ``name``."""
        region, usual = structure(self.roi).name, percent_range(self.low, self.high)
        return f"{structure(name).name} relied {percent(self.value)} on '{region}' (reference {usual})"

    def phrase(self) -> str:
        """Return it in fewer words, for where the class is written beside."""
        return f"{percent(self.value)} on {structure(self.roi).name} ({percent_range(self.low, self.high)})"


def usual_range(reference: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the reference range of each region, low and high, its median, and where all reference cases are alike."""
    ends = RANGE if len(reference) >= FEWEST_FOR_RANGE else (0.0, 1.0)
    low, middle, high = np.quantile(reference, (ends[0], 0.5, ends[1]), axis=0)
    return low, high, middle, np.ptp(reference, axis=0) == 0


def find_reasons(
    rois: Sequence[str],
    usual: tuple[np.ndarray, ...],
    row: np.ndarray,
    shapley: np.ndarray,
    extra: Mapping[str, float],
) -> tuple[Reason, ...]:
    """Choose regions that lie outside of their reference range and matter in size: share, and distance from the range.

    Those that the reference never shows come first, then the others by contribution. A forest cannot split where all
    reference cases are alike, so a region that they all lack is looked at on its own.
    """
    low, high, middle, never = usual
    novel = [Reason(roi, value, 0.0, 0.0, math.nan) for roi, value in extra.items() if value > _LEAST_EFFECT]
    known = []
    for j, roi in enumerate(rois):
        one = Reason(roi, float(row[j]), float(low[j]), float(high[j]), float(shapley[j]))
        if never[j]:
            if abs(row[j] - low[j]) > _LEAST_EFFECT:
                novel.append(one)
        elif (
            max(low[j] - row[j], row[j] - high[j]) >= _LEAST_EFFECT
            and max(row[j], middle[j]) >= _LEAST_SHARE
            and shapley[j] > 0
            and one.shows()
        ):
            known.append(one)
    novel.sort(key=lambda one: -abs(one.value - one.high))
    known.sort(key=lambda one: -one.contribution)
    return tuple([*novel, *known][:_MOST_REASONS])


def percent(share: float) -> str:
    """Return a share in percent, as short as it can be said.

    Examples
    --------
    >>> percent(0.142), percent(0.0042), percent(0.00001)
    ('14 %', '0.4 %', '0 %')
    """
    value = 100.0 * share
    return f"{value:.0f} %" if value >= 9.5 or value < 0.05 else f"{value:.1f} %"


def percent_range(low: float, high: float) -> str:
    """Return a range of shares in percent.

    Examples
    --------
    >>> percent_range(0.0, 0.02), percent_range(0.0, 0.0)
    ('0-2.0 %', '0 %')
    """
    first, last = percent(low), percent(high)
    return first if first == last else f"{first.removesuffix(' %')}-{last}"
