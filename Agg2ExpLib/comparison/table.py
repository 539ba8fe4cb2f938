"""Measured values as tables: one row per value, and the paper's Table 1 with one row per method. Numpy alone."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from Agg2ExpLib.quality import MEASURES

LONG_COLUMNS = ("case", "method", "class", "measure", "value", "low", "high")
#: Beside the four measures: similarity to the attribution of the network with random weights.
RANDOMISATION = "randomisation"
# Fewer cases than this say nothing about other cases.
_ENOUGH_CASES = 5
# Corrected p below which a method is called the best one.
_LEVEL = 0.05
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
    best : dict
        Measure -> the method that is better than every other by a test; see :meth:`QualityTable.best`.
    """

    cells: dict[str, dict[str, Cell]]
    cases: int
    classes: int
    best: Mapping[str, str] = field(default_factory=dict)

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
        """Return the table to read: mean ± standard deviation; bold is what a test calls better than every other method."""
        heads = [f"{_SHOWN[name][0]} {'↑' if _SHOWN[name][1] else '↓'}" for name in self.measures]
        lines = ["| method | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
        for method, row in self.cells.items():
            shown = []
            for name in self.measures:
                cell = row.get(name)
                text = f"{_short(cell.mean)} ± {_short(cell.spread)}" if cell else "–"
                shown.append(f"**{text}**" if cell and method == self.best.get(name) else text)
            lines.append(f"| {method} | " + " | ".join(shown) + " |")
        words = [
            f"{self.cases} case{'s' if self.cases > 1 else ''}, {self.classes} classes; mean ± standard deviation."
        ]
        words.append(
            f"95 % intervals (CSV, figure): Student's t over cases; none with fewer than {_ENOUGH_CASES} cases."
        )
        words.append(
            "Bold: better than every other method on the same cases (Wilcoxon's signed-rank test of the cases' means, p below "
            f"{_LEVEL:g} after Holm's correction)."
            if self.best
            else "Bold would be a method that a test calls better than every "
            "other on the same cases (Wilcoxon's signed-rank test, Holm's correction): there is none."
        )
        words += [f"{title}: {text}." for title, _, text in MEASURES.values()]
        if RANDOMISATION in self.measures:
            words.append(
                "random weights: rank correlation of |attribution| with that of the same network with random weights; "
                "near 1 would mean that the method does not look at what the network has learnt."
            )
        return "\n".join([*lines, "", " ".join(words), *(["", closing] if closing else []), ""])


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

    def summary(self, methods: Sequence[str]) -> Summary:
        """Return means over cases and classes; where cases are few, without an interval."""
        cells: dict[str, dict[str, Cell]] = {}
        for method in methods:
            row = {}
            for measure in _SHOWN:
                mine = [r for r in self.rows if (r.method, r.measure) == (method, measure) and math.isfinite(r.value)]
                if mine:
                    row[measure] = _cell(mine)
            if row:
                cells[method] = row
        best = {name: found for name in _SHOWN if name != RANDOMISATION and (found := self.best(name, methods))}
        return Summary(cells, len({row.case for row in self.rows}), len({row.label for row in self.rows}), best)

    def best(self, measure: str, methods: Sequence[str]) -> str:
        """Return the method that is better than every other in a measure; empty where no test says so.

        The cases' means over classes are compared in pairs (Wilcoxon's signed-rank test), the method of the best mean with
        each other; the p-values are corrected after Holm over all pairs of methods, for the best was chosen from the data.
        """
        from scipy import stats

        means: dict[str, dict[str, float]] = {}
        for method in methods:
            mine = [
                row for row in self.rows if (row.method, row.measure) == (method, measure) and math.isfinite(row.value)
            ]
            if mine:
                names = dict.fromkeys(row.case for row in mine)
                means[method] = {name: float(np.mean([r.value for r in mine if r.case == name])) for name in names}
        if len(means) < 2:
            return ""
        common = sorted(set.intersection(*(set(one) for one in means.values())))
        if not common:
            return ""
        table = {method: np.array([one[name] for name in common]) for method, one in means.items()}
        sign = 1.0 if _SHOWN[measure][1] else -1.0
        first = max(table, key=lambda method: sign * table[method].mean())
        p_values = []
        for other, values in table.items():
            gaps = sign * (table[first] - values)
            if other != first:
                p_values.append(float(stats.wilcoxon(gaps).pvalue) if gaps.any() and gaps.mean() > 0 else 1.0)
        pairs = len(table) * (len(table) - 1) // 2
        corrected = [p * (pairs - rank) for rank, p in enumerate(sorted(p_values))]
        return first if max(corrected) < _LEVEL else ""


def _cell(rows: Sequence[Row]) -> Cell:
    """Return mean, spread and interval; the interval is Student's t over cases, of which each may have several values."""
    from scipy import stats

    values = np.array([row.value for row in rows])
    cases = np.unique([row.case for row in rows], return_inverse=True)[1]
    counts = np.bincount(cases)
    mean, low, high = float(values.mean()), float("nan"), float("nan")
    if len(counts) >= _ENOUGH_CASES:
        # How far each case moves the mean.
        moved = (np.bincount(cases, values) - mean * counts) / len(values)
        error = np.sqrt(len(counts) / (len(counts) - 1) * (moved**2).sum())
        half = float(stats.t.ppf(0.975, len(counts) - 1) * error)
        low, high = mean - half, mean + half
    # Equal values have no spread; their deviation from a rounded mean is none.
    spread = (float(values.std(ddof=1)) if np.ptp(values) else 0.0) if len(values) > 1 else float("nan")
    return Cell(mean, spread, low, high, len(values))


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
