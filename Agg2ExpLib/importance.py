"""RoI importance (equation 7): the share of a class's attribution that lies in each region, and its companions.

Numpy alone, so that Slicer's own process can recompute a row while somebody paints a region.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.storage import write_table

#: Measures of a region: mass accuracy I(E_c, R), the same of positive and of negative attributions alone, mean |E_c|
#: in R, mass share over volume share, and the region's size.
MEASURES = ("mass", "positive", "negative", "mean_density", "enrichment", "voxels")
LONG_COLUMNS = ("class", "roi", *MEASURES)
_MOST_ROWS = 10_000_000
_SLAB_VOXELS = 200_000


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

    def to_frame(self) -> Any:
        """Return the table as a pandas data frame, one row per class and region (:data:`LONG_COLUMNS`).

        Raises
        ------
        InputError
            pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise InputError("a data frame needs pandas; pip install pandas, or use to_long_csv") from None
        names = {
            "class": np.repeat(np.array(self.classes, dtype=object), len(self.rois)),
            "roi": self.rois * len(self.classes),
        }
        return pandas.DataFrame({**names, **{measure: self.values[measure].ravel() for measure in MEASURES}})

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


class Rois:
    """The regions that attributions are summed over: a partition by class, then masks that may overlap.

    Sizes are counted once, and sums go slab by slab, so that a row takes little memory beside the attribution itself.

    Parameters
    ----------
    labels : ndarray of int, shape (i, j, k)
        Classes, 0 to ``len(classes)`` - 1: the first regions.
    classes : sequence of str
        Their names.
    masks : mapping of str to bool ndarray, shape (i, j, k)
        Extra regions by name.
    """

    def __init__(
        self, labels: np.ndarray, classes: Sequence[str], masks: Mapping[str, np.ndarray] | None = None
    ) -> None:
        self.labels, self.n_classes = labels, len(classes)
        self.masks = list((masks or {}).values())
        self.names = (*classes, *(masks or {}))
        counted = np.zeros(self.n_classes, dtype=np.int64)
        for slab in _slabs(labels.shape):
            counted += np.bincount(labels[slab].ravel(), minlength=self.n_classes)
        self.voxels = np.concatenate([counted, [int(np.count_nonzero(mask)) for mask in self.masks]]).astype(np.float64)

    @classmethod
    def of_masks(cls, masks: Mapping[str, np.ndarray]) -> Rois:
        """Return regions that are masks alone, such as the overlapping classes of a model."""
        first = next(iter(masks.values()))
        return cls(np.zeros(first.shape, dtype=np.uint8), (), masks)

    def row(self, values: np.ndarray, box: tuple[slice, slice, slice]) -> dict[str, np.ndarray]:
        """Return every measure of one attribution.

        Parameters
        ----------
        values : ndarray, shape (C, ...) or (...)
            E_c within ``box``, of each channel or of the only one; it is 0 elsewhere. Strengths of channels add up.
        box : tuple of slice
            Where the values lie in the volume.

        Returns
        -------
        dict of str to ndarray, shape (regions,)
            All of :data:`MEASURES`; NaN throughout (but voxels) when the attribution is 0 everywhere.
        """
        channels = values if values.ndim == 4 else values[None]
        inside = self.labels[box]
        cropped = [mask[box] for mask in self.masks]
        count = len(self.voxels)
        sums = {name: np.zeros(count) for name in ("all", "up")}
        whole = dict.fromkeys(sums, 0.0)
        for slab in _slabs(inside.shape):
            labels = inside[slab].ravel()
            for channel in channels:
                part = channel[slab].astype(np.float64)
                for name, strength in (("all", np.abs(part)), ("up", np.maximum(part, 0.0))):
                    if self.n_classes:
                        flat = np.bincount(labels, weights=strength.ravel(), minlength=self.n_classes)
                        sums[name][: self.n_classes] += flat
                    for number, mask in enumerate(cropped):
                        sums[name][self.n_classes + number] += strength[mask[slab]].sum()
                    whole[name] += float(strength.sum())
        # What is not positive is negative: no third pass over the volume.
        found = {name: (sums[name], whole[name]) for name in sums}
        found["down"] = sums["all"] - sums["up"], whole["all"] - whole["up"]
        return _measures(found, self.voxels, self.labels.size)

    def absent(self) -> dict[str, np.ndarray]:
        """Return the row of a class that the prediction lacks: NaN, with the regions' sizes."""
        nothing = slice(0, 0)
        return self.row(np.zeros((0, 0, 0)), (nothing, nothing, nothing))


def _slabs(shape: Sequence[int]) -> Iterator[slice]:
    """Split the first axis so that a slab has some hundred thousand voxels."""
    rows = max(1, _SLAB_VOXELS // max(int(np.prod(shape[1:])), 1))
    for first in range(0, shape[0], rows):
        yield slice(first, first + rows)


def importance_row(
    values: np.ndarray,
    box: tuple[slice, slice, slice],
    labels: np.ndarray,
    n_classes: int,
    regions: Sequence[np.ndarray] = (),
) -> dict[str, np.ndarray]:
    """Return every measure of one attribution over classes and masks; for many rows make :class:`Rois` once."""
    names = [str(number) for number in range(n_classes)]
    masks = {f"mask {number}": mask for number, mask in enumerate(regions)}
    return Rois(labels, names, masks).row(values, box)


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
