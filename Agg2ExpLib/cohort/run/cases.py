"""Which cases a cohort has: read from a table, a folder of cases, a folder of scans, or DICOM studies."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from Agg2ExpLib.cohort.run.csv_tables import read_rows
from Agg2ExpLib.errors import InputError, nearest_names
from Agg2ExpLib.training.cases import find_cases
from Agg2ExpLib.volume import READABLE, describe_series, is_dicom

#: Prefix of the columns of a case table that hold masks: ``roi:pleural_effusion``.
ROI_PREFIX = "roi:"
_ID, _IMAGE = "id", "image"
_TRUTH = ("truth", "segmentation", "ground_truth")
_LONGEST_ID = 200


@dataclass(frozen=True)
class CohortCase:
    """One case to explain; its paths are made absolute, for workers elsewhere stand in other folders.

    Attributes
    ----------
    id : str
        Its name, unique in the cohort.
    image : Path
        CT file, or folder of a DICOM series.
    truth : Path, optional
        Ground truth: a label map (values are the model's class indices) or a folder of masks, one per structure.
    regions : mapping of str to Path
        Masks of extra regions by name. A region that other cases have and this one does not is taken as not present.
    metadata : mapping of str to str
        Anything else that is known, such as age and sex.
    problem : str
        Why the case cannot even be tried; empty as a rule.
    """

    id: str
    image: Path
    truth: Path | None = None
    regions: Mapping[str, Path] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "image", self.image.absolute())
        object.__setattr__(self, "truth", self.truth.absolute() if self.truth else None)
        object.__setattr__(self, "regions", {name: path.absolute() for name, path in self.regions.items()})

    def sources(self) -> dict[str, Any]:
        """Return the files that the result depends on, as plain values."""
        return {
            "image": str(self.image),
            "truth": str(self.truth or ""),
            "regions": {name: str(path) for name, path in sorted(self.regions.items())},
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for ``cohort.json``."""
        return {"id": self.id, **self.sources(), "metadata": dict(self.metadata), "problem": self.problem}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CohortCase:
        """Read what :meth:`to_dict` returned."""
        return cls(
            str(values["id"]),
            Path(values["image"]),
            Path(values["truth"]) if values["truth"] else None,
            {str(name): Path(path) for name, path in values["regions"].items()},
            {str(name): str(value) for name, value in values["metadata"].items()},
            str(values["problem"]),
        )


def find_cohort(source: str | Path) -> list[CohortCase]:
    """List the cases of a cohort.

    Parameters
    ----------
    source : path
        A table ``.csv`` with the columns ``id``, ``image`` and optionally ``truth``, ``roi:NAME`` (masks) and any metadata
        (paths are relative to the table); or a folder with phantoms or TotalSegmentator subjects (``*/ct.nii.gz``), with
        DICOM studies (one subfolder each), or with scan files.

    Returns
    -------
    list of CohortCase
        In the table's order, or sorted by name. Files that are missing are found out when the case's turn comes.

    Raises
    ------
    InputError
        Nothing there, no case in it, columns that are missing, or an id given twice.
    """
    source = Path(source)
    if source.is_dir():
        cases = _from_folder(source)
    elif source.suffix.lower() == ".csv":
        cases = read_case_table(source)
    else:
        raise InputError(f"{source} is neither a folder nor a .csv table; give the cases as one of these")
    _refuse_twice(source, [case.id for case in cases])
    return cases


def read_case_table(path: str | Path) -> list[CohortCase]:
    """Read a table of cases; a row that cannot be read becomes a case with a ``problem``.

    Raises
    ------
    InputError
        Unreadable, without rows, or without the columns ``id`` and ``image``.
    """
    path = Path(path)
    rows = read_rows(path)
    header = [name.strip() for name in rows[0]]
    _refuse_twice(path, header, "column")
    for column in (_ID, _IMAGE):
        if column not in header:
            raise InputError(f"{path} has no column {column!r}: {nearest_names(column, header)}")
    if len(rows) == 1:
        raise InputError(f"{path} has no case: there is a header and no row under it")
    return [_row_to_case(path, row.line, header, row) for row in rows[1:]]


def _row_to_case(path: Path, line: int, header: Sequence[str], row: Sequence[str]) -> CohortCase:
    values = {name: text.strip() for name, text in zip(header, row, strict=False)}
    identifier = values.get(_ID, "")[:_LONGEST_ID] or f"line {line}"
    image = path.parent / values.get(_IMAGE, "")
    problem = ""
    if len(row) != len(header):
        problem = f"{path} line {line} has {len(row)} fields, the header has {len(header)}; mend the row"
    elif not values[_ID]:
        problem = f"{path} line {line} has no id; give each case its own"
    elif not values[_IMAGE]:
        problem = f"{path} line {line} names no image"
    if problem:
        return CohortCase(identifier, image, problem=problem)
    truth = next((values[name] for name in _TRUTH if values.get(name)), "")
    regions = {
        name.removeprefix(ROI_PREFIX).strip(): path.parent / text
        for name, text in values.items()
        if name.startswith(ROI_PREFIX) and text
    }
    metadata = {
        name: text
        for name, text in values.items()
        if name not in (_ID, _IMAGE, *_TRUTH) and not name.startswith(ROI_PREFIX)
    }
    return CohortCase(identifier, image, path.parent / truth if truth else None, regions, metadata)


def _refuse_twice(source: Path, names: Sequence[str], what: str = "case") -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InputError(f"{source} gives the {what} {name!r} twice; give each {what} a name of its own")
        seen.add(name)


def _from_folder(folder: Path) -> list[CohortCase]:
    if any(folder.glob("*/ct.nii.gz")):
        return _case_folders(folder)
    studies = list(_dicom_studies(folder))
    if studies:
        return studies
    scans = [path for path in sorted(folder.iterdir()) if path.is_file() and path.name.lower().endswith(READABLE)]
    if not scans:
        raise InputError(
            f"{folder} holds no case: it needs subfolders with ct.nii.gz, DICOM studies, or scans "
            f"({', '.join(READABLE)}); or give a .csv table"
        )
    suffix_of = {path: next(end for end in READABLE if path.name.lower().endswith(end)) for path in scans}
    return [CohortCase(path.name[: -len(suffix_of[path])], path) for path in scans]


def _case_folders(folder: Path) -> list[CohortCase]:
    truths = {}
    if any(folder.glob("*/segmentation.nii.gz")) or any(folder.glob("*/segmentations")):
        truths = {case.name: case.labels or case.masks for case in find_cases(folder)}
    known = _metadata_table(folder / "meta.csv")
    cases = []
    for image in sorted(folder.glob("*/ct.nii.gz")):
        here = image.parent
        regions = {path.name.removesuffix(".nii.gz"): path for path in sorted(here.glob("findings/*.nii.gz"))}
        metadata = {**known.get(here.name, {}), **_phantom_metadata(here / "case.json")}
        cases.append(CohortCase(here.name, image, truths.get(here.name), regions, metadata))
    return cases


def _metadata_table(path: Path) -> dict[str, dict[str, str]]:
    """Return what TotalSegmentator's ``meta.csv`` says of each subject; nothing when there is none."""
    if not path.is_file():
        return {}
    header, *rows = read_rows(path)
    return {row[0]: dict(zip(header[1:], row[1:], strict=False)) for row in rows}


def _phantom_metadata(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        worst = max((float(one["severity"]) for one in found["findings"]), default=0.0)
        kinds = "+".join(sorted({str(one["kind"]) for one in found["findings"]})) or "healthy"
        return {"sex": str(found["sex"]), "age": str(found["age"]), "finding": kinds, "severity": f"{worst:g}"}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _dicom_studies(folder: Path) -> Iterator[CohortCase]:
    """Yield one case per subfolder: of several series the one of most files; sex, age and scanner from its headers.

    A folder without such subfolders that holds a series itself is one case.
    """
    found = False
    for study in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        series = [here for here in [study, *sorted(study.rglob("*"))] if here.is_dir() and _holds_dicom(here)]
        if series:
            largest = max(series, key=lambda here: sum(1 for _ in here.iterdir()))
            found = True
            yield CohortCase(study.name, largest, metadata=describe_series(largest))
    if not found and _holds_dicom(folder):
        yield CohortCase(folder.resolve().name, folder, metadata=describe_series(folder))


def _holds_dicom(folder: Path) -> bool:
    """Tell by the first few files."""
    files = (path for path in sorted(folder.iterdir())[:20] if path.is_file() and path.name.upper() != "DICOMDIR")
    return any(map(is_dicom, files))
