"""Groups of cases by what is known of them (sex, age bands, scanner, any column), and tests of what differs between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from Agg2ExpLib.cohort.judge.intervals import area_interval, by_patient
from Agg2ExpLib.cohort.judge.statistics import corrected, rank_test
from Agg2ExpLib.cohort.run.csv_tables import is_missing, number_in
from Agg2ExpLib.cohort.table.tables import CohortTable
from Agg2ExpLib.errors import InputError

#: A column of numbers with more different values than this is split at its median when no bands are chosen.
MOST_GROUPS = 6
#: Smaller groups are listed and not tested.
FEWEST_IN_GROUP = 3
_MOST_EDGES = 20


@dataclass(frozen=True)
class Grouping:
    """How cases are put into groups: by a column, and by bands of its numbers where edges are given.

    Attributes
    ----------
    column : str
        Column of metadata.
    edges : tuple of float
        Bands begin at these numbers; empty: one group per value, or two halves where a column has many numbers.
    """

    column: str
    edges: tuple[float, ...] = ()

    @classmethod
    def parse(cls, text: str, table: CohortTable) -> Grouping:
        """Read ``COLUMN`` or ``COLUMN:EDGE,EDGE``, as on the command line.

        Parameters
        ----------
        text : str
            Such as ``sex`` or ``age:50,65,80``. A column whose name has a colon itself is meant as it stands.
        table : CohortTable
            Whose columns may be named.

        Raises
        ------
        InputError
            No such column; edges that are no rising numbers, or of a column of words.
        """
        name, colon, after = text.rpartition(":")
        if text in table.metadata or not colon:
            table.column(text)
            return cls(text)
        table.column(name)
        try:
            edges = tuple(float(part) for part in after.split(","))
        except ValueError:
            raise InputError(f"--group {text!r}: {after!r} are no numbers; write COLUMN:50,65,80") from None
        rising = np.isfinite(edges).all() and all(low < high for low, high in pairwise(edges))
        if not rising or len(edges) > _MOST_EDGES:
            raise InputError(f"--group {text!r}: give up to {_MOST_EDGES} numbers, each larger than the one before")
        if table.numbers(name) is None:
            raise InputError(
                f"--group {text!r}: column {name!r} holds {_a_word(table.column(name))}; bands need numbers"
            )
        return cls(name, edges)

    def split(self, table: CohortTable) -> dict[str, np.ndarray]:
        """Return group -> indices of its cases, lowest band first; a case without a value is in none."""
        numbers = table.numbers(self.column)
        if self.edges and numbers is not None:
            groups = _bands(numbers, self.edges)
        elif numbers is not None and len(np.unique(numbers[np.isfinite(numbers)])) > MOST_GROUPS:
            middle = float(np.nanmedian(numbers))
            groups = {
                f"up to {middle:g}": np.flatnonzero(numbers <= middle),
                f"over {middle:g}": np.flatnonzero(numbers > middle),
            }
        else:
            groups = _words(table.column(self.column), numbers)
        return {name: index for name, index in groups.items() if len(index)}

    def missing(self, table: CohortTable) -> int:
        """Return how many cases have no value and are left out."""
        return len(table.cases) - sum(map(len, self.split(table).values()))


def _a_word(texts: Sequence[str]) -> str:
    def is_word(text: str) -> bool:
        try:
            number_in(text)
        except ValueError:
            return True
        return False

    return next((repr(text) for text in map(str.strip, texts) if is_word(text)), "no number")


def _bands(numbers: np.ndarray, edges: Sequence[float]) -> dict[str, np.ndarray]:
    names = [
        f"under {edges[0]:g}",
        *(f"{low:g} to under {high:g}" for low, high in pairwise(edges)),
    ]
    names.append(f"{edges[-1]:g} and over")
    place = np.where(np.isfinite(numbers), np.searchsorted(edges, numbers, side="right"), -1)
    return {name: np.flatnonzero(place == band) for band, name in enumerate(names)}


def _words(texts: Sequence[str], numbers: np.ndarray | None) -> dict[str, np.ndarray]:
    plain = ["" if is_missing(text) else text.strip() for text in texts]
    order = sorted(set(plain) - {""}, key=(lambda text: (float(text), text)) if numbers is not None else None)
    return {text: np.flatnonzero([other == text for other in plain]) for text in order}


@dataclass(frozen=True)
class GroupTest:
    """Difference between groups in one number: a class's context, or the mass of one region for one class.

    Attributes
    ----------
    name, roi : str
        Class, and region (empty: the context of the class).
    medians : dict of str to float
        Median per group.
    statistic, p, q : float
        Mann-Whitney U for two groups, Kruskal-Wallis H for more; q is corrected over everything that is tested together.
    effect, low, high : float
        Of two groups: the chance that a case of the first has the higher value (0.5: none), with its 95 % interval.
    """

    name: str
    roi: str
    medians: dict[str, float]
    statistic: float
    p: float
    q: float
    effect: float = math.nan
    low: float = math.nan
    high: float = math.nan


def group_tests(table: CohortTable, grouping: Grouping) -> list[GroupTest]:
    """Return :func:`compare_groupings` of a single grouping."""
    return compare_groupings(table, [grouping])[0]


def compare_groupings(table: CohortTable, groupings: Sequence[Grouping]) -> list[list[GroupTest]]:
    """Correct the tests of all groupings together: whoever asks for more finds more by chance.

    Parameters
    ----------
    table : CohortTable
        The cohort.
    groupings : sequence of Grouping
        What groups are made by.

    Returns
    -------
    list of list of GroupTest
        Of each grouping, as :func:`_tests` orders them.
    """
    found = [_tests(table, one) for one in groupings]
    q_values = iter(corrected(np.array([test.p for tests in found for test in tests])).tolist())
    return [[replace(test, q=next(q_values)) for test in tests] for tests in found]


def _tests(table: CohortTable, grouping: Grouping) -> list[GroupTest]:
    """Test every class's context and every region's mass for differences between groups, q left open.

    Parameters
    ----------
    table : CohortTable
        The cohort.
    grouping : Grouping
        The groups.

    Returns
    -------
    list of GroupTest
        The smallest p first. Groups of fewer than three cases are left out, of the whole and of each test.
    """
    groups = {name: index for name, index in grouping.split(table).items() if len(index) >= FEWEST_IN_GROUP}
    if len(groups) < 2:
        return []
    context, mass, patients = table.context(), table.values["mass"], table.patients()
    found = []
    for i, name in enumerate(table.classes):
        for roi, values in [("", context[:, i]), *((roi, mass[:, i, j]) for j, roi in enumerate(table.rois))]:
            # The class's own share is its context turned round: the same test once more would only weigh on the others.
            if roi == name:
                continue
            # Several scans of a patient are one value: their mean.
            parts = {group: by_patient(values[index], patients[index]) for group, index in groups.items()}
            parts = {group: part[np.isfinite(part)] for group, part in parts.items()}
            parts = {group: part for group, part in parts.items() if len(part) >= FEWEST_IN_GROUP}
            if len(parts) < 2 or np.ptp(np.concatenate(list(parts.values()))) == 0:
                continue
            statistic, p = rank_test(list(parts.values()))
            medians = {group: float(np.median(parts[group])) if group in parts else np.nan for group in groups}
            effect = (math.nan,) * 3
            if len(parts) == 2:
                sizes = [len(part) for part in parts.values()]
                area = statistic / sizes[0] / sizes[1]
                effect = (area, *area_interval(area, *sizes))
            found.append(GroupTest(name, roi, medians, statistic, p, math.nan, *effect))
    return sorted(found, key=lambda test: test.p)
