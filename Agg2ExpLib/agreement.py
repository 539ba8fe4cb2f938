"""How well two segmentations agree."""

from __future__ import annotations

import numpy as np


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Dice coefficient of two boolean masks of one shape; NaN when both are empty.

    Examples
    --------
    >>> dice(np.array([True, True]), np.array([True, False]))
    0.6666666666666666
    """
    size = int(first.sum()) + int(second.sum())
    return float(2.0 * int((first & second).sum()) / size) if size else float("nan")


def dice_of_labels(first: np.ndarray, second: np.ndarray, classes: int) -> np.ndarray:
    """Dice of each label value 0 to ``classes`` - 1 in two label maps of one shape; NaN where neither has it."""
    counts = [np.bincount(one.ravel(), minlength=classes)[:classes] for one in (first, second)]
    common = np.bincount(first[first == second], minlength=classes)[:classes]
    size = counts[0] + counts[1]
    return np.where(size > 0, 2.0 * common / np.maximum(size, 1), np.nan)
