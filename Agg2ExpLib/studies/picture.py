"""The phantom study's figure: areas under the curve, correlations with Dice, and scores against severity."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.cohort.judge.baselines import FOREST
from Agg2ExpLib.cohort.report.pictures import COLOURS, MARKS, sheet
from Agg2ExpLib.figures.style import Theme, drawing
from Agg2ExpLib.figures.writing import rendered
from Agg2ExpLib.studies.measures import MEAN, MEAN_OF_RANKS, Line


def study_picture(found: Mapping[str, Any], names: Mapping[str, str]) -> bytes:
    """Draw the results as PNG.

    Parameters
    ----------
    found : mapping
        From :func:`Agg2ExpLib.studies.phantom_study.evaluate`.
    names : mapping of str to str
        Detectors as people call them.
    """
    with drawing("light") as theme:
        structures = list(dict.fromkeys(one.structure for one in found["lines"]))
        figure, grid = sheet(13.0, 1.9 + 0.42 * max(len(structures), 5), 3)
        left, middle, right = grid.flat
        _dots(left, found["lines"], structures, names, theme, ("auroc", "low", "high"))
        left.axvline(0.5, color=theme.faint, linewidth=0.8, zorder=0)
        left.set_xlim(-0.03, 1.03)
        left.set_xlabel("AUROC for a finding near (95 % interval); line: chance")
        left.set_title("Does the score tell where a finding is near?", fontsize=10, loc="left")
        _dots(middle, found["lines"], structures, names, theme, ("rho", "rho_low", "rho_high"))
        middle.axvline(0.0, color=theme.faint, linewidth=0.8, zorder=0)
        middle.set_yticklabels([])
        middle.set_xlim(-1.06, 1.06)
        middle.set_xticks((-1.0, -0.5, 0.0, 0.5, 1.0))
        middle.set_xlabel("Spearman rho with Dice (95 % interval)")
        middle.set_title("Do odd explanations have a lower Dice?", fontsize=10, loc="left")
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=len(labels), fontsize=8)
        _severities(right, found, theme)
        return rendered(figure, "png", 110)


def _dots(
    axes: Any,
    lines: Sequence[Line],
    structures: Sequence[str],
    names: Mapping[str, str],
    theme: Theme,
    what: Sequence[str],
) -> None:
    step = 0.72 / max(len(names), 1)
    for row in range(1, len(structures), 2):
        axes.axhspan(row - 0.5, row + 0.5, color=theme.absent, alpha=0.25, linewidth=0)
    for number, (detector, name) in enumerate(names.items()):
        some = [one for one in lines if one.detector == detector]
        rows = np.array([structures.index(one.structure) for one in some]) + (number - (len(names) - 1) / 2) * step
        values, low, high = np.array([[getattr(one, part) for part in what] for one in some]).T
        reach = np.nan_to_num([values - low, high - values])
        axes.errorbar(values, rows, xerr=np.maximum(reach, 0.0), fmt=MARKS[number], color=COLOURS[number], markersize=4,
                      linewidth=0.9, label=name)  # fmt: skip
    for row, name in enumerate(structures):
        if not any(np.isfinite(getattr(one, what[0])) for one in lines if one.structure == name):
            told = "near all or none" if what[0] == "auroc" else "nothing to compare"
            axes.text(0.5, row, told, size=7, color=theme.soft, ha="center", va="center",
                      transform=axes.get_yaxis_transform(), bbox={"facecolor": theme.paper, "edgecolor": "none"})  # fmt: skip
    shown = [name if name in (MEAN, MEAN_OF_RANKS) else structure(name).name for name in structures]
    axes.set_yticks(range(len(structures)), [textwrap.fill(name, 24) for name in shown])
    axes.set_ylim(len(structures) - 0.5, -0.5)


def _severities(axes: Any, found: Mapping[str, Any], theme: Theme) -> None:
    """The forest's mean score of each new patient over the severity of the finding; healthy ones at 0."""
    table, scores = found["table"], found["matrices"][FOREST]
    known = np.isfinite(scores).any(axis=1)
    means = np.array([row[np.isfinite(row)].mean() if np.isfinite(row).any() else np.nan for row in scores])
    kinds = [found["findings"][case].get("kind", "") for case in table.cases]
    severities = np.array([float(found["findings"][case].get("severity", 0.0)) for case in table.cases])
    for number, kind in enumerate(["", *sorted(set(kinds) - {""})]):
        some = known & (np.array(kinds) == kind)
        if some.any():
            name = structure(kind).name if kind else "healthy"
            # Findings are all black in the table of structures; here they have to be told apart.
            colour = theme.faint if not kind else COLOURS[number % len(COLOURS)]
            axes.scatter(
                severities[some], means[some], s=26, marker=MARKS[number % len(MARKS)], color=colour, label=name
            )
    axes.set_xlabel("severity of the finding (healthy: 0)")
    axes.set_ylabel("mean score of the isolation forest")
    axes.set_title("Does the score grow with the finding?", fontsize=10, loc="left")
    axes.legend(fontsize=7.5)
