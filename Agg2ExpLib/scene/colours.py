"""Colour tables, windows and colour legends of attributions and of importance.

MRML's continuous colour nodes hold no opacity, so every overlay has a discrete table of its own, with an opacity ramp that
is transparent where the attribution is weak.
"""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import numpy as np

#: Colours per table. Odd, so that a signed table has an entry for zero.
LEVELS = 255
_WIDEST_TITLE = 16
_ENOUGH = 2_000_000
# Anchors, 0 to 1, between which colours are interpolated. Dark to bright in even steps of lightness; readable by people who
# do not tell red from green.
_ANCHORS: dict[str, tuple[tuple[float, float, float], ...]] = {
    # matplotlib's inferno (CC0), without its near-black start: a weak value must still differ from the CT.
    "magnitude": (
        (0.342, 0.062, 0.429),
        (0.472, 0.111, 0.428),
        (0.604, 0.164, 0.394),
        (0.736, 0.216, 0.330),
        (0.851, 0.288, 0.236),
        (0.936, 0.393, 0.130),
        (0.978, 0.521, 0.023),
        (0.988, 0.667, 0.073),
        (0.964, 0.821, 0.237),
        (0.988, 0.998, 0.645),
    ),
    # Against (blue) by way of white to for (orange red).
    "signed": (
        (0.03, 0.25, 0.75),
        (0.15, 0.50, 0.95),
        (0.45, 0.75, 1.00),
        (0.92, 0.92, 0.92),
        (1.00, 0.70, 0.40),
        (0.95, 0.40, 0.10),
        (0.70, 0.10, 0.05),
    ),
    # matplotlib's cividis (CC0): importance of whole segments.
    "importance": (
        (0.000, 0.138, 0.316),
        (0.130, 0.232, 0.424),
        (0.298, 0.331, 0.423),
        (0.408, 0.425, 0.444),
        (0.519, 0.522, 0.467),
        (0.639, 0.624, 0.453),
        (0.771, 0.733, 0.405),
        (0.910, 0.851, 0.310),
        (0.995, 0.909, 0.218),
    ),
}


@dataclass(frozen=True)
class Window:
    """What an overlay shows: transparent below ``threshold``, full colour at ``top`` (both of |E|, threshold < top)."""

    threshold: float
    top: float


def colour_ramp(kind: str, count: int = LEVELS) -> np.ndarray:
    """Return ``count`` colours of ``"magnitude"``, ``"signed"`` or ``"importance"``, shape (count, 3), 0 to 1."""
    anchors = np.array(_ANCHORS[kind])
    at = np.linspace(0, len(anchors) - 1, count)
    return np.stack([np.interp(at, np.arange(len(anchors)), anchors[:, axis]) for axis in range(3)], axis=1)


def colour_at(kind: str, share: float) -> tuple[float, float, float]:
    """Return one colour of a ramp at a share from 0 to 1."""
    red, green, blue = colour_ramp(kind)[round(float(np.clip(share, 0, 1)) * (LEVELS - 1))]
    return float(red), float(green), float(blue)


def robust_window(values: np.ndarray, percentile: float, top_percentile: float = 99.8) -> Window:
    """Return the window of an attribution from percentiles of |E| over the voxels where it is not 0.

    Parameters
    ----------
    values : ndarray
        Attributions of any shape.
    percentile : float
        Weaker attributions than this percentile are transparent, 0 to 100.
    top_percentile : float
        Full colour from here on: a few stray voxels must not darken all the rest.
    """
    # A percentile of some two million voxels is that of all of them.
    flat = values.ravel(order="K")
    flat = flat[:: max(flat.size // _ENOUGH, 1)]
    strength = np.abs(flat[flat != 0])
    if not strength.size:
        return Window(0.5, 1.0)
    threshold, top = (float(value) for value in np.percentile(strength, [percentile, max(percentile, top_percentile)]))
    if top <= threshold:
        top = float(strength.max())
    if top <= threshold:
        # Every value is the same: show it.
        threshold = top * 0.5
    return Window(threshold, top)


def fill_overlay_table(node: Any, kind: str, window: Window) -> None:
    """Make a colour table node an overlay's: the ramp over the window, transparent where |E| is under the threshold.

    Parameters
    ----------
    node : vtkMRMLColorTableNode
        Filled in place. It runs from 0 to the window's top for ``"magnitude"``, from -top to top for ``"signed"``.
    """
    low = -window.top if kind == "signed" else 0.0
    strength = np.abs(np.linspace(low, window.top, LEVELS))
    above = (strength - window.threshold) / (window.top - window.threshold)
    # It begins half opaque: a faint veil over the CT would be taken for tissue.
    alpha = np.where(strength < window.threshold, 0.0, 0.55 + 0.45 * np.clip(above, 0, 1))
    alpha[0 if low == 0 else LEVELS // 2] = 0.0
    fill_table(node, colour_ramp(kind), alpha, (low, window.top))


def fill_table(node: Any, colours: np.ndarray, alpha: np.ndarray, span: tuple[float, float]) -> None:
    """Put colours, shape (n, 3), and opacities, shape (n,), into a vtkMRMLColorTableNode and say what range they span."""
    low, high = span
    changing = node.StartModify()
    node.SetTypeToUser()
    node.SetNumberOfColors(len(colours))
    step = (high - low) / max(len(colours) - 1, 1)
    for index, (colour, opacity) in enumerate(zip(colours, alpha, strict=True)):
        node.SetColor(index, f"{low + step * index:.4g}", *(float(part) for part in colour), float(opacity))
    node.GetLookupTable().SetTableRange(low, high)
    node.SetHideFromEditors(False)
    node.SetSaveWithScene(True)
    node.EndModify(changing)


def show_legend(
    display: Any, title: str, *, visible: bool = True, right: bool = True, up: float = 0.5, space: bool = True
) -> Any:
    """Show the colour legend of a display node, or hide it; return the legend's node.

    Parameters
    ----------
    display : vtkMRMLDisplayNode
        With its colour node and scalar range.
    title : str
        What the colours mean, with the unit.
    right : bool
        At the right edge; at the left one otherwise, so that two legends do not cover each other.
    up : float
        Where on that edge, from 0 at the bottom to 1 at the top.
    space : bool
        In 3D views too.
    """
    import slicer

    logic = slicer.vtkSlicerColorLogic
    legend = logic.GetColorLegendDisplayNode(display) or logic.AddDefaultColorLegendDisplayNode(display)
    # Long names are broken: a wide title would cover the picture.
    lines = [part for line in title.splitlines() for part in wrap(line, _WIDEST_TITLE)]
    legend.SetTitleText("\n".join(lines))
    legend.SetLabelFormat("%.3g")
    legend.SetNumberOfLabels(5)
    legend.SetUseColorNamesForLabels(False)
    # The letters grow and shrink with the size.
    legend.SetSize(0.07, 0.36)
    legend.SetPosition(0.97 if right else 0.03, up)
    for text, size in ((legend.GetTitleTextProperty(), 14), (legend.GetLabelTextProperty(), 13)):
        text.SetFontSize(size)
        text.SetBold(False)
        text.SetItalic(False)
        text.SetFontFamilyToArial()
        text.SetShadow(True)
    legend.SetVisibility(visible)
    legend.SetVisibility3D(space)
    return legend
