"""Slices through the strongest voxel of an attribution: CT, outlines of the structures, and the attribution over them.

Shown as radiologists read: the patient's right on the left of axial and coronal slices, the front on the left of
sagittal ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.explanation import Explanation
from Agg2ExpLib.figures.slice_parts import (
    Plane,
    draw_letters,
    draw_outlines,
    draw_overlay,
    draw_scale_bar,
    overlay_bar,
    scale_bar_length,
    structures_legend,
)
from Agg2ExpLib.figures.style import MARGIN, Heading, add_axes, drawing, new_figure, readable
from Agg2ExpLib.volume import Grid, Volume, reorient

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: CT windows: name -> (level, width) in HU.
CT_WINDOWS: dict[str, tuple[float, float]] = {"soft tissue": (40.0, 400.0), "lung": (-600.0, 1500.0)}
# A structure whose mean is below this is looked at in the lung window.
_AIRY_HU = -400.0
_WIDEST_ROW = 13.0
_TALLEST = 6.5
#: Attributions have a few huge voxels; this percentile of those that are not 0 is the top of the colour scale.
TOP_PERCENTILE = 99.9


@dataclass(frozen=True)
class CaseVolumes:
    """The volumes of a case that all its slice panels share, on one RAS grid.

    Attributes
    ----------
    image, prediction : Volume
        HU, and label values.
    regions : mapping of str to ndarray of bool
        Extra regions.
    labels : tuple of str
        Names of the label values.
    stored : Grid
        On which the files lie.
    """

    image: Volume
    prediction: Volume
    regions: Mapping[str, np.ndarray]
    labels: tuple[str, ...]
    stored: Grid

    @classmethod
    def of(cls, explanation: Explanation) -> CaseVolumes:
        """Read them.

        Raises
        ------
        InputError
            A file that cannot be read, grids that differ, or label values without a name.
        """
        stored = explanation.model_image()
        image = reorient(stored)
        prediction = explanation.model_prediction()
        masks = {name: explanation.region(name) for name in explanation.regions}
        for volume in (prediction, *masks.values()):
            _check_grid(stored.grid, volume)
        if int(prediction.voxels.max()) >= len(explanation.labels):
            raise InputError(
                f"{prediction.source} holds label {int(prediction.voxels.max())}, but the model has "
                f"{len(explanation.labels)} classes; repeat the explanation"
            )
        regions = {name: reorient(mask).voxels > 0 for name, mask in masks.items()}
        return cls(image, reorient(prediction), regions, explanation.labels, stored.grid)

    def attribution(self, explanation: Explanation, name: str) -> np.ndarray:
        """Return |E| of one class on the same grid."""
        values = explanation.attribution(name)
        _check_grid(self.stored, values)
        return np.abs(reorient(values).voxels)


def _check_grid(grid: Grid, other: Volume) -> None:
    if not grid.same_as(other.grid):
        raise InputError(f"{other.source} lies on another grid than the explanation's scan; repeat the explanation")


def strongest_voxel(strength: np.ndarray, fallback: np.ndarray) -> tuple[int, int, int]:
    """Return the index of the largest value; where all are 0, the voxel of ``fallback`` nearest to its centre.

    Examples
    --------
    >>> strength = np.zeros((3, 3, 3))
    >>> strength[2, 0, 1] = 5
    >>> strongest_voxel(strength, strength > 0)
    (2, 0, 1)
    """
    if strength.max() > 0:
        i, j, k = np.unravel_index(int(np.argmax(strength)), strength.shape)
        return int(i), int(j), int(k)
    where = np.argwhere(fallback)
    if not len(where):
        where = np.argwhere(np.ones(strength.shape, dtype=bool))
    middle = where[int(np.argmin(((where - where.mean(axis=0)) ** 2).sum(axis=1)))]
    return int(middle[0]), int(middle[1]), int(middle[2])


def window_for(inside: np.ndarray) -> str:
    """Return the CT window that suits a structure of these HU values."""
    return "lung" if inside.size and float(inside.mean()) < _AIRY_HU else "soft tissue"


def top_of(strength: np.ndarray) -> float:
    """Return the value of the strongest colour: the 99.9th percentile of what is not 0; 0 where all is."""
    positive = strength[strength > 0]
    return float(np.percentile(positive, TOP_PERCENTILE)) if positive.size else 0.0


def slice_panels(
    explanation: Explanation,
    name: str,
    *,
    ct_window: str = "auto",
    background: str = "dark",
    note: str = "",
    volumes: CaseVolumes | None = None,
) -> Figure:
    """Draw axial, coronal and sagittal slices through the strongest voxel of one class's attribution.

    Parameters
    ----------
    explanation : Explanation
        With its volumes.
    name : str
        The explained class.
    ct_window : str
        ``"soft tissue"``, ``"lung"``, or ``"auto"``: lung for a structure that is mostly air.
    background : str
        ``"light"`` or ``"dark"``: around the slices, which are CT grey always.
    note : str
        A sentence for the heading.
    volumes : CaseVolumes, optional
        Read before, when several classes of a case are drawn.

    Raises
    ------
    InputError
        A class without attribution, an unknown window, or volumes that do not fit each other.
    """
    if ct_window not in (*CT_WINDOWS, "auto"):
        raise InputError(f"unknown CT window {ct_window!r}: use auto, {', '.join(CT_WINDOWS)}")
    case = volumes or CaseVolumes.of(explanation)
    if name not in case.labels:
        raise InputError(
            f"{explanation.folder} explains {name!r}, which is no class of its model; repeat the explanation"
        )
    strength = case.attribution(explanation, name)
    inside = case.prediction.voxels == case.labels.index(name)
    point = strongest_voxel(strength, inside)
    if ct_window == "auto":
        ct_window = window_for(case.image.voxels[inside])
    top = top_of(strength)
    planes = Plane.through(point, case.image.spacing, case.image.shape)
    millimetres = sum(plane.width for plane in planes)
    per_mm = min((_WIDEST_ROW - 0.3) / millimetres, _TALLEST / max(plane.height for plane in planes))
    with drawing(background) as theme:
        width = max(millimetres * per_mm + 0.3, 8.5) + 2 * MARGIN
        heading = Heading.of(
            f"{readable(name).capitalize()}: where the network looked",
            _sentences(case, point, ct_window, top, note),
            width,
        )
        high = max(plane.height for plane in planes) * per_mm
        foot = MARGIN + 1.3
        figure = new_figure(width, heading.height + 0.22 + high + foot)
        heading.draw(figure, theme)
        level, span = CT_WINDOWS[ct_window]
        left = (width - (millimetres * per_mm + 0.3)) / 2
        seen: dict[str, int] = {}
        for plane in planes:
            axes = add_axes(
                figure, left, foot + high - plane.height * per_mm, plane.width * per_mm, plane.height * per_mm
            )
            left += plane.width * per_mm + 0.15
            axes.imshow(plane.cut(case.image.voxels), cmap="gray", vmin=level - span / 2, vmax=level + span / 2,
                        origin="lower", extent=plane.extent, interpolation="bilinear", aspect="auto")  # fmt: skip
            if top > 0:
                draw_overlay(axes, plane, strength, top)
            for structure, area in draw_outlines(axes, plane, case, name).items():
                seen[structure] = seen.get(structure, 0) + area
            draw_letters(axes, plane)
            draw_scale_bar(axes, plane, scale_bar_length(planes))
            axes.set_title(plane.title, size=9.5, loc="left", pad=3)
        overlay_bar(figure, (MARGIN, MARGIN + 1.0), theme)
        structures_legend(figure, seen, name, tuple(case.regions), theme)
    return figure


def _sentences(case: CaseVolumes, point: tuple[int, int, int], ct_window: str, top: float, note: str) -> list[str]:
    level, span = CT_WINDOWS[ct_window]
    right, front, up = case.image.grid.index_to_world(point)
    where = (
        f"at {'R' if right >= 0 else 'L'} {abs(right):.0f}, {'A' if front >= 0 else 'P'} {abs(front):.0f}, "
        f"{'S' if up >= 0 else 'I'} {abs(up):.0f} mm"
    )
    through = f"Slices through the strongest voxel of the attribution (blue ticks, {where})" if top > 0 else (
        f"The attribution is 0 everywhere; slices through the middle of the structure (blue ticks, {where})"
    )  # fmt: skip
    return [
        f"{through}. CT window: {ct_window} (level {level:.0f}, width {span:.0f} HU).",
        note,
    ]
