"""The picture of a comparison: one panel per measure, one line per method, one dot per class and case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.comparison.table import RANDOMISATION, QualityTable, Summary
from Agg2ExpLib.figures.style import colour_of, drawing, new_figure
from Agg2ExpLib.figures.writing import rendered

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PANELS = {
    "faithfulness": ("Faithfulness", "correlation; higher is better"),
    "sensitivity": ("Sensitivity", "change under noise; lower is better"),
    "complexity": ("Complexity", "share of strong voxels; lower is better"),
    "efficiency": ("Time", "seconds per class; lower is better"),
    RANDOMISATION: ("Random weights", "rank correlation with trained;\n1 is no difference"),
}
# Values that differ more than so many times are shown on a logarithmic scale.
_LOG_FROM = 30.0
# Correlations, whose scale is theirs.
_LINEAR = ("faithfulness", RANDOMISATION)
# Structures of one system have colours alike, so that shapes tell them apart too; the mean has the diamond.
_SHAPES = "os^v<>pPX"


def draw(table: QualityTable, summary: Summary, names: Mapping[str, str]) -> bytes:
    """Return the picture as PNG.

    Parameters
    ----------
    table : QualityTable
        The dots.
    summary : Summary
        The means with their intervals.
    names : mapping of str to str
        Readable names of the methods.
    """
    with drawing("light"):
        return rendered(_figure(table, summary, names))


def _figure(table: QualityTable, summary: Summary, names: Mapping[str, str]) -> Figure:
    methods, measures = list(summary.cells), summary.measures
    labels = list(dict.fromkeys(row.label for row in table.rows))
    height = 1.9 + 0.42 * len(methods)
    figure = new_figure(1.7 + 2.5 * len(measures), height)
    axes = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    for axis, measure in zip(axes, measures, strict=True):
        _panel(axis, table, summary, measure, methods, labels)
    axes[0].set_yticks(range(len(methods)), [names.get(method, method) for method in methods], fontsize=9)
    axes[0].set_ylim(len(methods) - 0.5, -0.5)
    from matplotlib.lines import Line2D

    marks = [
        Line2D(
            [],
            [],
            marker=_SHAPES[number % len(_SHAPES)],
            linestyle="",
            color=colour_of(label),
            markeredgecolor="0.3",
            label=structure(label).name,
        )
        for number, label in enumerate(labels)
    ]
    marks.append(Line2D([], [], marker="D", linestyle="-", color="black", label="mean, 95 % interval"))
    columns = max(1, min(len(marks), 2 * len(measures)))
    lines = -(-len(marks) // columns)
    figure.legend(handles=marks, loc="lower center", ncols=columns, fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, min(0.05 + 0.22 * lines / height, 0.5), 1, 1))
    return figure


def _panel(
    axis: Any, table: QualityTable, summary: Summary, measure: str, methods: list[str], labels: list[str]
) -> None:
    title, words = _PANELS[measure]
    rows = [row for row in table.rows if row.measure == measure and np.isfinite(row.value)]
    values = np.array([row.value for row in rows])
    for row in rows:
        # Classes side by side within a method's line, so that equal values stay visible.
        number = labels.index(row.label)
        offset = 0.0 if len(labels) < 2 else 0.5 * (number / (len(labels) - 1) - 0.5)
        shape = _SHAPES[number % len(_SHAPES)]
        height = methods.index(row.method) + offset
        axis.plot(row.value, height, shape, ms=4.5, color=colour_of(row.label), mec="0.3", mew=0.4)
    for line, method in enumerate(methods):
        cell = summary.cells[method].get(measure)
        if cell:
            if np.isfinite([cell.low, cell.high]).all():
                axis.plot([cell.low, cell.high], [line, line], color="black", lw=1.6, zorder=3)
            axis.plot(cell.mean, line, "D", ms=5.5, color="black", mec="white", mew=0.7, zorder=4)
    if measure in _LINEAR:
        axis.axvline(0, color="0.6", lw=0.8, zorder=0)
    elif len(values) and values.min() > 0 and values.max() > _LOG_FROM * values.min():
        axis.set_xscale("log")
    for line in range(len(methods) - 1):
        axis.axhline(line + 0.5, color="0.9", lw=0.8, zorder=0)
    axis.set_title(title, fontsize=10, fontweight="bold")
    axis.set_xlabel(words, fontsize=8)
    axis.tick_params(axis="x", labelsize=8)
    axis.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
