"""Segments coloured by how unusual their explanation is against a reference cohort."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from Agg2ExpLib.scene import segments
from Agg2ExpLib.scene.colours import LEVELS, colour_ramp, fill_table
from Agg2ExpLib.scene.legend import carry_legend, hide_legend
from Agg2ExpLib.scene.nodes import NodeKeeper, told_by
from Agg2ExpLib.scene.saved import SavedExplanation

#: Blue up to the limit, white at it, orange to red beyond: people who do not tell red from green tell these apart.
RAMP = "signed"
#: Twice as far from the median as the limit, and what is farther, has the last colour.
TOP = 2.0
TITLE = "how unusual\n0 as most\n1 the limit\n2 far beyond"


def keeper_of(saved: SavedExplanation) -> NodeKeeper:
    """Return what keeps an explanation's nodes, also when its folder is gone."""
    return NodeKeeper(saved.anchor.GetScene(), told_by(saved.anchor))


def colour_by_anomaly(saved: SavedExplanation, distances: Mapping[str, float]) -> None:
    """Colour the predicted structures and show the legend; structures without a distance are grey.

    Parameters
    ----------
    saved : SavedExplanation
        In its scene.
    distances : mapping of str to float
        Structure -> distance from usual: 0 is the reference's median, 1 the limit beyond which it is called unusual.
    """
    node, keeper = saved.segmentation_node, keeper_of(saved)
    if node is None:
        return
    values = {name: max(value, 0.0) for name, value in distances.items()}
    segments.colour_by_value(node, saved.key, values, TOP, RAMP)
    hide_legend(keeper, "importance-legend")
    table = keeper.get("vtkMRMLColorTableNode", "anomaly-colours", "How unusual, colours")
    fill_table(table, colour_ramp(RAMP), np.ones(LEVELS), (0.0, TOP))
    carry_legend(keeper, "anomaly-legend", "How unusual, legend", table, TOP, TITLE)


def colour_by_structure(saved: SavedExplanation) -> None:
    """Give the segments their structures' own colours back and hide the legend."""
    node: Any = saved.segmentation_node
    if node is not None:
        segments.colour_by_structure(node, saved.key)
    hide_anomaly_legend(saved)


def hide_anomaly_legend(saved: SavedExplanation) -> None:
    """Hide the legend, because something else colours the segments now."""
    hide_legend(keeper_of(saved), "anomaly-legend")
