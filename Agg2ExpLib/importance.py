"""RoI importance (equation 7): the share of a class's attribution that lies in each region, and its companions.

Numpy alone, so that Slicer's own process can recompute a row while somebody paints a region.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.storage import write_table

#: Measures of a region: mass accuracy I(E_c, R), the same of positive and of negative attributions alone, mean |E_c|
#: in R, mass share over volume share, and the region's size.
MEASURES = ("mass", "positive", "negative", "mean_density", "enrichment", "voxels")
LONG_COLUMNS = ("class", "roi", *MEASURES)
_MOST_ROWS = 10_000_000


@dataclass(frozen=True, eq=False)
class ImportanceTable:
    """Importance of regions (columns) for classes (rows).

    Attributes
    ----------
    classes, rois : tuple of str
        Names of rows and columns; the model's classes are the first columns.
    values : mapping of str to ndarray, shape (classes, rois)
        One matrix per name of :data:`MEASURES`. An absent class is a row of NaN (its ``voxels`` are still counted).
    """

    classes: tuple[str, ...]
    rois: tuple[str, ...]
    values: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        shape = (len(self.classes), len(self.rois))
        if set(self.values) != set(MEASURES) or any(m.shape != shape for m in self.values.values()):
            raise InputError(
                f"an importance table of {shape[0]} classes and {shape[1]} regions needs the measures {MEASURES}"
            )

    def matrix(self, measure: str) -> np.ndarray:
        """Return one measure, shape (classes, rois)."""
        if measure not in MEASURES:
            raise InputError(f"unknown measure {measure!r}: use {', '.join(MEASURES)}")
        return self.values[measure]

    def context(self) -> np.ndarray:
        """Return 1 - I(E_c, M_c) per class: the share of its attribution that lies outside of it."""
        own = [
            self.values["mass"][row, self.rois.index(name)] if name in self.rois else math.nan
            for row, name in enumerate(self.classes)
        ]
        return 1.0 - np.array(own)

    def to_matrix_csv(self, path: str | Path) -> None:
        """Write mass accuracy, one row per class: column ``class``, then one per region."""
        rows = [[name, *map(_text, self.values["mass"][row])] for row, name in enumerate(self.classes)]
        write_table(path, ["class", *self.rois], rows)

    def to_long_csv(self, path: str | Path) -> None:
        """Write every measure, one row per class and region (:data:`LONG_COLUMNS`)."""
        rows = [
            [
                name,
                roi,
                *(_text(self.values[m][row, column]) for m in MEASURES[:-1]),
                str(int(self.values["voxels"][row, column])),
            ]
            for row, name in enumerate(self.classes)
            for column, roi in enumerate(self.rois)
        ]
        write_table(path, LONG_COLUMNS, rows)

    @classmethod
    def from_long_csv(cls, path: str | Path) -> ImportanceTable:
        """Read a long table.

        Raises
        ------
        InputError
            Unreadable, other columns, a value that is no number, or a class that lacks a region.
        """
        path = Path(path)
        try:
            with path.open(newline="", encoding="utf-8") as stream:
                reader = csv.reader(stream)
                header = next(reader, [])
                if tuple(header) != LONG_COLUMNS:
                    raise InputError(
                        f"{path} does not have the columns {', '.join(LONG_COLUMNS)}; repeat the explanation"
                    )
                rows = [row for _, row in zip(range(_MOST_ROWS), reader, strict=False)]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{path} cannot be read as a table ({error}); repeat the explanation") from error
        return cls._from_rows(path, rows)

    @classmethod
    def _from_rows(cls, path: Path, rows: Sequence[Sequence[str]]) -> ImportanceTable:
        cells: dict[tuple[str, str], list[float]] = {}
        for line, row in enumerate(rows, start=2):
            try:
                name, roi = row[:2]
                numbers = [float(text) for text in row[2:]]
            except ValueError as error:
                raise InputError(
                    f"{path} line {line} has a value that is not a number ({error}); repeat the explanation"
                ) from error
            if len(numbers) != len(MEASURES) or (name, roi) in cells:
                raise InputError(f"{path} line {line} is incomplete or given twice; repeat the explanation")
            cells[name, roi] = numbers
        classes = tuple(dict.fromkeys(name for name, _ in cells))
        rois = tuple(dict.fromkeys(roi for _, roi in cells))
        if len(cells) != len(classes) * len(rois):
            raise InputError(f"{path} lacks regions for some classes; repeat the explanation")
        cube = np.array([[cells[name, roi] for roi in rois] for name in classes]).reshape(
            len(classes), len(rois), len(MEASURES)
        )
        return cls(classes, rois, {measure: cube[:, :, index] for index, measure in enumerate(MEASURES)})


def importance_row(
    values: np.ndarray,
    box: tuple[slice, slice, slice],
    labels: np.ndarray,
    n_classes: int,
    regions: Sequence[np.ndarray] = (),
) -> dict[str, np.ndarray]:
    """Return every measure of one attribution.

    Parameters
    ----------
    values : ndarray
        E_c within ``box``; it is 0 elsewhere.
    box : tuple of slice
        Where the values lie in the volume.
    labels : ndarray of int, shape (i, j, k)
        Predicted classes, 0 to ``n_classes`` - 1: the first regions.
    regions : sequence of bool ndarray, shape (i, j, k)
        Extra regions; they may overlap.

    Returns
    -------
    dict of str to ndarray, shape (n_classes + len(regions),)
        All of :data:`MEASURES`; NaN throughout (but voxels) when the attribution is 0 everywhere.
    """
    strength = np.abs(values).astype(np.float64)
    up = np.maximum(values, 0).astype(np.float64)
    inside = labels[box].ravel()
    voxels = np.concatenate([np.bincount(labels.ravel(), minlength=n_classes), [int(mask.sum()) for mask in regions]])
    cropped = [mask[box] for mask in regions]
    sums = {}
    for name, part in (("all", strength), ("up", up)):
        per_class = np.bincount(inside, weights=part.ravel(), minlength=n_classes)
        sums[name] = np.concatenate([per_class, [part[mask].sum() for mask in cropped]]), part.sum()
    # What is not positive is negative: no third pass over the volume.
    sums["down"] = sums["all"][0] - sums["up"][0], sums["all"][1] - sums["up"][1]
    return _measures(sums, voxels.astype(np.float64), labels.size)


def _measures(sums: Mapping[str, tuple[np.ndarray, float]], voxels: np.ndarray, volume: int) -> dict[str, np.ndarray]:
    nothing = np.full(len(voxels), np.nan)

    def share(name: str) -> np.ndarray:
        parts, whole = sums[name]
        return np.clip(parts / whole, 0.0, 1.0) if whole > 0 else nothing

    mass = share("all")
    with np.errstate(divide="ignore", invalid="ignore"):
        density = np.where(voxels > 0, sums["all"][0] / voxels, np.nan)
        enrichment = np.where(voxels > 0, mass / (voxels / volume), np.nan)
    if sums["all"][1] <= 0:
        density = nothing
    return {
        "mass": mass,
        "positive": share("up"),
        "negative": share("down"),
        "mean_density": density,
        "enrichment": enrichment,
        "voxels": voxels,
    }


def absent_row(labels: np.ndarray, n_classes: int, regions: Sequence[np.ndarray] = ()) -> dict[str, np.ndarray]:
    """Return the row of a class that the prediction lacks: NaN, with the regions' sizes."""
    box = (slice(0, 0), slice(0, 0), slice(0, 0))
    return importance_row(np.zeros((0, 0, 0)), box, labels, n_classes, regions)


def build_table(rows: Mapping[str, Mapping[str, np.ndarray]], rois: Sequence[str]) -> ImportanceTable:
    """Put rows (class name -> measures) together."""
    width = len(rois)
    matrices = {m: np.array([row[m] for row in rows.values()]).reshape(len(rows), width) for m in MEASURES}
    return ImportanceTable(tuple(rows), tuple(rois), matrices)


def _text(value: float) -> str:
    return "nan" if math.isnan(value) else repr(float(value))
