"""The part of the cohort's report that sets a class's own share beside what other places of the same size hold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.cohort.judge.intervals import FEWEST_FOR_MEDIAN, median_matrix
from Agg2ExpLib.cohort.judge.reasons import percent, percent_range
from Agg2ExpLib.cohort.judge.size import shell_share, shifted_shares
from Agg2ExpLib.cohort.report.page import Page
from Agg2ExpLib.cohort.table.tables import CohortTable
from Agg2ExpLib.explanation import Explanation

# As few as an interval needs: each class of each takes a fraction of a second.
_CASES, _SHIFTS = FEWEST_FOR_MEDIAN, 100


def write_equal_size(page: Page, table: CohortTable, kept: Mapping[str, Path]) -> None:
    """Write the table, of some cases spread over the cohort; or why there is none."""
    if not kept:
        page.text(
            "What a shell of equal size around the class, or the class's form shifted elsewhere, would hold cannot be told from "
            "a table alone: it takes the attribution volumes (agg2exp cohort --keep).",
            "note",
        )
        return
    cases = [case for case in table.cases if case in kept]
    chosen = [cases[i] for i in np.unique(np.linspace(0, len(cases) - 1, min(_CASES, len(cases))).round().astype(int))]
    found = np.full((len(chosen), len(table.classes), 3), np.nan)
    for row, case in enumerate(chosen):
        found[row] = equal_size_shares(Explanation.load(kept[case]), table.classes)
    middle, low, high = median_matrix(found)
    rows = [
        [structure(name).name, *(_cell(middle[i, k], low[i, k], high[i, k]) for k in range(3))]
        for i, name in enumerate(table.classes)
        if np.isfinite(middle[i]).any()
    ]
    page.text(
        f"Own share beside places of equal size, in {len(chosen)} of {len(table.cases)} cases: a shell of as many voxels right "
        f"around the class, and the class's form shifted to {_SHIFTS} random places of the scan (their mean)."
    )
    header = ["class", "own share (median, 95 % interval)", "shell of equal size", "shifted within the scan"]
    page.table(header, rows)


def equal_size_shares(explanation: Explanation, classes: tuple[str, ...]) -> np.ndarray:
    """Return own share, share of the shell, and mean share of shifted forms, shape (classes, 3); NaN where absent."""
    prediction, found = explanation.model_prediction(), np.full((len(classes), 3), np.nan)
    for row, name in enumerate(classes):
        if name in explanation.explained:
            strength = np.abs(explanation.attribution(name).voxels)
            mask = prediction.voxels == explanation.labels.index(name)
            shifted = shifted_shares(strength, mask, _SHIFTS)
            if len(shifted):
                own = strength[mask].sum(dtype=np.float64) / strength.sum(dtype=np.float64)
                found[row] = own, shell_share(strength, mask, prediction.grid.spacing), shifted.mean()
    return found


def _cell(middle: float, low: float, high: float) -> str:
    if not np.isfinite(middle):
        return "–"
    return percent(middle) + (f" ({percent_range(low, high)})" if np.isfinite(low) else "")
