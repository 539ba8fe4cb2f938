"""From parts to tables: the three Parquet files of a cohort, in the order of its cases, whoever finished first."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from Agg2ExpLib.cohort.run.cases import CohortCase
from Agg2ExpLib.cohort.run.store import CohortFolder, Part, arrow
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.importance import MEASURES
from Agg2ExpLib.request import difference
from Agg2ExpLib.storage import new_file

#: Schema metadata of the tables: the identity that all rows share.
IDENTITY_KEY = b"agg2exp_identity"
# Parts put together before they are written: bounds memory, whatever the number of cases.
_AT_ONCE = 200


def assemble(store: CohortFolder) -> tuple[int, int]:
    """Write the tables of a cohort from its parts.

    Parameters
    ----------
    store : CohortFolder
        A prepared folder.

    Returns
    -------
    finished, failed : int
        Numbers of cases.

    Raises
    ------
    InputError
        A part is damaged, or made with another model or other settings.
    OutputError
        The tables cannot be written.
    """
    document = store.document()
    cases = [CohortCase.from_dict(values) for values in document["cases"]]
    identity = document["identity"]
    pa, _ = arrow()
    metadata = {IDENTITY_KEY: json.dumps(identity, sort_keys=True).encode()}
    _write(
        store.folder / "importance.parquet", _importance_schema(pa, metadata), _importance(pa, store, cases, identity)
    )
    agreement = [
        (part.case, name, values.get("dice"), values.get("surface_dice"))
        for part in store.finished(cases)
        for name, values in part.agreement.items()
    ]
    fields = [("case", pa.string()), ("class", pa.string()), ("dice", pa.float64()), ("surface_dice", pa.float64())]
    schema = pa.schema(fields, metadata=metadata)
    columns = [list(column) for column in zip(*agreement, strict=True)] or [[], [], [], []]
    arrays = [pa.array(values, kind) for values, (_, kind) in zip(columns, fields, strict=True)]
    _write(store.folder / "classes.parquet", schema, [pa.Table.from_arrays(arrays, schema=schema)])
    return _write_cases(pa, store, cases, identity, metadata)


def _importance_schema(pa: Any, metadata: dict[bytes, bytes]) -> Any:
    names = [("case", pa.string()), ("class", pa.string()), ("roi", pa.string())]
    return pa.schema([*names, *((measure, pa.float64()) for measure in MEASURES)], metadata=metadata)


def _importance(pa: Any, store: CohortFolder, cases: Sequence[CohortCase], identity: dict[str, Any]) -> Iterator[Any]:
    schema = _importance_schema(pa, {})
    waiting: list[Any] = []
    for part in store.finished(cases):
        told = difference(identity, part.provenance["identity"])
        if told:
            raise InputError(f"{part.case} in {store.folder} does not belong to the others: {told}; delete its part")
        waiting.append(pa.Table.from_arrays(_columns(pa, part), schema=schema))
        if len(waiting) >= _AT_ONCE:
            yield pa.concat_tables(waiting)
            waiting = []
    yield pa.concat_tables([schema.empty_table(), *waiting])


def _columns(pa: Any, part: Part) -> list[Any]:
    classes, rois = part.table.classes, part.table.rois
    return [
        pa.array([part.case] * (len(classes) * len(rois)), pa.string()),
        pa.array(np.repeat(np.array(classes, dtype=object), len(rois)), pa.string()),
        pa.array(list(rois) * len(classes), pa.string()),
        *(pa.array(part.table.values[measure].ravel(), pa.float64()) for measure in MEASURES),
    ]


def _write_cases(
    pa: Any,
    store: CohortFolder,
    cases: Sequence[CohortCase],
    identity: dict[str, Any],
    metadata: dict[bytes, bytes],
) -> tuple[int, int]:
    finished = [store.has(case.id) for case in cases]
    reasons = ["" if done else store.failure(case.id) for case, done in zip(cases, finished, strict=True)]
    status = [
        "done" if done else "waiting" if reason is None else "failed"
        for done, reason in zip(finished, reasons, strict=True)
    ]
    columns = {
        "case": [case.id for case in cases],
        "status": status,
        "reason": [reason or "" for reason in reasons],
        "image": [str(case.image) for case in cases],
        "model_sha256": [str(identity["model"].get("sha256", ""))] * len(cases),
    }
    for name in sorted({name for case in cases for name in case.metadata}):
        columns[f"meta:{name}"] = [case.metadata.get(name, "") for case in cases]
    schema = pa.schema([(name, pa.string()) for name in columns], metadata=metadata)
    table = pa.Table.from_arrays([pa.array(values, pa.string()) for values in columns.values()], schema=schema)
    _write(store.folder / "cases.parquet", schema, [table])
    return sum(finished), status.count("failed")


def _write(path: Path, schema: Any, tables: Iterable[Any]) -> None:
    """Write a Parquet file piece by piece; it gets its name when it is complete."""
    _, pq = arrow()
    with new_file(path) as part, pq.ParquetWriter(part, schema, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table.replace_schema_metadata(schema.metadata))
