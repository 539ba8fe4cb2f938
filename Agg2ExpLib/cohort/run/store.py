"""The cohort folder: one part file per finished case, and the tables that are put together from the parts.

::

    DIR/
      cohort.json             model, settings, and the list of cases
      parts/<case>.parquet    a finished case: its importance rows; its provenance and agreement in the file's metadata
      failures/<case>.json    a case that could not be explained, with the reason
      explanations/<case>/    the Explanation folder, when it is kept
      importance.parquet      long: case, class, roi, mass, positive, negative, mean_density, enrichment, voxels
      classes.parquet         case, class, dice, surface_dice
      cases.parquet           case, status, reason, image, model_sha256, then the metadata

A file appears under its name only when it is complete, so a run may be killed at any moment: what has a part is finished,
what has none is done again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from Agg2ExpLib.cohort.run.cases import CohortCase
from Agg2ExpLib.errors import InputError, OutputError
from Agg2ExpLib.importance import MEASURES, ImportanceTable
from Agg2ExpLib.request import difference
from Agg2ExpLib.storage import Kind, open_folder, safe_file_name, write_file

FORMAT = "agg2exp-cohort"
FORMAT_VERSION = 1
DOCUMENT = "cohort.json"
KIND = Kind("a cohort folder", lambda folder: (folder / DOCUMENT).is_file())
TABLES = ("importance.parquet", "classes.parquet", "cases.parquet")
_KEY = b"agg2exp"


def arrow() -> tuple[Any, Any]:
    """Return ``pyarrow`` and ``pyarrow.parquet``, or say how to get them."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(
            f"cohort tables need the package pyarrow ({error}); install it: pip install 'agg2exp[cohort]'"
        ) from error
    return pyarrow, pyarrow.parquet


@dataclass(frozen=True)
class Part:
    """A finished case, read back: importance, Dice and surface Dice by class, and provenance."""

    case: str
    table: ImportanceTable
    agreement: Mapping[str, Mapping[str, float]]
    provenance: Mapping[str, Any]


class CohortFolder:
    """A cohort on disk; workers and the run itself use it at the same time.

    Parameters
    ----------
    folder : path
        Where it lies; made when it is not there.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.parts, self.failures = self.folder / "parts", self.folder / "failures"
        self.explanations, self.work = self.folder / "explanations", self.folder / "work"

    def open(self, wait: Callable[[], None] | None = None) -> AbstractContextManager[None]:
        """Keep the folder for one run; a second one is refused, or waits and calls ``wait`` now and then.

        Raises
        ------
        OutputError
            On entering: another run is at work, or the folder holds something else.
        """
        return open_folder(self.folder, KIND, wait=wait)

    def prepare(self, identity: Mapping[str, Any], cases: Iterable[CohortCase]) -> list[CohortCase]:
        """Make the open folder, or go on with it; return every case that it has now, the new ones last.

        Raises
        ------
        InputError
            It was made with another model, other settings, or another scan for the same case.
        OutputError
            It cannot be written.
        """
        known: list[CohortCase] = []
        if (self.folder / DOCUMENT).is_file():
            document = self.document()
            told = difference(document["identity"], identity)
            if told:
                raise InputError(f"{self.folder} holds a cohort of another kind: {told}; give another --out")
            known = [CohortCase.from_dict(values) for values in document["cases"]]
        merged = {case.id: case for case in known}
        for case in cases:
            before = merged.get(case.id)
            if before is not None and before.sources() != case.sources() and self.has(case.id):
                raise InputError(
                    f"{case.id} in {self.folder} was made from {before.image}, not {case.image}; rename it"
                )
            merged[case.id] = case
        try:
            for path in (self.parts, self.failures):
                path.mkdir(parents=True, exist_ok=True)
            # Temporary folders of a killed run; the caller has the folder to itself.
            shutil.rmtree(self.work, ignore_errors=True)
            self.work.mkdir()
        except OSError as error:
            raise OutputError(f"cannot write to {self.folder}: {error.strerror}; choose another --out") from error
        document = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "identity": dict(identity),
            "cases": [case.to_dict() for case in merged.values()],
        }
        write_file(self.folder / DOCUMENT, (json.dumps(document, indent=1) + "\n").encode())
        return list(merged.values())

    def document(self) -> dict[str, Any]:
        """Return ``cohort.json``.

        Raises
        ------
        InputError
            Not a cohort folder, damaged, or of a newer format.
        """
        path = self.folder / DOCUMENT
        if not path.is_file():
            raise InputError(
                f"{self.folder} is not a cohort folder: it has no {DOCUMENT}; make one with agg2exp cohort"
            )
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if document["format"] != FORMAT or not isinstance(document["format_version"], int):
                raise ValueError("another format")
            [CohortCase.from_dict(values) for values in document["cases"]]
            dict(document["identity"]["model"]), dict(document["identity"]["settings"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path} cannot be read ({error}); make the cohort again") from error
        if document["format_version"] > FORMAT_VERSION:
            raise InputError(
                f"{path} has format version {document['format_version']}, this Agg2Exp reads up to {FORMAT_VERSION}; "
                "update Agg2Exp to open it"
            )
        return dict(document)

    def has(self, case: str) -> bool:
        """Tell whether a case is finished."""
        return self._part(case).is_file()

    def failure(self, case: str) -> str | None:
        """Return why a case failed; ``None`` when it did not."""
        try:
            return str(json.loads(self._failure(case).read_text(encoding="utf-8"))["reason"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            return "the note of the failure cannot be read"

    def write_failure(self, case: str, reason: str) -> None:
        """Note that a case could not be explained."""
        text = json.dumps({"case": case, "reason": " ".join(reason.split())}) + "\n"
        write_file(self._failure(case), text.encode())

    def write_part(
        self,
        case: str,
        table: ImportanceTable,
        agreement: Mapping[str, Mapping[str, float]],
        provenance: Mapping[str, Any],
    ) -> None:
        """Write a finished case.

        Parameters
        ----------
        case : str
            Its id.
        table : ImportanceTable
            Its rows.
        agreement : mapping
            Class -> ``dice`` and ``surface_dice``; empty without ground truth.
        provenance : mapping
            ``identity``, ``sources``, ``seconds``, ``messages``.
        """
        pa, pq = arrow()
        note = {"case": case, "classes": table.classes, "rois": table.rois, "agreement": agreement, **provenance}
        columns = {m: pa.array(table.values[m].ravel(), pa.float64()) for m in MEASURES}
        stream = pa.BufferOutputStream()
        pq.write_table(pa.table(columns).replace_schema_metadata({_KEY: json.dumps(note).encode()}), stream)
        write_file(self._part(case), stream.getvalue().to_pybytes())
        self._failure(case).unlink(missing_ok=True)

    def read_part(self, case: str) -> Part:
        """Read a finished case back.

        Raises
        ------
        InputError
            The part is missing or damaged.
        """
        pa, pq = arrow()
        path = self._part(case)
        try:
            # The bytes are read first: of a file that memory is mapped to, damage would end the process.
            read = pq.read_table(pa.BufferReader(path.read_bytes()))
            note = json.loads(read.schema.metadata[_KEY])
            classes, rois = tuple(note["classes"]), tuple(note["rois"])
            shape = (len(classes), len(rois))
            values = {m: np.asarray(read[m].to_numpy(), dtype=float).reshape(shape) for m in MEASURES}
            return Part(str(note["case"]), ImportanceTable(classes, rois, values), note["agreement"], note)
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
            raise InputError(f"{path} cannot be read ({error}); delete it and run the cohort again") from error

    def finished(self, cases: Iterable[CohortCase]) -> Iterator[Part]:
        """Read the finished ones of some cases, in their order."""
        for case in cases:
            if self.has(case.id):
                yield self.read_part(case.id)

    def _part(self, case: str) -> Path:
        return self.parts / f"{file_stem(case)}.parquet"

    def _failure(self, case: str) -> Path:
        return self.failures / f"{file_stem(case)}.json"


def file_stem(case: str) -> str:
    """Return a file name for a case id that no other id has.

    Examples
    --------
    >>> file_stem("s0011"), file_stem("a b") != file_stem("a_b"), file_stem("A") != file_stem("a")
    ('s0011', True, True)
    """
    return safe_file_name(case, distinct=True)
