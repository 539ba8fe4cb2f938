"""What is selected, seen in every view: a mark at a voxel, and the outline of a segment drawn thick."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.scene.nodes import PREFIX, NodeKeeper

#: Attribute of a display node that draws nothing but the selected segment.
EMPHASIS = PREFIX + "Emphasis"
#: Pixels of its outline.
THICK = 5


def mark(keeper: NodeKeeper, position: Sequence[float] | None, name: str, region: str) -> Any:
    """Put the mark at a RAS position of the world, or take it away for None; return its node, None before the first."""
    if position is None:
        node = keeper.find("vtkMRMLMarkupsFiducialNode", "selection-mark")
        if node is not None:
            node.SetDisplayVisibility(False)
        return node
    node = keeper.get("vtkMRMLMarkupsFiducialNode", "selection-mark", "Strongest voxel of what is selected")
    here, inside = structure(name).name, structure(region).name if region and region != name else ""
    changing = node.StartModify()
    node.RemoveAllControlPoints()
    node.AddControlPoint(
        *(float(part) for part in position), f"strongest for {here}" + (f" in {inside}" if inside else "")
    )
    node.SetLocked(True)
    display = keeper.display(node, "vtkMRMLMarkupsFiducialDisplayNode")
    display.SetGlyphScale(1.6)
    display.SetTextScale(2.6)
    display.SetPropertiesLabelVisibility(False)
    display.SetPointLabelsVisibility(True)
    for paint in (display.SetColor, display.SetSelectedColor, display.SetActiveColor):
        paint(0.1, 1.0, 0.9)
    node.SetDisplayVisibility(True)
    node.EndModify(changing)
    return node


def emphasise(keeper: NodeKeeper, node: Any, identifiers: Sequence[str]) -> None:
    """Draw the outlines of some segments of a segmentation thick, and those of no others: by a display node of its own."""
    display = next((one for one in displays(node) if one.GetAttribute(EMPHASIS)), None)
    if display is None:
        if not identifiers:
            return
        display = keeper.scene.AddNewNodeByClass("vtkMRMLSegmentationDisplayNode")
        display.SetAttribute(EMPHASIS, "1")
        display.SetVisibility3D(False)
        display.SetVisibility2DFill(False)
        display.SetSliceIntersectionThickness(THICK)
        node.AddAndObserveDisplayNodeID(display.GetID())
    changing = display.StartModify()
    for identifier in node.GetSegmentation().GetSegmentIDs():
        display.SetSegmentVisibility(identifier, identifier in identifiers)
    display.SetVisibility(bool(identifiers))
    display.EndModify(changing)


def displays(node: Any) -> list[Any]:
    """Return the display nodes of a node."""
    found = (node.GetNthDisplayNode(index) for index in range(node.GetNumberOfDisplayNodes()))
    return [one for one in found if one is not None]
