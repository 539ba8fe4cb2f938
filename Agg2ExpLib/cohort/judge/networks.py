"""Several networks on the same cases (the paper's Table 3): means with intervals, and one-way analyses of variance."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.cohort.judge.intervals import by_patient
from Agg2ExpLib.cohort.judge.statistics import MeanMatrix, corrected, mean_matrix
from Agg2ExpLib.cohort.table.tables import CohortTable
from Agg2ExpLib.errors import InputError

#: What networks are compared in -> what it is.
MEASURES = {
    "dice": "Dice against the truth",
    "context": "share of a class's attribution outside of the class",
}
_FEWEST, _ROUNDING = 3, 1e-20


@dataclass(frozen=True)
class Variance:
    """A one-way analysis of variance.

    Attributes
    ----------
    f, p : float
        The statistic, and its p.
    share, low, high : float
        Effect size eta squared, the share of the variance that lies between the groups, with its 95 % interval (from the
        noncentral F distribution).
    """

    f: float
    p: float
    share: float
    low: float
    high: float


def one_way(groups: Sequence[np.ndarray]) -> Variance:
    """Analyse groups of values; NaN everywhere where nothing varies.

    Examples
    --------
    >>> found = one_way([np.array([1.0, 2.0, 3.0]), np.array([2.0, 3.0, 4.0])])
    >>> round(found.f, 3), round(found.share, 3)
    (1.5, 0.273)
    """
    from scipy import stats

    values = np.concatenate(groups)
    between = sum(len(one) * (one.mean() - values.mean()) ** 2 for one in groups)
    within = sum(((one - one.mean()) ** 2).sum() for one in groups)
    first, second = len(groups) - 1, len(values) - len(groups)
    # What is left of equal values is rounding.
    if second < 1 or within <= _ROUNDING * (values**2).sum():
        return Variance(*(math.nan,) * 5)
    f = float(between / first / (within / second))
    ends = [_noncentrality(f, first, second, tail) for tail in (0.975, 0.025)]
    low, high = (one / (one + first + second + 1) for one in ends)
    return Variance(f, float(stats.f.sf(f, first, second)), float(between / (between + within)), low, high)


def _noncentrality(f: float, first: int, second: int, tail: float) -> float:
    """Return the noncentrality at which a share ``tail`` of F lies below; 0 where even none has so little, NaN beyond scipy."""
    from scipy import optimize, stats

    if stats.f.cdf(f, first, second) <= tail:
        return 0.0
    most = 1.0
    while stats.ncf.cdf(f, first, second, most) > tail:
        most *= 2.0
    if not math.isfinite(stats.ncf.cdf(f, first, second, most)):
        return math.nan
    return float(optimize.brentq(lambda one: stats.ncf.cdf(f, first, second, one) - tail, 0.0, most))


@dataclass(frozen=True)
class Compared:
    """One measure of one class (empty: the means over the classes) by several networks.

    Attributes
    ----------
    measure, name : str
        A key of :data:`MEASURES`, and the class.
    cases : int
        Cases that every network has a value of; of several scans of a patient the mean is one.
    means : mapping of str to (mean, low, high)
        Per network, with the 95 % interval (Student's t).
    variance : Variance
        Between the networks.
    q : float
        p corrected over all classes of the measure.
    """

    measure: str
    name: str
    cases: int
    means: Mapping[str, tuple[float, float, float]]
    variance: Variance
    q: float = math.nan


@dataclass(frozen=True)
class ModelComparison:
    """Networks compared on the same cases; ``left_out`` cases are not in every cohort."""

    names: tuple[str, ...]
    cases: int
    left_out: int
    rows: tuple[Compared, ...]

    def to_csv(self) -> str:
        """One row per measure and class."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        parts = [f"{name} {part}" for name in self.names for part in ("mean", "low", "high")]
        writer.writerow(["measure", "class", "cases", *parts, "F", "p", "q", "eta2", "eta2 low", "eta2 high"])
        for row in self.rows:
            one = row.variance
            numbers = [value for name in self.names for value in row.means[name]]
            numbers += [one.f, one.p, row.q, one.share, one.low, one.high]
            writer.writerow(
                [row.measure, row.name or "mean over classes", row.cases, *(f"{value:.6g}" for value in numbers)]
            )
        return stream.getvalue()

    def to_markdown(self) -> str:
        """The same to read, one table a measure."""
        parts = []
        for measure, words in MEASURES.items():
            rows = [row for row in self.rows if row.measure == measure]
            if rows:
                head = ["class", "cases", *self.names, "F", "p", "q", "eta² (95 % interval)"]
                lines = [f"### {words[:1].upper() + words[1:]}", "", _line(head), _line(["---"] * len(head))]
                parts.append("\n".join([*lines, *(_line(_cells(row, self.names)) for row in rows)]))
        told = f"{self.cases} cases that every network explained" + (
            f"; {self.left_out} others left out" * bool(self.left_out)
        )
        notes = (
            f"{told}. Means with 95 % intervals over cases; one-way analysis of variance, q corrected over the classes "
            "(Benjamini-Hochberg). Eta² is the share of the variance that lies between the networks. The networks saw the same "
            "cases, which a one-way test does not use: where cases differ more than networks do, it finds less than a paired test."
        )
        return "\n\n".join([*parts, notes]) + "\n"


def compare_models(tables: Mapping[str, CohortTable]) -> ModelComparison:
    """Compare networks on the cases that all of them explained.

    Parameters
    ----------
    tables : mapping of str to CohortTable
        Name of a network -> its cohort.

    Raises
    ------
    InputError
        Fewer than two networks, or too few cases or no class in common.
    """
    if len(tables) < 2:
        raise InputError("one network cannot be compared; give two cohorts or more of the same cases")
    first = next(iter(tables.values()))
    common = [case for case in first.cases if all(case in one.cases for one in tables.values())]
    every = {case for one in tables.values() for case in one.cases}
    if len(common) < _FEWEST:
        raise InputError(
            f"the cohorts have {len(common)} cases in common, and a comparison needs {_FEWEST}; explain the same cases by each"
        )
    classes = [name for name in first.classes if all(name in one.classes for one in tables.values())]
    if not classes:
        raise InputError("the cohorts have no explained class in common; explain the same classes by each network")
    parts = {name: one.select([one.cases.index(case) for case in common]) for name, one in tables.items()}
    patients, rows = next(iter(parts.values())).patients(), []
    for measure in MEASURES:
        cubes = {
            name: by_patient(
                (one.dice if measure == "dice" else one.context())[:, [one.classes.index(each) for each in classes]],
                patients,
            )
            for name, one in parts.items()
        }
        rows += _of_measure(measure, cubes, classes)
    return ModelComparison(tuple(tables), len(common), len(every) - len(common), tuple(rows))


def _of_measure(measure: str, cubes: Mapping[str, np.ndarray], classes: Sequence[str]) -> list[Compared]:
    whole = np.logical_and.reduce([np.isfinite(cube) for cube in cubes.values()])
    rows = []
    for column, name in enumerate([*classes, ""]):
        if name:
            there = whole[:, column]
            values = {model: cube[there, column] for model, cube in cubes.items()}
        else:
            there = whole.any(axis=1)
            counts = whole[there].sum(axis=1)
            values = {model: np.where(whole, cube, 0.0)[there].sum(axis=1) / counts for model, cube in cubes.items()}
        if there.sum() >= _FEWEST:
            means = {model: _mean(mine) for model, mine in values.items()}
            rows.append(Compared(measure, name, int(there.sum()), means, one_way(list(values.values()))))
    q_values = corrected(np.array([row.variance.p for row in rows if row.name]))
    named = [replace(row, q=float(q)) for row, q in zip([row for row in rows if row.name], q_values, strict=True)]
    return [*named, *(row for row in rows if not row.name)]


def _mean(values: np.ndarray) -> tuple[float, float, float]:
    found: MeanMatrix = mean_matrix(values[:, None, None])
    return float(found.mean[0, 0]), float(found.low[0, 0]), float(found.high[0, 0])


def means_of(comparison: ModelComparison, measure: str) -> tuple[list[str], dict[str, MeanMatrix]]:
    """Return classes, and per network the means of a measure, as pictures take them."""
    rows = [row for row in comparison.rows if row.measure == measure and row.name]
    found = {}
    for name in comparison.names:
        mean, low, high = np.array([row.means[name] for row in rows]).reshape(len(rows), 3).T[:, :, None]
        found[name] = MeanMatrix(mean, low, high, np.array([[row.cases] for row in rows]))
    return [row.name for row in rows], found


def _cells(row: Compared, names: Sequence[str]) -> list[str]:
    one = row.variance
    shown = [f"{mean:.3f}" + (f" ({low:.3f}-{high:.3f})" if math.isfinite(low) else "")
             for mean, low, high in (row.means[name] for name in names)]  # fmt: skip
    numbers = [f"{value:.3g}" if math.isfinite(value) else "–" for value in (one.f, one.p, row.q)]
    share = f"{one.share:.2f}" if math.isfinite(one.share) else "–"
    if math.isfinite(one.low) and math.isfinite(one.high):
        share += f" ({one.low:.2f}-{one.high:.2f})"
    return [structure(row.name).name if row.name else "mean over classes", str(row.cases), *shown, *numbers, share]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
