"""The anomaly scores of a reference cohort with this patient among them, as an MRML plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.scene.nodes import NodeKeeper
from Agg2ExpLib.scene.tables import TITLE_SIZE, fill_columns

#: Colours of the reference, this patient and the limit, 0 to 1: told apart by lightness too.
REFERENCE, PATIENT, LIMIT = (0.36, 0.51, 0.70), (0.86, 0.37, 0.0), (0.35, 0.35, 0.35)
_COLUMNS = 36
_SCORE, _COUNT = "Anomaly score", "Reference cases"


def stacked(scores: Sequence[float], columns: int = _COLUMNS) -> list[tuple[float, int]]:
    """Return where the dot of each score stands: the score itself, and how many dots of its column lie under it, from 1.

    Parameters
    ----------
    scores : sequence of float
        In any order.
    columns : int
        Columns from the least score to the greatest.

    Examples
    --------
    >>> stacked([0.1, 0.101, 0.9])
    [(0.1, 1), (0.101, 2), (0.9, 1)]
    """
    if not scores:
        return []
    low, span = min(scores), max(scores) - min(scores)
    heights: dict[int, int] = {}
    dots = []
    for score in sorted(scores):
        column = min(int((score - low) / span * columns), columns - 1) if span > 0 else 0
        heights[column] = heights.get(column, 0) + 1
        dots.append((score, heights[column]))
    return dots


def reference_chart(
    keeper: NodeKeeper,
    name: str,
    scores: Sequence[float],
    score: float,
    threshold: float,
    cases: int,
    percentile: float,
) -> Any:
    """Make or update the plot of one structure; return the vtkMRMLPlotChartNode.

    Parameters
    ----------
    keeper : NodeKeeper
        The explanation's nodes.
    name : str
        The structure.
    scores : sequence of float
        Held-out anomaly scores of reference cases.
    score, threshold : float
        This patient's, and the one above which a structure is called unusual.
    cases : int
        Reference cases; more than there are scores when these are a selection.
    percentile : float
        Percent of the reference that is no more unusual.
    """
    dots = stacked(scores)
    top = max(height for _, height in dots) + 1.0
    each = "each dot one" if cases <= len(scores) else f"each dot about {round(cases / len(scores))}"
    parts = (
        ("cases", f"{cases} reference cases, {each}", dots, REFERENCE),
        ("patient", f"this patient: {score:.3f}, percentile {int(percentile)}", [(score, 0.0), (score, top)], PATIENT),
        ("limit", f"unusual above {threshold:.3f}", [(threshold, 0.0), (threshold, top)], LIMIT),
    )
    readable = structure(name).name
    chart = keeper.get("vtkMRMLPlotChartNode", "reference-chart", f"How unusual is {readable}", Class=name)
    chart.RemoveAllPlotSeriesNodeIDs()
    for mode, title, points, colour in parts:
        series = _series(keeper, name, mode, title, points)
        series.SetColor(*colour)
        chart.AddAndObservePlotSeriesNodeID(series.GetID())
    chart.SetTitle(f"How unusual is what {readable} relied on?")
    chart.SetTitleFontSize(TITLE_SIZE)
    chart.SetXAxisTitle("anomaly score (higher is more unusual)")
    chart.SetYAxisTitle("reference cases")
    chart.SetLegendVisibility(True)
    chart.SetYAxisRangeAuto(False)
    # The legend stands at the top, above dots and lines.
    chart.SetYAxisRange(0.0, 1.5 * top)
    return chart


def _series(keeper: NodeKeeper, name: str, mode: str, title: str, points: Sequence[tuple[float, float]]) -> Any:
    data = keeper.get("vtkMRMLTableNode", "reference-table", f"{structure(name).name}, {mode}", Class=name, Mode=mode)
    values = np.array(points, dtype=float).reshape(-1, 2)
    fill_columns(data, {}, {_SCORE: values[:, 0], _COUNT: values[:, 1]})
    series = keeper.get("vtkMRMLPlotSeriesNode", "reference-series", title, Class=name, Mode=mode)
    # The legend shows the name, which holds this patient's numbers.
    series.SetName(title)
    series.SetAndObserveTableNodeID(data.GetID())
    series.SetPlotType(series.PlotTypeScatter)
    series.SetXColumnName(_SCORE)
    series.SetYColumnName(_COUNT)
    series.SetMarkerStyle(series.MarkerStyleCircle if mode == "cases" else series.MarkerStyleNone)
    series.SetMarkerSize(7)
    series.SetLineStyle(
        {"cases": series.LineStyleNone, "patient": series.LineStyleSolid, "limit": series.LineStyleDash}[mode]
    )
    series.SetLineWidth(4 if mode == "patient" else 2)
    return series
