"""Label maps with many labels, and 3D Slicer's .seg.nrrd, whose header names its segments."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from Agg2ExpLib.regions.names import label_names
from Agg2ExpLib.regions.region import Region
from Agg2ExpLib.volume import READABLE, on_straight_grid, read_image_file, read_volume, refuse, suffix_of

_SEGMENT = re.compile(r"Segment(\d+)_(\w+)$")


def label_map_regions(path: Path) -> list[Region]:
    """Return one region for each label above 0; a file of a single unnamed label is a mask and has the file's name.

    Raises
    ------
    InputError
        Not a label map.
    """
    from scipy import ndimage

    volume = read_volume(path, kind="labels")
    labels = np.asarray(volume.voxels)
    names = label_names(path)
    boxes = enumerate(ndimage.find_objects(labels), start=1)
    found = [(value, box) for value, box in boxes if box is not None]
    stem = path.name[: -len(suffix_of(path, READABLE))]
    regions = []
    for value, box in found:
        name = names.get(value) or (stem if len(found) == 1 else f"label {value}")
        regions.append(
            Region.from_mask(
                name,
                labels[box] == value,
                volume.grid,
                first=(box[0].start, box[1].start, box[2].start),
                source=str(path),
                sha256=volume.sha256,
                notes=volume.notes,
            )
        )
    if not found:
        regions = [Region.from_volume(stem, volume)]
    return numbered(regions)


def is_label_of(path: Path, name: str) -> bool:
    """Tell whether a label map has a label of that name, as :func:`label_map_regions` names them."""
    # Only then is the file read for it.
    if not (re.fullmatch(r"label \d+", name) or name in label_names(path).values()):
        return False
    return any(region.name == name for region in label_map_regions(path))


def has_segment_table(path: Path) -> bool:
    """Tell whether a file is an NRRD whose header names segments."""
    if not suffix_of(path, (".nrrd", ".nhdr")):
        return False
    with path.open("rb") as file:
        start = file.read(4 << 20)
    head = re.split(rb"\r?\n\r?\n", start, maxsplit=1)[0]
    return re.search(rb"^Segment\d+_(ID|Name|LabelValue):=", head, re.M) is not None


def segment_regions(path: Path) -> list[Region]:
    """Return one region for each segment of a .seg.nrrd; segments of different layers may overlap.

    Raises
    ------
    InputError
        Damaged, or a segment in a layer that is not there.
    """
    notes: list[str] = []
    array, affine, sha256, claim = read_image_file(path, notes, layers=True, smallest=1)
    layers = array if array.ndim == 4 else array[None]
    placed = [on_straight_grid(path, layer, affine, "labels", notes) for layer in layers]
    notes = list(dict.fromkeys(notes))
    table: dict[int, dict[str, str]] = {}
    for key, text in claim.fields.items():
        if match := _SEGMENT.match(key):
            table.setdefault(int(match[1]), {})[match[2]] = text
    found: list[tuple[str, int, int, tuple[str, ...]]] = []
    for number, fields in sorted(table.items()):
        # Older files have a layer for each segment and do not say so.
        many = len(layers) > 1
        layer = _number(path, fields, "Layer", number if many and "LabelValue" not in fields else 0)
        value = _number(path, fields, "LabelValue", 1 if many else number + 1)
        if layer >= len(layers):
            refuse(path, f"segment {number} lies in layer {layer} of {len(layers)}", "save the segmentation again")
        found.append((fields.get("Name") or fields.get("ID") or f"segment {number}", layer, value, ()))
    named = {(layer, value) for _, layer, value, _ in found}
    for layer, (labels, _) in enumerate(placed):
        for value in np.unique(labels[labels > 0]).tolist():
            if (layer, value) not in named:
                name = f"label {value} of layer {layer}" if len(placed) > 1 else f"label {value}"
                told = f"{path.name}: no segment names the value {value} in its voxels; they became the region {name}."
                found.append((name, layer, value, (told,)))
    source = str(path)
    return numbered(
        [
            Region.from_mask(
                name, placed[layer][0] == value, placed[layer][1], source=source, sha256=sha256, notes=(*notes, *told)
            )
            for name, layer, value, told in found
        ]
    )


def _number(path: Path, fields: dict[str, str], key: str, otherwise: int) -> int:
    text = fields.get(key, str(otherwise)).strip()
    if not text.isdecimal():
        refuse(path, f"a segment has the {key} {text[:40]!r}, which is no number", "save the segmentation again")
    return int(text)


def numbered(regions: list[Region]) -> list[Region]:
    """Number segments of the same name, which both 3D Slicer and DICOM allow."""
    names = [region.name for region in regions]
    twice = {name for name in names if names.count(name) > 1}
    seen: dict[str, int] = {}
    result = []
    for region in regions:
        if region.name in twice:
            seen[region.name] = seen.get(region.name, 0) + 1
            result.append(region.renamed(f"{region.name} {seen[region.name]}"))
        else:
            result.append(region)
    return result
