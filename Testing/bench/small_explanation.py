"""A complete Explanation folder made in a moment, without a network: what a child process would have written."""

import hashlib
import json
from pathlib import Path

import numpy as np

from Agg2ExpLib.explanation.folder import FORMAT, FORMAT_VERSION, attribution_file, region_file
from Agg2ExpLib.importance import absent_row, build_table, importance_row
from Agg2ExpLib.volume import Grid, Volume, file_sha256, write_volume
from Testing.documents import complete

LABELS = ("background", "heart", "aorta", "trachea")
SHAPE = (24, 20, 16)
AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])


def labels():
    """Heart and aorta as boxes; no voxel of the trachea."""
    found = np.zeros(SHAPE, dtype=np.int16)
    found[4:12, 4:12, 4:12] = 1
    found[14:18, 6:10, 2:14] = 2
    return found


def scan():
    """A CT in HU in which the structures can be told apart."""
    return np.where(labels() == 1, 40.0, np.where(labels() == 2, 120.0, -800.0)).astype(np.float32)


def attribution(index):
    """Strong inside the structure, weak elsewhere, of both signs; the strongest voxel is in the structure."""
    rng = np.random.default_rng(index)
    values = rng.normal(0, 0.1, SHAPE)
    inside = labels() == index
    values[inside] += 1.0
    values[tuple(np.argwhere(inside)[7])] = 9.0
    return values.astype(np.float32)


def write_small_explanation(folder, image=None, regions=None, model="small"):
    """Write the folder; ``regions`` are names -> bool masks on the grid."""
    folder = Path(folder)
    for name in ("attributions", "model_grid", *(["regions"] if regions else [])):
        (folder / name).mkdir(parents=True, exist_ok=True)
    grid, found = Grid(SHAPE, AFFINE), labels()
    regions = dict(regions or {})
    masks = list(regions.values())
    rows, classes = {}, []
    box = tuple(slice(0, size) for size in SHAPE)
    for index, name in enumerate(LABELS):
        if index == 0:
            continue
        if not (found == index).any():
            rows[name] = absent_row(found, len(LABELS), masks)
            classes.append({"id": name, "label": index, "status": "absent", "voxels": 0})
            continue
        values = attribution(index)
        write_volume(Volume(values, grid), folder / attribution_file(name))
        rows[name] = importance_row(values, box, found, len(LABELS), masks)
        classes.append({"id": name, "label": index, "status": "explained", "file": attribution_file(name)})
    write_volume(Volume(found, grid), folder / "prediction.nii.gz")
    write_volume(Volume(found, grid), folder / "model_grid" / "prediction.nii.gz")
    write_volume(Volume(scan(), grid), folder / "model_grid" / "image.nii.gz")
    for name, mask in regions.items():
        write_volume(Volume(np.asarray(mask).astype(np.uint8), grid), folder / region_file(name))
    table = build_table(rows, [*LABELS, *regions])
    table.to_matrix_csv(folder / "importance.csv")
    table.to_long_csv(folder / "importance_long.csv")
    document = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "created": "2026-01-01T00:00:00+00:00",
        "image": {
            "name": Path(image).name if image else "ct.nii.gz",
            "path": str(image or ""),
            "sha256": file_sha256(image) if image else hashlib.sha256(b"ct").hexdigest(),
        },
        "model": {"name": model, "path": "", "sha256": "0" * 64, "labels": list(LABELS)},
        "settings": {"method": "smoothgrad", "samples": 3, "seed": 0, "device": "cpu"},
        "model_grid": {"shape": list(SHAPE), "affine": AFFINE.tolist()},
        "classes": classes,
        "regions": [
            {"id": name, "voxels": int(np.sum(mask)), "file": region_file(name)} for name, mask in regions.items()
        ],
        "messages": [],
        "files": sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.suffix in (".gz", ".csv")),
    }
    (folder / "explanation.json").write_text(json.dumps(complete(document, grid)))
    return folder
