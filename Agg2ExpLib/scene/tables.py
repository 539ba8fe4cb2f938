"""The importance table, and per class a chart of the regions that matter most, as MRML table and plot nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.scene.nodes import NodeKeeper
from Agg2ExpLib.scene.segments import unit_colour

if TYPE_CHECKING:
    from Agg2ExpLib.importance import ImportanceTable

#: Measure -> (column name, what it says in one sentence).
COLUMNS = {
    "mass": ("Share", "Share of the attribution that lies in the region (mass accuracy), 0 to 1"),
    "enrichment": ("Enrichment", "Share of the attribution over share of the volume: 1 is as any region of that size"),
    "positive": ("Positive share", "Share of the positive attributions that lies in the region, 0 to 1"),
    "negative": ("Negative share", "Share of the negative attributions that lies in the region, 0 to 1"),
    "mean_density": ("Mean strength", "Mean |attribution| in the region"),
    "voxels": ("Voxels", "Voxels of the region on the model's grid"),
}
#: Measures that a region can be coloured, drawn or charted by.
SHOWN_MEASURES = ("mass", "enrichment")
# Width of a bar: eight fit a narrow plot.
_BAR_PIXELS = 16
#: Of a chart's title: a long name is whole in a plot of 420 pixels.
TITLE_SIZE = 14
TITLES = {"mass": "share of the attribution", "enrichment": "times an average region of its size"}


def legend_text(title: str, measure: str) -> str:
    """Return the title of a colour legend, in short lines that do not cover the picture."""
    words = {"mass": "share of\nattribution", "enrichment": "times an\naverage region"}
    return f"{title}\n{words[measure]}"


def check_measure(measure: str) -> str:
    """Return the measure if regions can be shown by it, else raise :class:`~Agg2ExpLib.errors.InputError`."""
    if measure not in SHOWN_MEASURES:
        raise InputError(f"regions cannot be shown by {measure!r}; use {' or '.join(SHOWN_MEASURES)}")
    return measure


def row_of(table: ImportanceTable, name: str, measure: str) -> dict[str, float]:
    """Return region -> value of one explained class."""
    if name not in table.classes:
        raise InputError(f"{name!r} is not an explained class; there are {', '.join(table.classes)}")
    values = table.matrix(measure)[table.classes.index(name)]
    return {roi: float(value) for roi, value in zip(table.rois, values, strict=True)}


def strongest(
    table: ImportanceTable, name: str, measure: str, count: int, without: Sequence[str] = ()
) -> list[tuple[str, float]]:
    """Return the ``count`` regions of greatest importance for a class, strongest first; NaN and 0 never count."""
    row = row_of(table, name, measure)
    known = [(roi, value) for roi, value in row.items() if np.isfinite(value) and value > 0 and roi not in without]
    return sorted(known, key=lambda item: -item[1])[:count]


def table_node(keeper: NodeKeeper, table: ImportanceTable) -> Any:
    """Make or update the importance table: one row per explained class and region, every measure."""
    node = keeper.get("vtkMRMLTableNode", "table", "RoI importance")
    texts = {
        "Class": [structure(name).name for name in table.classes for _ in table.rois],
        "Region": [structure(roi).name for _ in table.classes for roi in table.rois],
        "Class id": [name for name in table.classes for _ in table.rois],
        "Region id": [roi for _ in table.classes for roi in table.rois],
    }
    numbers = {COLUMNS[measure][0]: table.matrix(measure).ravel() for measure in COLUMNS}
    fill_columns(node, texts, numbers)
    for measure, (column, sentence) in COLUMNS.items():
        node.SetColumnDescription(column, sentence)
        node.SetColumnProperty(column, "measure", measure)
    return node


def readable_node(keeper: NodeKeeper, table: ImportanceTable, name: str) -> Any:
    """Make or update the table of one explained class: region, share and enrichment as people read them, largest first."""
    share, enrichment = row_of(table, name, "mass"), row_of(table, name, "enrichment")
    known = sorted((roi for roi in share if np.isfinite(share[roi])), key=lambda roi: -share[roi])
    node = keeper.get("vtkMRMLTableNode", "readable-table", f"What {structure(name).name} relied on", Class=name)
    texts = {
        "Region": [structure(roi).name for roi in known],
        "Share": [f"{100 * share[roi]:.1f} %" for roi in known],
        "For its size": [f"{enrichment[roi]:.1f} x" if np.isfinite(enrichment[roi]) else "-" for roi in known],
    }
    fill_columns(node, texts, {})
    return node


def chart_nodes(keeper: NodeKeeper, table: ImportanceTable, name: str, measure: str, count: int = 8) -> Any:
    """Make or update the bar chart of the regions that matter most for a class; return the chart node.

    Each region is a series with one bar in its structure's colour, named in the legend by its rank, which is written under it:
    Slicer's plots write numbers there and no names. Background is left out: it holds most of every row and would press all other
    bars flat.
    """
    check_measure(measure)
    best = strongest(table, name, measure, count, without=("background",))
    readable, title = structure(name).name, TITLES[measure]
    marks = {"Class": name, "Measure": measure}
    data = keeper.get("vtkMRMLTableNode", "chart-table", f"{readable}, {COLUMNS[measure][0].lower()}", **marks)
    # A bar is a thick line from 0: bars of Slicer's plots stand around 0 of an axis that says nothing.
    ranks = {f"Rank {rank}": np.array([rank, rank], dtype=float) for rank in range(1, len(best) + 1)}
    fill_columns(data, {}, ranks | {structure(roi).name: np.array([0.0, value]) for roi, value in best})
    chart = keeper.get("vtkMRMLPlotChartNode", "chart", f"What {readable} relied on, {title}", **marks)
    chart.RemoveAllPlotSeriesNodeIDs()
    for rank, (roi, _) in enumerate(best, start=1):
        series = keeper.get("vtkMRMLPlotSeriesNode", "chart-series", structure(roi).name, **marks, Rank=str(rank))
        series.SetName(f"{rank}  {structure(roi).name}")
        series.SetAndObserveTableNodeID(data.GetID())
        series.SetPlotType(series.PlotTypeScatter)
        series.SetMarkerStyle(series.MarkerStyleNone)
        series.SetLineStyle(series.LineStyleSolid)
        series.SetLineWidth(_BAR_PIXELS)
        series.SetXColumnName(f"Rank {rank}")
        series.SetYColumnName(structure(roi).name)
        series.SetColor(*unit_colour(roi))
        chart.AddAndObservePlotSeriesNodeID(series.GetID())
    chart.SetTitle(f"What {readable} relied on")
    chart.SetTitleFontSize(TITLE_SIZE)
    chart.SetXAxisTitleVisibility(True)
    chart.SetXAxisTitle("rank, named in the legend")
    # The legend stands at the top right, over the lowest bars.
    chart.SetXAxisRangeAuto(False)
    chart.SetXAxisRange(0.4, len(best) + 0.6)
    chart.SetYAxisRangeAuto(False)
    chart.SetYAxisRange(0.0, 1.08 * best[0][1] if best else 1.0)
    chart.SetYAxisTitle(title)
    chart.SetLegendVisibility(True)
    return chart


def fill_columns(node: Any, texts: dict[str, list[str]], numbers: dict[str, np.ndarray]) -> None:
    """Fill a table node with columns of words and then of numbers, all of one length; it is locked."""
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkCommonCore import vtkStringArray
    from vtkmodules.vtkCommonDataModel import vtkTable

    filled = vtkTable()
    for title, words in texts.items():
        column = vtkStringArray()
        column.SetName(title)
        column.SetNumberOfValues(len(words))
        for index, word in enumerate(words):
            column.SetValue(index, word)
        filled.AddColumn(column)
    for title, values in numbers.items():
        column = numpy_to_vtk(np.ascontiguousarray(values, dtype=np.float64), deep=True)
        column.SetName(title)
        filled.AddColumn(column)
    node.SetAndObserveTable(filled)
    node.SetUseColumnTitleAsColumnHeader(True)
    node.SetLocked(True)


def table_from_node(node: Any) -> ImportanceTable:
    """Return the importance table that a table node of ours holds, for instance in a saved scene.

    Raises
    ------
    InputError
        The node holds another table.
    """
    from Agg2ExpLib.importance import ImportanceTable

    found = node.GetTable()
    columns = {
        title: found.GetColumnByName(title) for title in ("Class id", "Region id", *(c for c, _ in COLUMNS.values()))
    }
    lacking = [title for title, column in columns.items() if column is None]
    if lacking:
        raise InputError(f"the table {node.GetName()!r} has no column {lacking[0]!r}; show the explanation again")
    rows = range(found.GetNumberOfRows())
    classes = tuple(dict.fromkeys(str(columns["Class id"].GetValue(row)) for row in rows))
    rois = tuple(dict.fromkeys(str(columns["Region id"].GetValue(row)) for row in rows))
    if len(classes) * len(rois) != len(rows):
        raise InputError(f"the table {node.GetName()!r} lacks rows; show the explanation again")
    # A table read from a file may hold its numbers as text.
    values = {
        measure: np.array([_number(columns[column].GetValue(row)) for row in rows]).reshape(len(classes), len(rois))
        for measure, (column, _) in COLUMNS.items()
    }
    return ImportanceTable(classes, rois, values)


def _number(cell: float | str) -> float:
    return float(cell) if cell != "" else float("nan")
