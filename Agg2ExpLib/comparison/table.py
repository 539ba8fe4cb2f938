"""Measured values as tables: one row per value, and the paper's Table 1 with one row per method. Numpy alone."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from Agg2ExpLib.quality import MEASURES, bootstrap

LONG_COLUMNS = ("case", "method", "class", "measure", "value", "low", "high")
#: Beside the four measures: similarity to the attribution of the network with random weights.
RANDOMISATION = "randomisation"
# Resampling fewer cases than this says nothing about other cases.
_ENOUGH_CASES = 5
_SHOWN = {name: (title, up) for name, (title, up, _) in MEASURES.items()} | {RANDOMISATION: ("random weights", False)}


@dataclass(frozen=True)
class Row:
    """One value: of a case, a method, a class and a measure, with its 95 % interval (NaN where there is none)."""

    case: str
    method: str
    label: str
    measure: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Cell:
    """A measure of a method over cases and classes: mean, standard deviation, 95 % interval of the mean, and count."""

    mean: float
    spread: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Summary:
    """The paper's Table 1: method -> measure -> cell.

    Attributes
    ----------
    cells : dict
        Cells of every method and measure that there are values of.
    cases, classes : int
        How many the means are over.
    """

    cells: dict[str, dict[str, Cell]]
    cases: int
    classes: int

    @property
    def measures(self) -> list[str]:
        """Measures that some method has, in order."""
        return [name for name in _SHOWN if any(name in row for row in self.cells.values())]

    def to_csv(self) -> str:
        """One row per method; for each measure its mean, spread, interval and count."""
        parts = ("mean", "sd", "low", "high", "n")
        lines = [["method", *(f"{name}_{part}" for name in self.measures for part in parts)]]
        for method, row in self.cells.items():
            numbers: list[str] = []
            for name in self.measures:
                cell = row.get(name)
                numbers += (
                    [*map(_text, (cell.mean, cell.spread, cell.low, cell.high)), str(cell.count)] if cell else [""] * 5
                )
            lines.append([method, *numbers])
        return _csv(lines)

    def to_markdown(self, closing: str = "") -> str:
        """Return the table to read: mean ± standard deviation, the best mean of each measure in bold."""
        heads = [f"{_SHOWN[name][0]} {'↑' if _SHOWN[name][1] else '↓'}" for name in self.measures]
        lines = ["| method | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
        best = {name: self._best(name) for name in self.measures}
        for method, row in self.cells.items():
            shown = []
            for name in self.measures:
                cell = row.get(name)
                text = f"{_short(cell.mean)} ± {_short(cell.spread)}" if cell else "–"
                shown.append(f"**{text}**" if cell and method == best[name] else text)
            lines.append(f"| {method} | " + " | ".join(shown) + " |")
        words = [
            f"{self.cases} case{'s' if self.cases > 1 else ''}, {self.classes} classes; mean ± standard deviation."
        ]
        words.append(
            f"95 % intervals (CSV, figure): bootstrap over cases; below {_ENOUGH_CASES} cases, over all values alike."
        )
        words += [f"{title}: {text}." for title, _, text in MEASURES.values()]
        if RANDOMISATION in self.measures:
            words.append(
                "random weights: rank correlation of |attribution| with that of the same network with random weights; "
                "near 1 would mean that the method does not look at what the network has learnt."
            )
        return "\n".join([*lines, "", " ".join(words), *(["", closing] if closing else []), ""])

    def _best(self, name: str) -> str:
        means = {method: row[name].mean for method, row in self.cells.items() if name in row}
        finite = {method: mean for method, mean in means.items() if math.isfinite(mean)}
        if not finite or name == RANDOMISATION:
            return ""
        return (max if _SHOWN[name][1] else min)(finite, key=lambda method: finite[method])


@dataclass(frozen=True)
class QualityTable:
    """Every measured value, in the order of cases and methods."""

    rows: list[Row]

    def to_long_csv(self) -> str:
        """One row per value (:data:`LONG_COLUMNS`)."""
        lines = [
            [row.case, row.method, row.label, row.measure, *map(_text, (row.value, row.low, row.high))]
            for row in self.rows
        ]
        return _csv([list(LONG_COLUMNS), *lines])

    def summary(self, methods: Sequence[str], seed: int = 0) -> Summary:
        """Return means over cases and classes. The bootstrap resamples cases; where they are few, all values alike."""
        cells: dict[str, dict[str, Cell]] = {}
        for method in methods:
            row = {}
            for measure in _SHOWN:
                mine = [r for r in self.rows if (r.method, r.measure) == (method, measure) and math.isfinite(r.value)]
                if mine:
                    row[measure] = _cell(mine, seed)
            if row:
                cells[method] = row
        return Summary(cells, len({row.case for row in self.rows}), len({row.label for row in self.rows}))


def _cell(rows: Sequence[Row], seed: int) -> Cell:
    values = np.array([row.value for row in rows])
    cases = [row.case for row in rows]
    units = cases if len(set(cases)) >= _ENOUGH_CASES else [f"{row.case}/{row.label}" for row in rows]
    groups = [values[[unit == one for unit in units]] for one in dict.fromkeys(units)]
    sums, counts = np.array([one.sum() for one in groups]), np.array([len(one) for one in groups])
    interval = bootstrap(lambda rows: sums[rows].sum(axis=-1) / counts[rows].sum(axis=-1), len(groups), seed)
    # Equal values have no spread; their deviation from a rounded mean is none.
    spread = (float(values.std(ddof=1)) if np.ptp(values) else 0.0) if len(values) > 1 else float("nan")
    return Cell(float(values.mean()), spread, interval.low, interval.high, len(values))


def _csv(lines: Sequence[Sequence[str]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(lines)
    return stream.getvalue()


def _text(value: float) -> str:
    return "nan" if math.isnan(value) else repr(float(value))


def _short(value: float) -> str:
    """Three significant digits, without an exponent where people do not expect one.

    Examples
    --------
    >>> _short(0.12345), _short(12.345), _short(0.00001234)
    ('0.123', '12.3', '1.23e-05')
    """
    return "–" if math.isnan(value) else f"{value:.3g}"
