"""A comparison in words and numbers for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from Agg2ExpLib.comparison.plan import Plan
from Agg2ExpLib.comparison.table import RANDOMISATION

if TYPE_CHECKING:
    from Agg2ExpLib.comparison.run import Comparison

_HEADS = {
    "faithfulness": "faithful, up",
    "sensitivity": "sensitive, down",
    "complexity": "complex, down",
    "efficiency": "seconds, down",
    RANDOMISATION: "random weights",
}


def describe(found: Comparison, plan: Plan) -> str:
    """Return what a person wants to read after a comparison: the table, the passes saved, and what failed."""
    from Agg2ExpLib.comparison.run import passes_sentence

    summary = found.table.summary([spec.name for spec in plan.specs])
    width = max(len(name) for name in summary.cells) + 2
    lines = [
        f"Quality of attributions: mean (standard deviation) over {summary.cases} case{'s' if summary.cases > 1 else ''} "
        f"and {summary.classes} classes",
        " " * width + "".join(f"{_HEADS[name]:>21}" for name in summary.measures),
    ]
    for method, row in summary.cells.items():
        cells = [f"{row[name].mean:.3g} ({row[name].spread:.2g})" if name in row else "-" for name in summary.measures]
        lines.append(f"{method:<{width}}" + "".join(f"{cell:>21}" for cell in cells))
    lines += ["", plan.mask_sentence, passes_sentence(found)]
    if RANDOMISATION in summary.measures:
        lines.append(
            "random weights: rank correlation with the attributions of the same network with random weights; "
            "1 is no difference."
        )
    lines += [f"note: {text}" for text in found.notes]
    lines += [
        f"failed: {failure['case']}{', ' + failure['method'] if failure['method'] else ''}: {failure['reason']}"
        for failure in found.failures
    ]
    lines += [
        "",
        f"{found.folder}/",
        "  quality_table.md, quality_table.csv   the table, one row per method",
        "  quality_long.csv                      every value: case, method, class, measure",
        "  quality.png                           the picture",
        "  comparison.json                       everything needed to repeat it",
    ]
    return "\n".join(lines)
