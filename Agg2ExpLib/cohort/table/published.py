"""Import of published per-case tables: one row per patient, one pair of columns per class and region."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from Agg2ExpLib.cohort.run.cases import CohortCase, read_rows
from Agg2ExpLib.cohort.run.store import CohortFolder
from Agg2ExpLib.cohort.table.assemble import assemble
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.importance import MEASURES, ImportanceTable

_PAIR = re.compile(r"(.+)_explanation_in_(.+)_(mass|mean)")
_OF_CLASS = re.compile(r"(.+)_(?:explanation_(?:var|mean)|iou|dice)")


@dataclass(frozen=True)
class _Columns:
    """Where things are in the table: (class, roi, measure) -> column, and the columns of classes."""

    pairs: Mapping[tuple[str, str, str], int]
    names: Mapping[str, int]
    classes: tuple[str, ...]
    rois: tuple[str, ...]


def import_published(path: str | Path, out: str | Path) -> tuple[int, int]:
    """Make a cohort folder of a published table.

    Parameters
    ----------
    path : path
        CSV with ``patient``, ``{class}_explanation_in_{roi}_mass`` and ``..._mean`` for each pair, and per class
        ``{class}_explanation_mean`` and ``{class}_dice``; every other column is kept as metadata.
    out : path
        Cohort folder to make.

    Returns
    -------
    imported, absent : int
        Numbers of patients, and of (patient, class) pairs without any mass: the class is not there.

    Raises
    ------
    InputError
        Another layout, a patient given twice, or a value that is no number.

    Notes
    -----
    Enrichment is the mean in the region over the mean overall. Positive and negative shares and voxel counts are not in
    the published tables: they are NaN.
    """
    path = Path(path)
    header, *rows = read_rows(path)
    columns = _columns(path, [name.strip() for name in header])
    patients: list[CohortCase] = []
    tables: dict[str, tuple[ImportanceTable, dict[str, dict[str, float]]]] = {}
    absent = 0
    for line, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise InputError(f"{path} line {line} has {len(row)} fields, the header has {len(header)}; mend the row")
        patient = row[columns.names["patient"]].strip()
        if not patient or patient in tables:
            raise InputError(f"{path} line {line}: patient {patient!r} is empty or given twice")
        metadata = {
            name: row[index].strip()
            for name, index in columns.names.items()
            if name != "patient" and not _belongs_to_class(name, columns.classes)
        }
        patients.append(CohortCase(patient, path, metadata=metadata))
        tables[patient] = _table(path, line, row, columns), _dice(path, line, row, columns)
        absent += int(np.isnan(tables[patient][0].matrix("mass")).all(axis=1).sum())
    identity = {
        "model": {"name": f"published table {path.name}", "sha256": "", "labels": list(columns.rois)},
        "settings": {"method": "as published"},
    }
    store = CohortFolder(out)
    with store.open():
        store.prepare(identity, patients)
        for case in patients:
            table, dice = tables[case.id]
            store.write_part(case.id, table, dice, {"identity": identity, "sources": case.sources(), "messages": []})
        finished, _ = assemble(store)
    return finished, absent


def _columns(path: Path, header: Sequence[str]) -> _Columns:
    pairs, names = {}, {}
    for index, name in enumerate(header):
        found = _PAIR.fullmatch(name)
        if found:
            key = (found[1], found[2], found[3])
            if key in pairs:
                raise InputError(f"{path} gives the column {name!r} twice")
            pairs[key] = index
        else:
            names[name] = index
    classes = tuple(dict.fromkeys(key[0] for key in pairs))
    rois = tuple(dict.fromkeys(key[1] for key in pairs))
    if "patient" not in names or not pairs:
        raise InputError(f"{path} is no published table: it needs patient and CLASS_explanation_in_ROI_mass columns")
    for name in classes:
        for roi in rois:
            if (name, roi, "mass") not in pairs:
                raise InputError(f"{path} has no column {name}_explanation_in_{roi}_mass; is the table complete?")
    return _Columns(pairs, names, classes, rois)


def _belongs_to_class(name: str, classes: Sequence[str]) -> bool:
    found = _OF_CLASS.fullmatch(name)
    return bool(found and found[1] in classes)


def _table(path: Path, line: int, row: Sequence[str], columns: _Columns) -> ImportanceTable:
    shape = (len(columns.classes), len(columns.rois))
    values = {measure: np.full(shape, np.nan) for measure in MEASURES}
    for i, name in enumerate(columns.classes):
        overall = _number(path, line, row, columns.names.get(f"{name}_explanation_mean"))
        for j, roi in enumerate(columns.rois):
            mass = _number(path, line, row, columns.pairs[name, roi, "mass"])
            mean = _number(path, line, row, columns.pairs.get((name, roi, "mean")))
            # A region that the patient lacks holds nothing.
            values["mass"][i, j] = 0.0 if np.isnan(mass) else mass
            values["mean_density"][i, j] = mean
            values["enrichment"][i, j] = mean / overall if overall > 0 else np.nan
        if not values["mass"][i].any():
            for measure in ("mass", "mean_density", "enrichment"):
                values[measure][i] = np.nan
    return ImportanceTable(columns.classes, columns.rois, values)


def _dice(path: Path, line: int, row: Sequence[str], columns: _Columns) -> dict[str, dict[str, float]]:
    found = {name: _number(path, line, row, columns.names.get(f"{name}_dice")) for name in columns.classes}
    return {name: {"dice": value} for name, value in found.items() if np.isfinite(value)}


def _number(path: Path, line: int, row: Sequence[str], column: int | None) -> float:
    if column is None or not row[column].strip():
        return float("nan")
    try:
        return float(row[column])
    except ValueError as error:
        raise InputError(f"{path} line {line} column {column + 1}: {row[column]!r} is not a number") from error
