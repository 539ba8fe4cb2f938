"""Which lesion? The connected components of a class's prediction, each with an objective of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from Agg2ExpLib.errors import InputError

if TYPE_CHECKING:
    from Agg2ExpLib.case.objective import Objective
    from Agg2ExpLib.case.segmentation import Segmentation
    from Agg2ExpLib.case.windows import Windows

#: Smaller components are left out, ml: about a ball of 4 mm.
MIN_VOLUME_ML = 0.03
#: As many components are explained, the largest first.
MOST = 20
#: Thickness of the rim around an instance, mm.
RIM_MM = 5.0
#: Methods whose attributions of the instances sum to the class's.
ADDITIVE = ("gradient", "smoothgrad", "integrated-gradients")


@dataclass(frozen=True, eq=False)
class Instances:
    """The connected components of a class's prediction, the largest first; voxels that touch at a corner are connected.

    Attributes
    ----------
    name : str
        The class.
    labels : ndarray of uint16, shape (i, j, k)
        Number of the instance at each voxel, from 1; 0 elsewhere.
    objectives : tuple of Objective
        F_c restricted to each instance, in their order. Over all components of the class they sum to F_c, and so do their
        gradients; see :meth:`Agg2ExpLib.case.Case.attribute`.
    small, more : int
        Components left out for being smaller than asked for, and beyond as many as asked for.
    """

    name: str
    labels: np.ndarray
    objectives: tuple[Objective, ...]
    small: int
    more: int


def find_instances(
    name: str,
    objective: Objective,
    segmentation: Segmentation,
    windows: Windows,
    fewest_voxels: float,
    most: int,
) -> Instances:
    """Split a class's objective into its connected components.

    Parameters
    ----------
    name : str
        The class.
    objective : Objective
        F_c of the whole class.
    segmentation, windows
        Of its network.
    fewest_voxels : float
        Smaller components are left out.
    most : int
        The largest ones are kept.

    Raises
    ------
    InputError
        ``most`` is below 1, or above what a label map holds.
    """
    from scipy.ndimage import find_objects, label

    if not 1 <= most < 2**16:
        raise InputError(f"the number of instances to explain is {most}: it must be 1 to {2**16 - 1}")
    labels = np.zeros(windows.volume_shape, dtype=np.uint16)
    mask = segmentation.mask(objective.class_index)[objective.box]
    found, _ = label(mask, structure=np.ones((3, 3, 3)))
    sizes = np.bincount(found.ravel())[1:]
    order = [int(index) for index in np.argsort(-sizes, kind="stable") if sizes[index] >= fewest_voxels]
    boxes, parts = find_objects(found) if order else [], []
    for number, index in enumerate(order[:most], start=1):
        box = tuple(
            slice(b.start + p.start, b.start + p.stop) for b, p in zip(objective.box, boxes[index], strict=True)
        )
        inside = found[boxes[index]] == index + 1
        labels[box][inside] = number
        parts.append(_part(objective, inside, box, boxes[index], segmentation, windows))
    return Instances(name, labels, tuple(parts), len(sizes) - len(order), max(len(order) - most, 0))


def _part(
    objective: Objective,
    inside: np.ndarray,
    box: Sequence[slice],
    within: Sequence[slice],
    segmentation: Segmentation,
    windows: Windows,
) -> Objective:
    """F_c of some of its voxels: a mask in a box of the volume, which is ``within`` in the class's own box."""
    place = (box[0], box[1], box[2])
    weight = objective.weight[tuple(within)] * inside
    whole = np.zeros(windows.volume_shape, dtype=bool)
    whole[place] = inside
    value = float((weight * segmentation.logit(objective.class_index, place)).sum(dtype=np.float64))
    touched = tuple(index for index in objective.windows if whole[windows.inside(index)[0]].any())
    return replace(objective, box=place, weight=weight, windows=touched, value=value, voxels=int(inside.sum()))
