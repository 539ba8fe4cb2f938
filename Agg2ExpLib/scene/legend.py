"""The colour legend of segments that are coloured by importance.

A segmentation's display holds a colour per segment and no range, so a model without points carries table, range and legend.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.scene.colours import LEVELS, colour_ramp, fill_table, show_legend
from Agg2ExpLib.scene.nodes import CLASS, MEASURE, NodeKeeper
from Agg2ExpLib.scene.tables import TITLES


def show_importance_legend(keeper: NodeKeeper, name: str | None, measure: str, top: float) -> Any:
    """Show the legend for a class and a measure, or hide it for None; return the node that carries it."""
    if name is None:
        for node in keeper.all("vtkMRMLModelNode", "importance-legend"):
            node.SetDisplayVisibility(False)
            show_legend(node.GetDisplayNode(), "", visible=False, right=False)
        return None
    from vtkmodules.vtkCommonDataModel import vtkPolyData

    table = keeper.get("vtkMRMLColorTableNode", "importance-colours", "Importance of segments, colours")
    fill_table(table, colour_ramp("importance"), np.ones(LEVELS), (0.0, top))
    node = keeper.get("vtkMRMLModelNode", "importance-legend", "Importance of segments, legend")
    node.SetAttribute(CLASS, name)
    node.SetAttribute(MEASURE, measure)
    node.SetAndObservePolyData(vtkPolyData())
    display = keeper.display(node, "vtkMRMLModelDisplayNode")
    display.SetAndObserveColorNodeID(table.GetID())
    display.SetScalarRangeFlag(display.UseManualScalarRange)
    display.SetScalarRange(0.0, top)
    display.SetScalarVisibility(True)
    display.SetVisibility(True)
    display.SetVisibility2D(True)
    show_legend(display, f"segments: {structure(name).name}\n{TITLES[measure]}", right=False)
    return node
