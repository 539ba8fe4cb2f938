"""Colour legends of what has a colour of its own but no range: segments coloured by importance, a volume rendering.

Their display nodes cannot feed a legend, so a model without points carries the colour table, the range and the legend.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.scene.colours import LEVELS, colour_ramp, fill_table, show_legend
from Agg2ExpLib.scene.nodes import CLASS, MEASURE, NodeKeeper
from Agg2ExpLib.scene.tables import legend_text


def show_importance_legend(keeper: NodeKeeper, name: str | None, measure: str, top: float) -> Any:
    """Show the legend for segments coloured by importance for a class, or hide it for None; return its carrier."""
    if name is None:
        hide_legend(keeper, "importance-legend")
        return None
    table = keeper.get("vtkMRMLColorTableNode", "importance-colours", "Importance of segments, colours")
    fill_table(table, colour_ramp("importance"), np.ones(LEVELS), (0.0, top))
    node = carry_legend(
        keeper,
        "importance-legend",
        "Importance of segments, legend",
        table,
        top,
        legend_text(f"segments, {structure(name).name}", measure),
    )
    node.SetAttribute(CLASS, name)
    node.SetAttribute(MEASURE, measure)
    return node


def carry_legend(
    keeper: NodeKeeper,
    role: str,
    name: str,
    table: Any,
    top: float,
    title: str,
    *,
    flat: bool = True,
) -> Any:
    """Show a legend from 0 to ``top`` at the left edge, carried by a model without points; return the model node.

    Parameters
    ----------
    keeper : NodeKeeper
        The explanation's nodes.
    role, name : str
        Of the model node.
    table : vtkMRMLColorTableNode
        The colours.
    top : float
        What the last colour means.
    title : str
        What the colours mean.
    flat : bool
        In slice views, too.
    """
    from vtkmodules.vtkCommonDataModel import vtkPolyData

    node = keeper.get("vtkMRMLModelNode", role, name)
    node.SetAndObservePolyData(vtkPolyData())
    display = keeper.display(node, "vtkMRMLModelDisplayNode")
    display.SetAndObserveColorNodeID(table.GetID())
    display.SetScalarRangeFlag(display.UseManualScalarRange)
    display.SetScalarRange(0.0, top)
    display.SetScalarVisibility(True)
    display.SetVisibility(True)
    display.SetVisibility2D(flat)
    # Above colours of segments, below a glow: both may be on.
    legend = show_legend(display, title, right=False, up=0.75 if flat else 0.02)
    legend.SetVisibility2D(flat)
    return node


def hide_legend(keeper: NodeKeeper, role: str) -> None:
    """Hide the legend that a model of that role carries."""
    for node in keeper.all("vtkMRMLModelNode", role):
        node.SetDisplayVisibility(False)
        show_legend(node.GetDisplayNode(), "", visible=False)
