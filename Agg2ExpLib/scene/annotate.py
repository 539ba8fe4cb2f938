"""Words on pictures: titles, the letters that tell the sides of the patient, and legends in a readable colour."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

Colour = tuple[float, float, float]
#: Left, right, top, bottom of a slice as Slicer shows it, seen from the feet, from the front, from the left.
LETTERS = {"axial": tuple("RLAP"), "coronal": tuple("RLSI"), "sagittal": tuple("APSI")}


@contextmanager
def add_title(view: Any, title: str, colour: Colour) -> Iterator[None]:
    """Write a line at the top left of a view for a while."""
    with _written(view, [(title, 0.015, 0.985, "Left", "Top", 20)], colour):
        yield


@contextmanager
def add_letters(view: Any, orientation: str, colour: Colour, right: float, top: float) -> Iterator[None]:
    """Write the sides of the patient at the edges of a slice for a while; ``right`` and ``top`` are left free."""
    left, other, up, down = LETTERS[orientation]
    width, height = 1.0 - right, 1.0 - top
    places = [
        (left, 0.012, height / 2, "Left", "Centered", 24),
        (other, width - 0.012, height / 2, "Right", "Centered", 24),
        (up, width / 2, height - 0.012, "Centered", "Top", 24),
        (down, width / 2, 0.012, "Centered", "Bottom", 24),
    ]
    with _written(view, places, colour):
        yield


@contextmanager
def _written(view: Any, lines: list[tuple[str, float, float, str, str, int]], colour: Colour) -> Iterator[None]:
    from vtkmodules.vtkRenderingCore import vtkTextActor

    renderer, actors = view.first_renderer(), []
    for text, x, y, across, up, size in lines:
        actor = vtkTextActor()
        actor.SetInput(text)
        shown = actor.GetTextProperty()
        shown.SetFontFamilyToArial()
        shown.SetFontSize(size)
        shown.SetColor(*colour)
        shown.SetShadow(sum(colour) > 1.5)
        getattr(shown, f"SetJustificationTo{across}")()
        getattr(shown, f"SetVerticalJustificationTo{up}")()
        place = actor.GetPositionCoordinate()
        place.SetCoordinateSystemToNormalizedViewport()
        place.SetValue(x, y)
        renderer.AddViewProp(actor)
        actors.append(actor)
    try:
        yield
    finally:
        for actor in actors:
            renderer.RemoveViewProp(actor)


def paint_legends(scene: Any, colour: Colour) -> None:
    """Give the text of every colour legend, and the names of the graph, a colour that is read on the background."""
    for index in range(scene.GetNumberOfNodesByClass("vtkMRMLColorLegendDisplayNode")):
        legend = scene.GetNthNodeByClass(index, "vtkMRMLColorLegendDisplayNode")
        for text in (legend.GetTitleTextProperty(), legend.GetLabelTextProperty()):
            text.SetColor(*colour)
            text.SetShadow(sum(colour) > 1.5)
        legend.Modified()
    for index in range(scene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialDisplayNode")):
        display = scene.GetNthNodeByClass(index, "vtkMRMLMarkupsFiducialDisplayNode")
        for paint in (display.SetColor, display.SetSelectedColor, display.SetActiveColor):
            paint(*colour)
