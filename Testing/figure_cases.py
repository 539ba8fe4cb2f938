"""Tables and Explanation folders for the tests of figures, made without a network."""

import json

import numpy as np
from documents import complete

from Agg2ExpLib.explanation.folder import FORMAT, FORMAT_VERSION, attribution_file, region_file
from Agg2ExpLib.importance import MEASURES, ImportanceTable, absent_row, build_table, importance_row
from Agg2ExpLib.volume import Grid, Volume, write_volume

LABELS = ("background", "heart", "trachea", "ribs", "aorta")
SHAPE = (14, 12, 10)
WHOLE = tuple(slice(0, n) for n in SHAPE)


def random_table(classes, extra=(), absent=(), seed=0):
    """A table of made-up numbers: model classes (background first) as columns, all but background as rows."""
    rng = np.random.default_rng(seed)
    rois = (*classes, *extra)
    shape = (len(classes) - 1, len(rois))
    mass = rng.gamma(0.5, 1.0, shape)
    mass[:, : len(classes)] /= mass[:, : len(classes)].sum(axis=1, keepdims=True)
    mass[:, len(classes) :] *= 0.05 / (1 + mass[:, len(classes) :])
    values = {name: rng.random(shape) for name in MEASURES}
    values |= {"mass": mass, "enrichment": np.exp(rng.normal(0, 2, shape)), "voxels": np.full(shape, 50.0)}
    table = ImportanceTable(tuple(classes[1:]), rois, values)
    for name in absent:
        for measure in MEASURES[:-1]:
            values[measure][table.classes.index(name)] = np.nan
    return table


def many_classes(count=118):
    parts = ("vertebrae", "rib_left", "rib_right", "gluteus", "artery", "common_carotid_artery_right_part", "gland")
    return ("background", *(f"{parts[index % len(parts)]}_{index}" for index in range(1, count)))


def write_explanation(folder, affine=None, peak=(3, 8, 6), absent=("aorta",), empty_region=False):
    """Write an Explanation folder whose strongest voxel, of every class, is ``peak``; return the folder."""
    grid = Grid(SHAPE, np.diag([2.0, 2.0, 3.0, 1.0]) if affine is None else affine)
    rng = np.random.default_rng(1)
    labels = np.zeros(SHAPE, np.int16)
    labels[2:6, 5:10, 3:8], labels[8:11, 2:6, 2:8], labels[12:, 4:9, 4:7] = 1, 2, 3
    inside = np.zeros(SHAPE, bool)
    if not empty_region:
        inside[5:9, 4:8, 2:5] = True
    for part in ("attributions", "model_grid", "regions"):
        (folder / part).mkdir(parents=True)
    image = np.where(labels == 2, -950, rng.normal(40, 30, SHAPE)).astype(np.int16)
    write_volume(Volume(image, grid), folder / "model_grid" / "image.nii.gz")
    write_volume(Volume(labels, grid), folder / "model_grid" / "prediction.nii.gz")
    write_volume(Volume(labels, grid), folder / "prediction.nii.gz")
    write_volume(Volume(inside.astype(np.uint8), grid), folder / region_file("nodule"))
    rows, classes = {}, []
    for label, name in enumerate(LABELS[1:], start=1):
        if name in absent:
            rows[name] = absent_row(labels, len(LABELS), [inside])
            classes.append({"id": name, "label": label, "status": "absent", "voxels": 0})
            continue
        values = rng.normal(0, 1, SHAPE).astype(np.float32)
        values[peak] = -50.0 - label
        write_volume(Volume(values, grid), folder / attribution_file(name))
        rows[name] = importance_row(values, WHOLE, labels, len(LABELS), [inside])
        classes.append({"id": name, "label": label, "status": "explained", "voxels": int((labels == label).sum())})
    table = build_table(rows, [*LABELS, "nodule"])
    table.to_long_csv(folder / "importance_long.csv")
    table.to_matrix_csv(folder / "importance.csv")
    document = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "image": {"name": "ct.nii.gz"},
        "model": {"name": "small", "labels": list(LABELS)},
        "settings": {"method": "gradient", "samples": None},
        "classes": classes,
        "regions": [{"id": "nodule", "voxels": int(inside.sum())}],
        "files": sorted(str(path.relative_to(folder).as_posix()) for path in folder.rglob("*.*") if path.is_file()),
    }
    (folder / "explanation.json").write_text(json.dumps(complete(document, grid)))
    return folder


def texts_of(figure):
    """All text that a figure shows."""
    import matplotlib.text

    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_visible() and text.get_text()]


def overlapping(texts, figure):
    """Pairs of texts whose boxes on the page overlap by more than a pixel."""
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts if text.get_text().strip()]
    pairs = []
    for index, (first, a) in enumerate(boxes):
        for second, b in boxes[index + 1 :]:
            across = min(a.x1, b.x1) - max(a.x0, b.x0)
            up = min(a.y1, b.y1) - max(a.y0, b.y0)
            if across > 1 and up > 1:
                pairs.append((first, second))
    return pairs


def outside_of_page(figure):
    """What sticks out of the page, as sides in inches; empty when all is on it."""
    figure.draw_without_rendering()
    drawn = figure.get_tightbbox(figure.canvas.get_renderer())
    width, height = figure.get_size_inches()
    sides = {"left": -drawn.x0, "below": -drawn.y0, "right": drawn.x1 - width, "above": drawn.y1 - height}
    return {side: inches for side, inches in sides.items() if inches > 0.01}
