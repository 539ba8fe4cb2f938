"""Explanation folders small enough for tests, written by hand so that every number in them is known."""

import json

import numpy as np

from Agg2ExpLib.explanation import Explanation
from Agg2ExpLib.importance import absent_row, build_table, importance_row
from Agg2ExpLib.volume import Grid, Volume, file_sha256, write_volume

LABELS = ("background", "heart", "lung_lower_lobe_left", "autochthon_left", "ribs", "spleen_of_nobody")
SHAPE = (28, 24, 20)
#: Boxes of the classes that are there; class 5 never is.
BOXES = {
    1: (slice(4, 11), slice(5, 12), slice(4, 10)),
    2: (slice(14, 24), slice(4, 11), slice(5, 15)),
    3: (slice(5, 12), slice(15, 21), slice(3, 9)),
    4: (slice(15, 23), slice(14, 21), slice(11, 17)),
}
#: Where |E| of the heart is largest: within the lung, on no axis of symmetry.
BRIGHT = (18, 7, 11)


def affine(kind="plain"):
    """Return an affine: plain RAS, flipped axes, swapped axes, or oblique and flipped."""
    spacing = np.array([2.0, 2.5, 3.0])
    direction = {
        "plain": np.eye(3),
        "flipped": np.diag([-1.0, -1.0, 1.0]),
        "left-handed": np.diag([1.0, 1.0, -1.0]),
        "swapped": np.array([[0.0, 1, 0], [0, 0, -1], [1, 0, 0]]),
        "oblique": rotation(0.35, -0.2, 0.5) @ np.diag([-1.0, 1.0, -1.0]),
    }[kind]
    matrix = np.eye(4)
    matrix[:3, :3] = direction * spacing
    matrix[:3, 3] = [-31.5, 17.25, 40.0]
    return matrix


def rotation(a, b, c):
    """Return a rotation by three angles."""
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return x @ y @ z


def bright_attribution(sign=1.0):
    """Return an attribution that is weak everywhere and strong in one block of 5 x 5 x 5 around BRIGHT."""
    values = np.full(SHAPE, 0.001, np.float32)
    i, j, k = BRIGHT
    values[i - 2 : i + 3, j - 2 : j + 3, k - 2 : k + 3] = 0.9 * sign
    values[BRIGHT] = sign
    return values


def write_explanation(
    folder, kind="plain", *, attributions=None, regions=True, labels=LABELS, settings=None, keep_ct=True
):
    """Write a whole Explanation folder and return it read back.

    The model's grid is the scan's own. ``attributions`` maps a class to its values; the heart's is the bright block and the
    lung's is negative by default. Every other class is absent.
    """
    grid = Grid(SHAPE, affine(kind))
    (folder / "attributions").mkdir(parents=True)
    (folder / "model_grid").mkdir()
    truth = np.zeros(SHAPE, np.int16)
    for value, box in BOXES.items():
        if value < len(labels):
            truth[box] = value
    hu = np.where(truth > 0, 40, -600).astype(np.int16) + np.arange(SHAPE[0], dtype=np.int16)[:, None, None]
    ct = folder.parent / f"{folder.name}-ct.nii.gz"
    write_volume(Volume(hu, grid), ct)
    write_volume(Volume(truth, grid), folder / "prediction.nii.gz")
    write_volume(Volume(truth, grid), folder / "model_grid" / "prediction.nii.gz")
    write_volume(Volume(hu, grid), folder / "model_grid" / "image.nii.gz")
    masks = {}
    if regions:
        (folder / "regions").mkdir()
        masks["nodule"] = np.zeros(SHAPE, bool)
        masks["nodule"][16:20, 5:9, 9:13] = True
        write_volume(Volume(masks["nodule"].astype(np.uint8), grid), folder / "regions" / "nodule.nii.gz")
    if attributions is None:
        attributions = {"heart": bright_attribution(), "lung_lower_lobe_left": -bright_attribution()}
    rows, classes = {}, []
    for value, name in enumerate(labels):
        if value == 0:
            continue
        if name in attributions:
            write_volume(Volume(attributions[name], grid), folder / "attributions" / f"{name}.nii.gz")
            whole = tuple(slice(0, count) for count in SHAPE)
            rows[name] = importance_row(attributions[name], whole, truth, len(labels), list(masks.values()))
            classes.append({"id": name, "label": value, "status": "explained", "voxels": int((truth == value).sum())})
        elif value == 5:
            rows[name] = absent_row(truth, len(labels), list(masks.values()))
            classes.append({"id": name, "label": value, "status": "absent", "voxels": 0})
    table = build_table(rows, [*labels, *masks])
    table.to_long_csv(folder / "importance_long.csv")
    table.to_matrix_csv(folder / "importance.csv")
    document = {
        "format": "agg2exp-explanation",
        "format_version": 1,
        "created": "2026-01-02T03:04:05+00:00",
        "image": {"name": ct.name, "path": str(ct), "sha256": file_sha256(ct)},
        "model": {"name": "levels", "sha256": "5" * 64, "labels": list(labels)},
        "settings": settings or {"method": "smoothgrad", "samples": 7, "seed": 3, "device": "cpu"},
        "device": "cpu",
        "classes": classes,
        "regions": [{"id": name, "sha256": "", "voxels": int(mask.sum())} for name, mask in masks.items()],
        "timings": {"total_seconds": 1.0},
        "messages": [],
        "versions": {"agg2exp": "0.1.0", "torch": "2.13.0"},
        "files": sorted(str(p.relative_to(folder).as_posix()) for p in folder.rglob("*") if p.is_file()),
    }
    (folder / "explanation.json").write_text(json.dumps(document))
    if not keep_ct:
        ct.unlink()
    return Explanation.load(folder)
