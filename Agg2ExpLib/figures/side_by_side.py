"""Slices side by side: one class by several methods, or one class in several patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.figures.slice_parts import (
    BACKGROUND,
    Plane,
    draw_overlay,
    draw_scale_bar,
    draw_sides,
    outline,
    overlay_bar,
    scale_bar_length,
)
from Agg2ExpLib.figures.slices import CT_WINDOWS, CaseVolumes, top_of, window_for
from Agg2ExpLib.figures.style import MARGIN, Heading, add_axes, drawing, new_figure, readable, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from Agg2ExpLib.explanation import Explanation
    from Agg2ExpLib.figures.style import Theme

_ACROSS, _GAP, _CAPTION = 2.5, 0.1, 0.36
_MOST_ACROSS = 6


@dataclass(frozen=True)
class Panel:
    """One slice: a class of a case, with an attribution over it, or the CT alone."""

    title: str
    case: CaseVolumes
    name: str
    plane: Plane
    strength: np.ndarray | None = None

    @property
    def inside(self) -> np.ndarray:
        """Where the class is."""
        return np.asarray(self.case.prediction.voxels == self.case.labels.index(self.name))


def middle_planes(mask: np.ndarray, case: CaseVolumes) -> tuple[Plane, Plane]:
    """Return the axial and the coronal plane in which a structure has the largest section."""
    point = [int(mask.sum(axis=tuple(other for other in range(3) if other != axis)).argmax()) for axis in range(3)]
    axial, coronal, _ = Plane.through((point[0], point[1], point[2]), case.image.spacing, mask.shape)
    return axial, coronal


def methods_side_by_side(
    explanations: Sequence[tuple[str, Explanation]], name: str, *, background: str = "light"
) -> Figure:
    """Draw one class of one scan by several methods, through its largest axial and coronal section.

    Parameters
    ----------
    explanations : sequence of (str, Explanation)
        What each is called, and the explanation; all of one scan and model.
    name : str
        The class.
    background : str
        ``"light"`` or ``"dark"``.

    Raises
    ------
    InputError
        Explanations of different scans, or a class that one of them lacks.
    """
    case = CaseVolumes.of(explanations[0][1])
    strengths = []
    for title, explanation in explanations:
        if name not in explanation.explained:
            raise InputError(f"{explanation.folder} ({title}) does not explain {name!r}; explain that class there too")
        mine = CaseVolumes.of(explanation)
        if not np.array_equal(mine.prediction.voxels, case.prediction.voxels):
            raise InputError(f"{explanation.folder} and {explanations[0][1].folder} are of different scans or models")
        strengths.append(mine.attribution(explanation, name))
    planes = middle_planes(case.prediction.voxels == case.labels.index(name), case)
    rows = [
        [Panel(f"CT, {plane.title}", case, name, plane),
         *(Panel(title, case, name, plane, one) for (title, _), one in zip(explanations, strengths, strict=True))]
        for plane in planes
    ]  # fmt: skip
    sentences = ["Each map has its own scale, up to its 99.9th percentile. Outlined: the structure as predicted."]
    return slices_side_by_side(rows, f"{readable(name).capitalize()}: the methods side by side", sentences, background)


def patients_side_by_side(
    rows: Sequence[Sequence[tuple[str, Explanation]]], name: str, *, background: str = "light", note: str = ""
) -> Figure:
    """Draw one class in several patients, each in the axial slice that holds most of its attribution.

    Parameters
    ----------
    rows : sequence of sequences of (str, Explanation)
        Caption and explanation of each patient, row by row.
    name : str
        The class.
    background : str
        ``"light"`` or ``"dark"``.
    note : str
        A sentence for the heading.
    """
    drawn: list[list[Panel]] = []
    for row in rows:
        drawn.append([])
        for title, explanation in row:
            case = CaseVolumes.of(explanation)
            strength = case.attribution(explanation, name)
            point = (0, 0, int(strength.sum(axis=(0, 1)).argmax()))
            axial, _, _ = Plane.through(point, case.image.spacing, strength.shape)
            drawn[-1].append(Panel(title, case, name, axial, strength))
    sentences = [note, "Axial slices that hold most of the attribution; the patient's right is on the left. Outlined: the structure "
                 "as predicted."]  # fmt: skip
    return slices_side_by_side(
        drawn, f"{readable(name).capitalize()}: the oddest and the most usual patients", sentences, background
    )


def slices_side_by_side(
    rows: Sequence[Sequence[Panel]], title: str, sentences: Sequence[str], background: str = "light"
) -> Figure:
    """Draw panels in rows; all panels of a row are as high as its highest."""
    with drawing(background) as theme:
        columns = max(map(len, rows))
        width = max(columns * (_ACROSS + _GAP) + 2 * MARGIN, 7.0)
        heading = Heading.of(title, sentences, width)
        heights = [max(_ACROSS * one.plane.height / one.plane.width for one in row) for row in rows]
        foot = MARGIN + 0.8
        figure = new_figure(width, heading.height + sum(heights) + len(rows) * _CAPTION + foot)
        heading.draw(figure, theme)
        top = foot + sum(heights) + len(rows) * _CAPTION
        for row, high in zip(rows, heights, strict=True):
            top -= _CAPTION
            for column, panel in enumerate(row):
                tall = _ACROSS * panel.plane.height / panel.plane.width
                _draw(figure, panel, (MARGIN + column * (_ACROSS + _GAP), top - tall, _ACROSS, tall), theme)
            top -= high
        overlay_bar(figure, (MARGIN, MARGIN + 0.45), theme)
    return figure


def _draw(figure: Figure, panel: Panel, place: tuple[float, float, float, float], theme: Theme) -> None:
    axes, inside, plane = add_axes(figure, *place), panel.inside, panel.plane
    level, span = CT_WINDOWS[window_for(panel.case.image.voxels[inside])]
    axes.imshow(plane.cut(panel.case.image.voxels), cmap="gray", vmin=level - span / 2, vmax=level + span / 2, origin="lower",
                extent=plane.extent, interpolation="bilinear", aspect="auto")  # fmt: skip
    if panel.strength is not None and (top := top_of(panel.strength)) > 0:
        draw_overlay(axes, plane, panel.strength, top)
    section = plane.cut(inside)
    if section.any() and panel.name != BACKGROUND:
        outline(axes, plane, section, panel.name, 1.4)
    axes.set_xlim(0, plane.width)
    axes.set_ylim(0, plane.height)
    draw_sides(axes, plane, size=8)
    draw_scale_bar(axes, plane, scale_bar_length([plane]))
    axes.set_axis_off()
    lines = wrapped(panel.title, place[2], 8.5)[:2]
    axes.text(
        0.0, 1.01, "\n".join(lines), size=8.5, color=theme.ink, transform=axes.transAxes, va="bottom", linespacing=1.05
    )
