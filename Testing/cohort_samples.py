"""Cohorts that cost nothing: explanations made up from the case's name, and tables written straight away."""

import json
import os
import time
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from Agg2ExpLib.anatomy import THORAX_17
from Agg2ExpLib.cohort.run.cases import CohortCase
from Agg2ExpLib.cohort.run.store import CohortFolder
from Agg2ExpLib.cohort.run.work import Job
from Agg2ExpLib.cohort.table.assemble import IDENTITY_KEY, assemble
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.importance import MEASURES, ImportanceTable
from Agg2ExpLib.request import identity_of, model_entry, request_of
from Agg2ExpLib.volume import Grid, Volume

LABELS = ("background", "heart", "trachea", "aorta")


def fake_model():
    """Stand in for a loaded model: what the runner asks of it."""
    card = SimpleNamespace(
        name="made up", labels=LABELS, colours=[(0, 0, 0)] * 4, spacing=(2.0, 2.0, 2.0), orientation="RAS",
        intensity_range=(-1024.0, 1024.0), window=(8, 8, 8), overlap=0.25, blending="constant",
        channels=("CT",), architecture={}, assumptions=(), extra={},
    )  # fmt: skip
    return SimpleNamespace(card=card, sha256="ab" * 32, source="")


def loading_noted():
    """Load the stand-in, and leave a file for each process that did."""
    folder = os.environ.get("AGG2EXP_TEST_LOADS")
    if folder:
        Path(folder, f"{os.getpid()}").touch()
    return fake_model()


def document_of(model, request):
    return {
        "image": {"name": "made up", "path": ""},
        "model": model_entry(model),
        "settings": request.to_dict(),
        "messages": [],
    }


def table_of(case, classes=LABELS[1:], rois=LABELS, absent=()):
    """Importance made up from the case's name."""
    rng = np.random.default_rng(zlib.crc32(case.encode()))
    mass = rng.dirichlet(np.arange(len(rois), 0, -1) * 20.0, size=len(classes))
    values = {measure: mass * (number + 1) for number, measure in enumerate(MEASURES)}
    values["mass"] = mass
    for name in absent:
        for measure in MEASURES[:-1]:
            values[measure][classes.index(name)] = np.nan
    values["voxels"] = np.full(mass.shape, 100.0)
    return ImportanceTable(tuple(classes), tuple(rois), values)


def fake_explain(image, model, out, settings, *, regions=None, overwrite=False, progress=None):
    """Stand in for explain(): name decides all; ``slow`` takes a moment, ``bad`` fails, ``odd`` breaks a library."""
    name = Path(image).parent.name
    if "bad" in name:
        raise InputError(f"{image} is damaged; export it again")
    if "odd" in name:
        raise RuntimeError("a library broke\nin two lines")
    if os.environ.get("AGG2EXP_TEST_SECONDS"):
        time.sleep(float(os.environ["AGG2EXP_TEST_SECONDS"]))
    out = Path(out)
    out.mkdir(parents=True)
    (out / "big").write_bytes(b"x" * 1000)
    grid = Grid((4, 4, 4), np.diag([2.0, 2.0, 2.0, 1.0]))
    labels = np.zeros((4, 4, 4), dtype=np.uint8)
    labels[1:3, 1:3, 1:3] = 1
    return SimpleNamespace(
        document=document_of(model, settings),
        labels=LABELS,
        importance=table_of(name, rois=(*LABELS, *(regions or {}))),
        prediction=lambda: Volume(labels, grid),
        folder=out,
    )


def made_up_cases(count, prefix="case"):
    return [CohortCase(f"{prefix}{n:03d}", Path(f"/scans/{prefix}{n:03d}/ct.nii.gz"),
                       metadata={"sex": "FM"[n % 2], "age": str(30 + n)})
            for n in range(count)]  # fmt: skip


def fake_job(folder, **changes):
    return Job(Path(folder), loading_noted, request_of(method="gradient"), explain=fake_explain, **changes)


def write_cohort(folder, tables, metadata=None, dice=None, sha256="ab" * 32, method="gradient"):
    """Write a cohort folder of given tables: case -> ImportanceTable."""
    model = fake_model()
    model.sha256 = sha256
    identity = identity_of(document_of(model, request_of(method=method)))
    first = next(iter(tables.values()))
    identity["model"]["labels"] = [roi for roi in first.rois if "effusion" not in roi]
    store = CohortFolder(folder)
    cases = [
        CohortCase(name, Path(f"/scans/{name}.nii.gz"), metadata=(metadata or {}).get(name, {})) for name in tables
    ]
    store.prepare(identity, cases)
    for case in cases:
        agreement = {name: {"dice": value} for name, value in (dice or {}).get(case.id, {}).items()}
        store.write_part(case.id, tables[case.id], agreement, {"identity": identity, "sources": case.sources()})
    assemble(store)
    return Path(folder)


def write_large_cohort(folder, count, seed=0, classes=THORAX_17[1:], rois=THORAX_17):
    """Write the tables of a large cohort without its parts: only reading and analysing is to be measured."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = Path(folder)
    store = CohortFolder(folder)
    identity = identity_of(document_of(fake_model(), request_of(method="gradient")))
    identity["model"]["labels"] = list(rois)
    cases = [CohortCase(f"patient{n:05d}", Path("/scans/x.nii.gz")) for n in range(count)]
    store.prepare(identity, cases)
    rng = np.random.default_rng(seed)
    metadata = {IDENTITY_KEY: json.dumps(identity, sort_keys=True).encode()}
    names = np.array([case.id for case in cases], dtype=object)
    centre = rng.dirichlet(np.full(len(rois), 2.0), size=len(classes))
    mass = np.stack([rng.dirichlet(60 * row + 0.5, size=count) for row in centre], axis=1)
    wide = len(classes) * len(rois)
    columns = {
        "case": np.repeat(names, wide),
        "class": np.tile(np.repeat(np.array(classes, dtype=object), len(rois)), count),
        "roi": np.tile(np.array(rois, dtype=object), count * len(classes)),
        **{measure: mass.ravel() for measure in MEASURES},
    }
    pq.write_table(
        pa.table(columns).replace_schema_metadata(metadata), folder / "importance.parquet", compression="zstd"
    )
    pair = {"case": np.repeat(names, len(classes)), "class": np.tile(np.array(classes, dtype=object), count)}
    own = mass[:, np.arange(len(classes)), [rois.index(name) for name in classes]]
    agreement = np.clip(0.8 + 0.5 * (own - own.mean(axis=0)) + 0.02 * rng.standard_normal(own.shape), 0, 1).ravel()
    pq.write_table(pa.table({**pair, "dice": agreement, "surface_dice": agreement}).replace_schema_metadata(metadata),
                   folder / "classes.parquet")  # fmt: skip
    listed = {
        "case": names, "status": ["done"] * count, "reason": [""] * count, "image": ["/scans/x.nii.gz"] * count,
        "model_sha256": ["ab" * 32] * count, "meta:sex": [str(s) for s in rng.choice(["F", "M"], count)],
        "meta:age": [str(a) for a in rng.integers(20, 90, count)],
    }  # fmt: skip
    pq.write_table(pa.table(listed).replace_schema_metadata(metadata), folder / "cases.parquet")
    return folder
