"""What a picture can show of a table: the measures, with their names, units and meanings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from Agg2ExpLib.errors import InputError, nearest_names
from Agg2ExpLib.importance import ImportanceTable

BACKGROUND = "background"


@dataclass(frozen=True)
class Measure:
    """A measure as a reader of a picture needs it.

    Attributes
    ----------
    id : str
        As on the command line.
    title : str
        For headings.
    axis : str
        For axes and colour bars, with the unit.
    meaning : str
        One sentence.
    ratio : bool
        True when 1 means "neither more nor less" (drawn on a logarithmic scale around 1); else a share of 0 to 1,
        written in percent.
    """

    id: str
    title: str
    axis: str
    meaning: str
    ratio: bool = False

    def text(self, value: float) -> str:
        """Return a value as it is written into a picture.

        Examples
        --------
        >>> MEASURES["mass"].text(0.237), MEASURES["enrichment"].text(4.24), MEASURES["enrichment"].text(0.034)
        ('24%', '4.2×', '0.03×')
        """
        if self.ratio:
            digits = 0 if value >= 9.95 else 1 if value >= 0.995 else 2
            return f"{value:.{digits}f}×"
        return f"{100 * value:.0f}%" if value >= 0.0995 or value == 0 else f"{100 * value:.1f}%"


#: Every measure that figures draw.
MEASURES: dict[str, Measure] = {
    measure.id: measure
    for measure in (
        Measure(
            "mass",
            "share of attribution (mass)",
            "share of the class's attribution, %",
            "How much of a class's attribution lies in each region; large regions hold much.",
        ),
        Measure(
            "mass-without-background",
            "share of attribution within structures",
            "share of the class's attribution outside background, %",
            "How much of a class's attribution lies in each structure, with what lies in background left out.",
        ),
        Measure(
            "enrichment",
            "enrichment",
            "enrichment (1 = as much as any region of that size)",
            "Share of a class's attribution over share of the volume: 1 means as much as any region of that size.",
            ratio=True,
        ),
    )
}


def measure_of(measure: str | Measure) -> Measure:
    """Return the measure of that name.

    Raises
    ------
    InputError
        An unknown name.
    """
    if isinstance(measure, Measure):
        return measure
    if measure not in MEASURES:
        raise InputError(f"unknown measure {measure!r}: {nearest_names(measure, MEASURES)}")
    return MEASURES[measure]


def table_matrix(
    table: ImportanceTable, measure: str | Measure, extra: Sequence[str] = ()
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return one measure of a table and the names of its columns.

    Parameters
    ----------
    table : ImportanceTable
        Of one case.
    measure : str or Measure
        One of :data:`MEASURES`.
    extra : sequence of str
        Columns that are extra regions. Without background they have no share: how much of them lies in background is
        not in the table, so these columns are left out.

    Returns
    -------
    matrix : ndarray, shape (classes, columns)
        NaN for absent classes, and for a class whose whole attribution lies in background.
    columns : tuple of str
        Names of the columns.
    """
    name = measure_of(measure).id
    if name != "mass-without-background":
        return table.matrix(name), table.rois
    columns = [index for index, roi in enumerate(table.rois) if roi != BACKGROUND and roi not in extra]
    mass = table.matrix("mass")[:, columns]
    whole = mass.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.where(whole > 0, mass / whole, np.nan)
    return shares, tuple(table.rois[index] for index in columns)


def check_matrix(matrix: np.ndarray, rows: Sequence[str], columns: Sequence[str]) -> np.ndarray:
    """Return a matrix as float64.

    Raises
    ------
    InputError
        Its shape is not that of the names, it is empty, or it holds an infinite or negative number.
    """
    values = np.asarray(matrix, dtype=np.float64)
    if values.shape != (len(rows), len(columns)):
        raise InputError(f"a matrix of shape {values.shape} does not fit {len(rows)} rows and {len(columns)} columns")
    if not values.size:
        raise InputError("there is no class to draw: the table is empty; explain at least one class")
    if np.isinf(values).any() or (values < 0).any():
        raise InputError("an importance is negative or infinite, so the table is damaged; repeat the explanation")
    return values
