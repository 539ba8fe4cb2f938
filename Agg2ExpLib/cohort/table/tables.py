"""A cohort's tables as arrays: cases x classes x regions, with what is known of each case beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from Agg2ExpLib.cohort.run.csv_tables import is_missing, number_in
from Agg2ExpLib.cohort.run.store import TABLES, CohortFolder, arrow
from Agg2ExpLib.cohort.table.assemble import IDENTITY_KEY
from Agg2ExpLib.errors import InputError, nearest_names
from Agg2ExpLib.importance import ImportanceTable
from Agg2ExpLib.request import identity_of

if TYPE_CHECKING:
    from Agg2ExpLib.explanation import Explanation

#: Measures that analyses use; the rest stays in the file.
CUBES = ("mass", "enrichment", "positive", "negative")
_META = "meta:"
#: Columns of metadata that tell whose scan a case is.
PATIENT_COLUMNS = ("patient", "patient_id", "subject", "subject_id")


@dataclass(frozen=True, eq=False)
class CohortTable:
    """Importance of many cases.

    Attributes
    ----------
    cases, classes, rois : tuple of str
        Names along the three axes; finished cases only.
    values : mapping of str to ndarray, shape (cases, classes, rois)
        ``mass``, ``enrichment``, ``positive`` and ``negative``. The row of a class that a case lacks is NaN. A region that a case
        does not have (a finding, say) has mass 0 and enrichment NaN.
    dice, surface_dice : ndarray, shape (cases, classes)
        NaN where there is no ground truth.
    metadata : mapping of str to tuple of str
        One text per case and column.
    identity : mapping
        Model and settings that all rows share; see :func:`Agg2ExpLib.request.identity_of`.
    failures : mapping of str to str
        Failed case -> reason.
    volumes : ndarray, shape (cases, rois)
        Share of the volume that a region has: 0 where a case lacks it, NaN where it cannot be told.
    """

    cases: tuple[str, ...]
    classes: tuple[str, ...]
    rois: tuple[str, ...]
    values: Mapping[str, np.ndarray]
    dice: np.ndarray
    surface_dice: np.ndarray
    metadata: Mapping[str, tuple[str, ...]]
    identity: Mapping[str, Any]
    failures: Mapping[str, str]
    volumes: np.ndarray

    @classmethod
    def read(cls, folder: str | Path) -> CohortTable:
        """Read the tables of a cohort folder.

        Raises
        ------
        InputError
            Not a cohort folder, no finished case, a damaged table, rows given twice, or rows of different models.
        """
        folder = Path(folder)
        document = CohortFolder(folder).document()
        missing = [name for name in TABLES if not (folder / name).is_file()]
        if missing:
            raise InputError(f"{folder} has no {missing[0]} yet; let agg2exp cohort run to its end first")
        listed = _read(folder / "cases.parquet")
        models = sorted(set(listed["model_sha256"].to_pylist()))
        long = _read(folder / "importance.parquet", ["case", "class", "roi"])
        identities = {(table.schema.metadata or {}).get(IDENTITY_KEY) for table in (listed, long)}
        if len(models) > 1 or len(identities) > 1 or json.loads(next(iter(identities)) or b"0") != document["identity"]:
            raise InputError(f"{folder} mixes cases of different models or settings; make one cohort for each")
        done = [i for i, status in enumerate(listed["status"].to_pylist()) if status == "done"]
        names = listed["case"].to_pylist()
        cases = tuple(names[i] for i in done)
        if not cases:
            raise InputError(f"{folder} has no finished case; see the reasons in its cases.parquet")
        classes, rois, values, voxels = _cubes(folder, long, cases)
        labels = document["identity"]["model"].get("labels") or ()
        volumes = volume_shares(values["mass"], values["enrichment"], voxels, rois, labels)
        agreement = _read(folder / "classes.parquet")
        dice, surface = (_per_class(agreement, column, cases, classes) for column in ("dice", "surface_dice"))
        metadata = {
            column.removeprefix(_META): tuple(texts[i] for i in done)
            for column in listed.column_names
            if column.startswith(_META)
            for texts in [listed[column].to_pylist()]
        }
        status, reasons = listed["status"].to_pylist(), listed["reason"].to_pylist()
        failures = {name: why for name, what, why in zip(names, status, reasons, strict=True) if what == "failed"}
        return cls(cases, classes, rois, values, dice, surface, metadata, document["identity"], failures, volumes)

    @classmethod
    def of_explanation(cls, explanation: Explanation) -> CohortTable:
        """Return the table of one case."""
        table: ImportanceTable = explanation.importance
        name = str(explanation.document["image"].get("name") or explanation.folder.name)
        nothing = np.full((1, len(table.classes)), np.nan)
        values = {measure: table.matrix(measure)[None] for measure in CUBES}
        identity = identity_of(explanation.document)
        voxels = table.matrix("voxels").max(axis=0)[None]
        labels = identity["model"].get("labels") or ()
        volumes = volume_shares(values["mass"], values["enrichment"], voxels, table.rois, labels)
        return cls((name,), table.classes, table.rois, values, nothing, nothing, {}, identity, {}, volumes)

    def context(self) -> np.ndarray:
        """Return 1 - I(E_c, M_c), shape (cases, classes); NaN for a class that is no region."""
        own = np.full(self.dice.shape, np.nan)
        for row, name in enumerate(self.classes):
            if name in self.rois:
                own[:, row] = self.values["mass"][:, row, self.rois.index(name)]
        return 1.0 - own

    def patients(self) -> np.ndarray:
        """Return whose scan each case is, as numbers, shape (cases,): by the column ``patient`` or ``subject``, if there is one.

        A case without an entry, and every case of a table without such a column, is a patient of its own.
        """
        column = next((name for name in self.metadata if name.strip().lower() in PATIENT_COLUMNS), None)
        told = self.metadata[column] if column else ("",) * len(self.cases)
        names = [
            ("case", case) if is_missing(text) else ("patient", text)
            for case, text in zip(self.cases, told, strict=True)
        ]
        return np.unique([repr(name) for name in names], return_inverse=True)[1]

    def present(self) -> np.ndarray:
        """Return where a case has an explained class, shape (cases, classes)."""
        return np.isfinite(self.values["mass"]).all(axis=2)

    def select(self, cases: Sequence[int]) -> CohortTable:
        """Return the table of some cases, by index."""
        index = np.asarray(cases, dtype=int)
        return replace(
            self,
            cases=tuple(self.cases[i] for i in index),
            values={measure: cube[index] for measure, cube in self.values.items()},
            dice=self.dice[index],
            surface_dice=self.surface_dice[index],
            volumes=self.volumes[index],
            metadata={column: tuple(texts[i] for i in index) for column, texts in self.metadata.items()},
        )

    def column(self, name: str) -> tuple[str, ...]:
        """Return one column of metadata.

        Raises
        ------
        InputError
            There is no such column.
        """
        if name not in self.metadata:
            there = nearest_names(name, self.metadata) if self.metadata else "the cohort has no metadata"
            raise InputError(f"the cohort has no column {name!r}: {there}")
        return self.metadata[name]

    def numbers(self, name: str) -> np.ndarray | None:
        """Return a column as numbers, NaN where empty; ``None`` when it holds words."""
        texts = self.column(name)
        try:
            found = np.array([number_in(text) for text in texts])
        except ValueError:
            return None
        return found if np.isfinite(found).any() else None


def _read(path: Path, dictionary: Sequence[str] = ()) -> Any:
    pa, pq = arrow()
    try:
        # Read, not mapped: damage in a mapped file would end the process.
        table = pq.read_table(path, memory_map=False, read_dictionary=list(dictionary) or None)
        table.validate(full=False)
        return table
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read ({str(error).splitlines()[0]}); run agg2exp cohort again") from error


def _cubes(
    folder: Path, long: Any, cases: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, np.ndarray], np.ndarray]:
    where, names = [], []
    try:
        for column in ("case", "class", "roi"):
            chunks = long[column].combine_chunks()
            encoded = chunks.chunk(0) if hasattr(chunks, "chunk") else chunks
            names.append(tuple(encoded.dictionary.to_pylist()))
            where.append(np.asarray(encoded.indices.to_numpy(zero_copy_only=False)))
        numbers = {m: np.asarray(long[m].to_numpy(), dtype=float) for m in (*CUBES, "voxels")}
    except (KeyError, AttributeError, ValueError) as error:
        raise InputError(f"{folder}/importance.parquet lacks columns ({error}); run agg2exp cohort again") from error
    position = {name: index for index, name in enumerate(cases)}
    if set(names[0]) != set(cases):
        raise InputError(
            f"{folder}/importance.parquet and cases.parquet list different cases; run agg2exp cohort again"
        )
    row = np.array([position[name] for name in names[0]], dtype=np.int64)[where[0]]
    shape = (len(cases), len(names[1]), len(names[2]))
    flat = np.ravel_multi_index((row, where[1], where[2]), shape)
    if len(flat) and np.bincount(flat).max() > 1:
        raise InputError(f"{folder}/importance.parquet gives a row twice; run agg2exp cohort again")
    values = {}
    for measure in (*CUBES, "voxels"):
        cube = np.full(int(np.prod(shape)), np.nan)
        cube[flat] = numbers[measure]
        values[measure] = cube.reshape(shape)
    # Of a class that is explained, a region without a row is one that the case does not have.
    there = np.isfinite(values["mass"]).any(axis=2, keepdims=True)
    listed = np.zeros(int(np.prod(shape)), dtype=bool)
    listed[flat] = True
    values["mass"] = np.where(there & ~listed.reshape(shape), 0.0, values["mass"])
    # The sizes of regions are the same in every class's rows; a region without rows has none.
    sizes = np.where(np.isfinite(values["voxels"]), values["voxels"], -1.0).max(axis=1)
    voxels = np.where(sizes >= 0, sizes, np.where(listed.reshape(shape).any(axis=1), np.nan, 0.0))
    del values["voxels"]
    return names[1], names[2], values, voxels


def volume_shares(
    mass: np.ndarray, enrichment: np.ndarray, voxels: np.ndarray, rois: Sequence[str], labels: Sequence[str]
) -> np.ndarray:
    """Return the share of the volume that each region has, shape (cases, rois).

    Parameters
    ----------
    mass, enrichment : ndarray, shape (cases, classes, rois)
        Of which the quotient is the share, whatever the class.
    voxels : ndarray, shape (cases, rois)
        Sizes; NaN where they are not known, as in published tables.
    rois, labels : sequence of str
        Regions, and those of them that fill the volume without overlap: the model's classes.

    Returns
    -------
    ndarray, shape (cases, rois)
        From the sizes, or else from the measures; NaN where neither tells.
    """
    parts = [rois.index(name) for name in labels if name in rois]
    whole = (
        voxels[:, parts].sum(axis=1, keepdims=True)
        if len(parts) == len(labels) and parts
        else np.full((len(voxels), 1), np.nan)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        by_size = np.where(whole > 0, voxels / whole, np.nan)
        quotient = np.where(enrichment > 0, mass / enrichment, np.nan)
    known = np.isfinite(quotient).any(axis=1)
    by_measure = np.where(voxels == 0, 0.0, np.nan)
    for case, roi in zip(*np.nonzero(known & ~np.isfinite(by_size)), strict=True):
        by_measure[case, roi] = np.nanmedian(quotient[case, :, roi])
    # In a partition what no class says anything of is what is not there.
    filled = np.nansum(by_measure[:, parts], axis=1) > 0.999 if parts else np.zeros(len(voxels), dtype=bool)
    inside = np.isin(np.arange(len(rois)), parts)
    by_measure = np.where(filled[:, None] & inside & ~np.isfinite(by_measure), 0.0, by_measure)
    return np.where(np.isfinite(by_size), by_size, by_measure)


def _per_class(table: Any, column: str, cases: tuple[str, ...], classes: tuple[str, ...]) -> np.ndarray:
    found = np.full((len(cases), len(classes)), np.nan)
    rows = {name: index for index, name in enumerate(cases)}
    columns = {name: index for index, name in enumerate(classes)}
    for case, name, value in zip(*(table[key].to_pylist() for key in ("case", "class", column)), strict=True):
        if case in rows and name in columns and value is not None:
            found[rows[case], columns[name]] = value
    return found
