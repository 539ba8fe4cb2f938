"""Import of published per-case tables: one row per patient, one pair of columns per class and region.

A pair is ``{class}_explanation_in_{roi}_mass`` (share of the attribution in the region) and ``..._mean`` (mean of its
absolute value there). Tables of signed attributions have each column twice, ending in ``_pos`` and ``_neg``. The column
``{class}_explanation_mean`` is the signed mean over the volume, near 0 whatever the attribution: nothing is computed from it.

Volumes are not in these tables, but over regions that fill the volume without overlap (a partition) they follow from the
pairs: ``mass_k / mean_k`` is the number of voxels of region k over the sum of the attribution, which all regions share. So
the share of the volume is ``v_k = (mass_k / mean_k) / sum_j(mass_j / mean_j)``, the mean over the volume is
``1 / sum_j(mass_j / mean_j)``, and ``enrichment_k = mass_k / v_k = mean_k * sum_j(mass_j / mean_j)``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from Agg2ExpLib.cohort.run.cases import CohortCase
from Agg2ExpLib.cohort.run.csv_tables import Row, number_in, read_rows
from Agg2ExpLib.cohort.run.store import CohortFolder
from Agg2ExpLib.cohort.table.assemble import assemble
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.importance import MEASURES, ImportanceTable

_PAIR = re.compile(r"(.+)_explanation_in_(.+)_(mass|mean)(_pos|_neg)?")
_OF_CLASS = re.compile(r"(.+)_(?:explanation_(?:var|mean)|iou|dice)(?:_pos|_neg)?")
#: Words of a file name by which published tables tell their method.
_METHODS = {
    "vg": "gradient",
    "gradient": "gradient",
    "sg": "smoothgrad",
    "smoothgrad": "smoothgrad",
    "ig": "integrated-gradients",
    "ks": "kernelshap",
    "kernelshap": "kernelshap",
}
# Masses of a partition sum to 1, but for the rounding of single precision. Where most sum to nearly 1, and some do not,
# something is wrong with those.
_ROUNDING, _NEARLY, _FEWEST_PARTS = 1e-3, 0.02, 3


@dataclass(frozen=True)
class _Layout:
    """Where things are in a table.

    Attributes
    ----------
    pairs : mapping of (class, roi, measure with its sign) to int
        Columns.
    names : mapping of str to int
        All other columns.
    classes, rois : tuple of str
        Names.
    signed : bool
        Whether positive and negative attributions are apart.
    """

    pairs: Mapping[tuple[str, str, str], int]
    names: Mapping[str, int]
    classes: tuple[str, ...]
    rois: tuple[str, ...]
    signed: bool


@dataclass(frozen=True)
class Imported:
    """What was imported.

    Attributes
    ----------
    patients : int
        How many.
    absent : int
        Pairs of patient and class without any attribution: the class is not there.
    without_enrichment : int
        Pairs of patient and class whose enrichment cannot be told for some region.
    method : str
        Attribution method, as noted in the cohort.
    partition : bool
        Whether the regions fill the volume; without it there is no enrichment.
    """

    patients: int
    absent: int
    without_enrichment: int
    method: str
    partition: bool


def import_published(path: str | Path, out: str | Path, method: str | None = None) -> Imported:
    """Make a cohort folder of a published table.

    Parameters
    ----------
    path : path
        CSV with ``patient``, ``{class}_explanation_in_{roi}_mass`` and ``..._mean`` for each pair (or both with ``_pos`` and
        ``_neg``), and perhaps ``{class}_dice``; every other column is kept as metadata.
    out : path
        Cohort folder to make.
    method : str, optional
        Attribution method of the table. By default it is read off the file's name (``ig``, ``sg``, ``vg``, ``ks`` between
        underscores); where that does not tell it, the cohort compares with itself only.

    Returns
    -------
    Imported
        Counts, and what was found.

    Raises
    ------
    InputError
        Another layout, a patient given twice, a value that is no number, or signed shares of extra masks only.

    Notes
    -----
    In a table of extra masks (whose masses do not sum to 1) a patient without the finding has mass 0 and stays in every
    mean; enrichment is not known there. Voxel counts are never in published tables: they are NaN. Positive and negative
    shares are known from signed tables only.
    """
    path = Path(path)
    header, *rows = read_rows(path)
    layout = _layout(path, [name.strip() for name in header])
    patients: dict[str, CohortCase] = {}
    cubes: dict[str, dict[str, np.ndarray]] = {}
    dice: dict[str, dict[str, dict[str, float]]] = {}
    for row in rows:
        if len(row) != len(header):
            raise InputError(
                f"{path} line {row.line} has {len(row)} fields, the header has {len(header)}; mend the row"
            )
        patient = row[layout.names["patient"]].strip()
        if not patient or patient in patients:
            raise InputError(f"{path} line {row.line}: patient {patient!r} is empty or given twice")
        metadata = {
            name: row[index].strip()
            for name, index in layout.names.items()
            if name != "patient" and not _belongs_to_class(name, layout.classes)
        }
        patients[patient] = CohortCase(patient, path, metadata=metadata)
        cubes[patient], dice[patient] = _read(path, row, layout), _dice(path, row, layout)
    if not cubes:
        raise InputError(f"{path} has no row under its header; export the table again")
    parts = _partition(path, layout, cubes)
    if layout.signed and not parts:
        raise InputError(
            f"{path} has positive and negative shares of masks that do not fill the volume, from which no share of the whole "
            "attribution follows; import the table without _pos and _neg"
        )
    method = method or _method_in(path)
    identity = {
        "model": {"name": f"published table {path.name}", "sha256": "", "labels": [layout.rois[k] for k in parts]},
        "settings": {"method": method},
    }
    store = CohortFolder(out)
    tables: dict[str, ImportanceTable] = {}
    absent = without = 0
    for name in patients:
        try:
            tables[name] = _table(layout, cubes[name], parts)
        except ValueError as error:
            raise InputError(f"{path}, patient {name}: {error}") from error
        there = np.isfinite(tables[name].matrix("mass")).all(axis=1)
        absent += int((~there).sum())
        unknown = ~np.isfinite(tables[name].matrix("enrichment")) & (tables[name].matrix("mass") > 0)
        without += int((there & unknown.any(axis=1)).sum())
    with store.open():
        store.prepare(identity, list(patients.values()))
        for name, case in patients.items():
            note = {"identity": identity, "sources": case.sources(), "messages": []}
            store.write_part(name, tables[name], dice[name], note)
        finished, _ = assemble(store)
    return Imported(finished, absent, without, method, bool(parts))


def _method_in(path: Path) -> str:
    told = [_METHODS[word] for word in re.split(r"[^a-z0-9]+", path.stem.lower()) if word in _METHODS]
    return told[0] if len(set(told)) == 1 else f"not told ({path.name})"


def _layout(path: Path, header: Sequence[str]) -> _Layout:
    pairs: dict[tuple[str, str, str], int] = {}
    names: dict[str, int] = {}
    for index, name in enumerate(header):
        found = _PAIR.fullmatch(name)
        key = (found[1], found[2], found[3] + (found[4] or "")) if found else None
        if name in names or key in pairs:
            raise InputError(f"{path} gives the column {name!r} twice")
        if key:
            pairs[key] = index
        else:
            names[name] = index
    classes = tuple(dict.fromkeys(key[0] for key in pairs))
    rois = tuple(dict.fromkeys(key[1] for key in pairs))
    if "patient" not in names or not pairs:
        raise InputError(f"{path} is no published table: it needs patient and CLASS_explanation_in_ROI_mass columns")
    signed = not any(key[2] == "mass" for key in pairs)
    # The share of the whole attribution follows from signed shares only with the means.
    needed = ("mass_pos", "mean_pos", "mass_neg", "mean_neg") if signed else ("mass",)
    for name in classes:
        for roi in rois:
            for measure in needed:
                if (name, roi, measure) not in pairs:
                    raise InputError(
                        f"{path} has no column {name}_explanation_in_{roi}_{measure}; is the table complete?"
                    )
    return _Layout(pairs, names, classes, rois, signed)


def _belongs_to_class(name: str, classes: Sequence[str]) -> bool:
    found = _OF_CLASS.fullmatch(name)
    return bool(found and found[1] in classes)


def _read(path: Path, row: Row, layout: _Layout) -> dict[str, np.ndarray]:
    """Return the columns of pairs of one patient: measure with its sign -> (classes, rois)."""
    cubes: dict[str, np.ndarray] = {}
    for (name, roi, measure), column in layout.pairs.items():
        matrix = cubes.setdefault(measure, np.full((len(layout.classes), len(layout.rois)), np.nan))
        value = _number(path, row, column)
        if value < 0 or value == np.inf or (measure.startswith("mass") and value > 1 + _ROUNDING):
            told = "a share of 0 to 1" if measure.startswith("mass") else "the mean of an absolute value"
            raise InputError(f"{path} line {row.line} column {column + 1}: {value:g} is not {told}; mend the table")
        matrix[layout.classes.index(name), layout.rois.index(roi)] = value
    return cubes


def _partition(path: Path, layout: _Layout, cubes: Mapping[str, Mapping[str, np.ndarray]]) -> list[int]:
    """Return the regions that fill the volume: all, or those that are classes too; none where the masses tell otherwise.

    Raises
    ------
    InputError
        Most masses sum to nearly 1 and some do not: rounded, or one is missing. Taken for extra masks, absent classes would
        count as classes without attribution.
    """
    everything = list(range(len(layout.rois)))
    own = [k for k, roi in enumerate(layout.rois) if roi in layout.classes]
    measure = "mass_pos" if layout.signed else "mass"
    rows = np.concatenate([one[measure] for one in cubes.values()])
    there = np.flatnonzero(np.nansum(rows, axis=1) > 0)
    apart = {len(some): np.abs(np.nansum(rows[there][:, some], axis=1) - 1.0) for some in (everything, own)}
    for some in (everything, own):
        if some and len(there) and apart[len(some)].max() < _ROUNDING:
            return some
    for some in (everything, own):
        far = apart[len(some)]
        if len(some) >= _FEWEST_PARTS and len(there) and (far < _NEARLY).mean() > 0.5:
            case, row = divmod(int(there[far.argmax()]), len(layout.classes))
            raise InputError(
                f"{path}, patient {list(cubes)[case]}: the masses of {layout.classes[row]} sum to "
                f"{np.nansum(rows[there[far.argmax()], some]):.4f}, and most others to nearly 1; export all of them, with six "
                "digits or more"
            )
    return []


def _table(layout: _Layout, cube: Mapping[str, np.ndarray], parts: Sequence[int]) -> ImportanceTable:
    shape = (len(layout.classes), len(layout.rois))
    values = {measure: np.full(shape, np.nan) for measure in MEASURES}
    nothing = np.full(shape, np.nan)
    if layout.signed:
        values["positive"], values["negative"] = cube["mass_pos"], cube["mass_neg"]
        mass, mean, volumes = _of_signed(cube, parts)
    else:
        mass, mean = cube["mass"], cube.get("mean", nothing)
        volumes = _volume_shares(mass, mean, parts)
    # Of a class that is there, a region that the patient lacks holds nothing. In a partition masses of 0 throughout are
    # a class without attribution; of extra masks they are a patient without the finding.
    there: np.ndarray = (np.nansum(mass, axis=1) > 0) if parts else np.isfinite(mass).any(axis=1)
    values["mass"] = np.where(there[:, None], np.nan_to_num(mass), np.nan)
    values["mean_density"] = np.where(there[:, None], mean, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        values["enrichment"] = np.where(volumes > 0, values["mass"] / volumes, np.nan)
    for measure in ("positive", "negative"):
        values[measure] = np.where(there[:, None] & layout.signed, np.nan_to_num(values[measure]), np.nan)
    return ImportanceTable(layout.classes, layout.rois, values)


def _of_signed(cube: Mapping[str, np.ndarray], parts: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mass, mean and volume shares of |E| from those of its positive and its negative part.

    Where there is no negative attribution at all, its shares are 0 / 0 and its mean over the volume is 0.
    """
    sides = [(cube["mass_pos"], cube["mean_pos"]), (cube["mass_neg"], cube["mean_neg"])]
    volumes = [_volume_shares(mass, mean, parts) for mass, mean in sides]
    shares = np.where(np.isfinite(volumes[0]), volumes[0], volumes[1])
    if not np.isfinite(shares[list(parts)]).all() and any((mass > 0).any() for mass, _ in sides):
        raise ValueError(
            "a mean is missing, so that the two signs cannot be put together; fill it in or leave the patient out"
        )
    strengths = []
    for mass, mean in sides:
        # Mean over the volume: of each region its mean times its share of the volume.
        inside = np.nan_to_num(mean[:, parts]) * np.nan_to_num(shares[list(parts)])
        strengths.append(np.where(np.nansum(mass[:, parts], axis=1) > 0, inside.sum(axis=1), 0.0)[:, None])
    total = strengths[0] + strengths[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        mass = (np.nan_to_num(sides[0][0]) * strengths[0] + np.nan_to_num(sides[1][0]) * strengths[1]) / total
    mean = sides[0][1] + sides[1][1]
    return mass, mean, shares


def _volume_shares(mass: np.ndarray, mean: np.ndarray, parts: Sequence[int]) -> np.ndarray:
    """Return each region's share of the volume, shape (rois,), from masses and means over a partition; NaN if not known.

    Every class has the same regions, so what one row leaves open (no attribution there, a mean that is missing) another
    tells; rows are put on the scale of the fullest one first.
    """
    found = np.full(mass.shape[1], np.nan)
    if not len(parts):
        return found
    with np.errstate(invalid="ignore", divide="ignore"):
        voxels = np.where((mass > 0) & (mean > 0), mass / mean, np.nan)
    # No mean and no mass: the patient lacks the region.
    lacks = (~np.isfinite(mean) & ~(mass > 0)).all(axis=0)
    voxels[:, lacks] = np.where(np.asarray(np.isfinite(voxels).any(axis=1))[:, None], 0.0, np.nan)
    inside = voxels[:, list(parts)]
    known = np.isfinite(inside)
    if not known.any():
        return found
    first = inside[int(known.sum(axis=1).argmax())]
    scales = np.full(len(voxels), np.nan)
    for row in range(len(voxels)):
        both = known[row] & np.isfinite(first)
        if inside[row, both].sum() > 0:
            scales[row] = first[both].sum() / inside[row, both].sum()
    on_one_scale = voxels * scales[:, None]
    some = np.isfinite(on_one_scale).any(axis=0)
    found[some] = np.nanmedian(on_one_scale[:, some], axis=0)
    whole = found[list(parts)].sum()
    # One region of unknown volume leaves all shares unknown.
    return found / whole if np.isfinite(whole) else np.full(mass.shape[1], np.nan)


def _dice(path: Path, row: Row, layout: _Layout) -> dict[str, dict[str, float]]:
    found = {}
    for name in layout.classes:
        columns = [layout.names[key] for key in (f"{name}_dice", f"{name}_dice_pos") if key in layout.names]
        value = _number(path, row, columns[0]) if columns else float("nan")
        if value < 0 or value > 1:
            raise InputError(f"{path} line {row.line}: a Dice of {value:g} of {name} is not 0 to 1; mend the table")
        if np.isfinite(value):
            found[name] = {"dice": value}
    return found


def _number(path: Path, row: Row, column: int) -> float:
    try:
        return number_in(row[column])
    except ValueError as error:
        raise InputError(f"{path} line {row.line} column {column + 1}: {row[column]!r} is not a number") from error
