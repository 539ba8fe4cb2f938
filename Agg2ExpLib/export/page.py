"""One case as one HTML file that needs nothing beside it and no network: slices to scroll, the overlay, and the table.

The pictures are thinned and rounded to 8 bits so that a page stays small; the table's numbers are the explanation's own.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import math
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.errors import InputError, OutputError
from Agg2ExpLib.explanation import Explanation
from Agg2ExpLib.figures.case import default_classes, provenance
from Agg2ExpLib.figures.measures import BACKGROUND, MEASURES
from Agg2ExpLib.figures.slices import CT_WINDOWS, strongest_voxel, top_of, window_for
from Agg2ExpLib.progress import Progress
from Agg2ExpLib.storage import write_file
from Agg2ExpLib.volume import Volume, reorient

#: Voxels of one volume, and bytes of all, that a page shows at most; before compression.
MOST_VOXELS, MOST_BYTES = 2_000_000, 24_000_000
_WINDOWS = {**CT_WINDOWS, "bone": (400.0, 1800.0)}
# Below this a scan has air in it, as only a CT has.
_CT_AIR = -300.0
_STRONGEST = 127


def write_page(
    explanation: Explanation,
    path: str | Path,
    *,
    classes: Sequence[str] | None = None,
    most_voxels: int = MOST_VOXELS,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write the page of a case.

    Parameters
    ----------
    explanation : Explanation
        The case.
    path : path
        HTML file to write.
    classes : sequence of str, optional
        Explained classes to choose from; by default all, or the largest of many.
    most_voxels : int
        Voxels of a volume; above that, blocks of them are shown as one.
    overwrite : bool
        Replace a file that exists.
    progress : Progress, optional
        Counts the classes.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        A class that was not explained, or none.
    OutputError
        The file exists or cannot be written.
    """
    path = Path(path)
    if path.is_dir() or (path.exists() and not overwrite):
        raise OutputError(f"{path} exists already; give another --html")
    chosen = list(default_classes(explanation) if classes is None else classes)
    for name in chosen:
        if name not in explanation.explained or name not in explanation.labels:
            raise InputError(
                f"{explanation.folder} has no attribution of {name!r}; explained are {', '.join(explanation.explained)}"
            )
    if not chosen:
        raise InputError(f"{explanation.folder} explains no structure, so there is nothing to show; explain it again")
    progress = progress or Progress()
    progress.stage("page", len(chosen) + 1)
    title = f"What the model looked at: {explanation.document['image']['name']}"
    data = _data(explanation, chosen, most_voxels, progress)
    script = (files(__package__) / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # Names are anybody's: nothing in the data can end its element.
    safe = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    parts = {"TITLE": html.escape(title), "POLICY": f"sha256-{digest}", "DATA": safe, "SCRIPT": script}
    template = (files(__package__) / "page.html").read_text(encoding="utf-8")
    write_file(path, re.sub("%(TITLE|POLICY|DATA|SCRIPT)%", lambda found: parts[found[1]], template), option="--html")
    progress.advance(detail=path.name)
    return path


def _data(explanation: Explanation, chosen: Sequence[str], most: int, progress: Progress) -> dict[str, Any]:
    image = reorient(explanation.model_image())
    labels = explanation.labels
    regions = explanation.regions
    limit = min(most, MOST_BYTES // (len(chosen) + 3 + len(regions) // 8))
    factors = _factors(image, limit)
    smaller = Thinned(factors)
    shown = smaller.mean(image.voxels)
    prediction = reorient(explanation.model_prediction()).voxels
    ct = bool(image.voxels.min() < _CT_AIR)
    levels = _levels(shown, ct)
    names = list(explanation.importance.rois)
    masks = [smaller.any(reorient(explanation.region(name)).voxels > 0) for name in regions]
    wide = len(labels) > 256
    small = smaller.nearest(prediction).astype("<u2" if wide else np.uint8)
    spacing = [one * factor for one, factor in zip(image.spacing, factors, strict=True)]
    told = []
    for name in chosen:
        values = smaller.strongest(reorient(explanation.attribution(name)).voxels)
        top = top_of(np.abs(values)) or 1.0
        strength = np.abs(values)
        spots = _spots(strength, small, len(labels), masks)
        rows = _rows(explanation, name, prediction.size)
        for row in rows:
            roi = names[row["roi"]]
            row["spot"] = spots[labels.index(roi) if roi in labels else len(labels) + regions.index(roi)]
        inside = image.voxels[prediction == labels.index(name)]
        told.append({
            "name": structure(name).name, "label": labels.index(name), "sentence": sentence(explanation, name),
            "window": window_for(inside) if ct else "all", "rows": rows,
            "spot": list(strongest_voxel(strength, small == labels.index(name))),
            "map": _packed(np.rint(_STRONGEST * np.clip(values / top, -1, 1)).astype(np.int8)),
        })  # fmt: skip
        progress.advance(detail=name)
    low, high = (float(one) for one in (levels[0], levels[-1]))
    return {
        "shape": list(shown.shape), "spacing": spacing, "levels": [round(float(one), 1) for one in levels], "ct": ct,
        "windows": _WINDOWS if ct else {"all": ((low + high) / 2, (high - low) or 1.0)},
        "image": _packed(np.searchsorted((levels[1:] + levels[:-1]) / 2, shown).astype(np.uint8)),
        "labels": _packed(small), "wide": wide, "background": labels.index(BACKGROUND) if BACKGROUND in labels else -1,
        "regions": [_packed(_bits(masks[first : first + 8])) for first in range(0, len(masks), 8)],
        "rois": [_roi(name, labels, regions, explanation) for name in names],
        "classes": told, "notes": _notes(explanation, factors, spacing),
    }  # fmt: skip


class Thinned:
    """Makes volumes smaller by whole blocks of voxels.

    Parameters
    ----------
    factors : sequence of int
        Voxels of a block along each axis.
    """

    def __init__(self, factors: Sequence[int]) -> None:
        self._factors = tuple(factors)

    def _blocks(self, voxels: np.ndarray) -> np.ndarray:
        """The voxels of each block along a last axis; blocks at the edge repeat their last voxel."""
        pad = [(0, -count % factor) for count, factor in zip(voxels.shape, self._factors, strict=True)]
        full = np.pad(voxels, pad, mode="edge")
        parts = [
            part for count, factor in zip(full.shape, self._factors, strict=True) for part in (count // factor, factor)
        ]
        split = full.reshape(parts).transpose(0, 2, 4, 1, 3, 5)
        return split.reshape(*split.shape[:3], -1)

    def mean(self, voxels: np.ndarray) -> np.ndarray:
        """Return the mean of each block."""
        return self._blocks(voxels).mean(axis=-1, dtype=np.float32)

    def strongest(self, voxels: np.ndarray) -> np.ndarray:
        """Return of each block the value that is farthest from 0: nothing strong is hidden."""
        blocks = self._blocks(voxels)
        return np.take_along_axis(blocks, np.abs(blocks).argmax(axis=-1)[..., None], axis=-1)[..., 0]

    def any(self, inside: np.ndarray) -> np.ndarray:
        """Tell which blocks have a voxel inside."""
        return np.any(self._blocks(inside), axis=-1)

    def nearest(self, labels: np.ndarray) -> np.ndarray:
        """Return the label of the middle of each block."""
        middle = sum(factor // 2 * int(np.prod(self._factors[axis + 1 :])) for axis, factor in enumerate(self._factors))
        return self._blocks(labels)[..., middle]


def _spots(strength: np.ndarray, labels: np.ndarray, count: int, masks: Sequence[np.ndarray]) -> list[list[int] | None]:
    """Where each class, then each extra region, holds the strongest attribution; ``None`` without a voxel."""
    flat, partition = strength.ravel(), labels.ravel()
    # Of each class the last in the order of strength stays.
    order = np.argsort(flat, kind="stable")
    best = np.full(count, -1)
    best[partition[order]] = order
    inside = [np.flatnonzero(mask) for mask in masks]
    best = np.append(best, [where[flat[where].argmax()] if len(where) else -1 for where in inside]).astype(int)
    return [[int(one) for one in np.unravel_index(at, strength.shape)] if at >= 0 else None for at in best]


def _factors(image: Volume, limit: int) -> list[int]:
    """Voxels of a block along each axis: the finest axis is thinned first."""
    factors = [1, 1, 1]
    while math.prod(-(-count // factor) for count, factor in zip(image.shape, factors, strict=True)) > limit:
        factors[int(np.argmin(np.array(image.spacing) * factors))] += 1
    return factors


def _levels(shown: np.ndarray, ct: bool) -> np.ndarray:
    """256 grey values: of a CT finer where soft tissue is, 4 HU apart."""
    if ct:
        return np.concatenate([np.linspace(-1024, -204, 80), np.arange(-200, 300, 4), np.linspace(300, 2800, 51)])
    low, high = (float(one) for one in np.quantile(shown, (0.001, 0.999)))
    return np.linspace(low, max(high, low + 1e-6), 256)


def _bits(masks: Sequence[np.ndarray]) -> np.ndarray:
    """Up to eight masks in one volume, a bit each."""
    packed = np.zeros(masks[0].shape, dtype=np.uint8)
    for bit, mask in enumerate(masks):
        packed |= mask.astype(np.uint8) << bit
    return packed


def _packed(voxels: np.ndarray) -> str:
    return base64.b64encode(gzip.compress(np.ascontiguousarray(voxels).tobytes(), 6, mtime=0)).decode()


def _roi(name: str, labels: Sequence[str], regions: Sequence[str], explanation: Explanation) -> dict[str, Any]:
    given = dict(zip(labels, explanation.document["model"].get("colours") or (), strict=False))
    red, green, blue = given.get(name) or structure(name).colour
    return {
        "name": "background (no structure)" if name == BACKGROUND else structure(name).name,
        "colour": f"rgb({int(red)},{int(green)},{int(blue)})",
        "label": labels.index(name) if name in labels else -1,
        "region": regions.index(name) if name in regions else -1,
    }


def _rows(explanation: Explanation, name: str, volume: int) -> list[dict[str, Any]]:
    """A class's numbers, each with how it is written; ``None`` where there is none."""
    table = explanation.importance
    row = table.classes.index(name)

    def cell(value: float, measure: str = "mass") -> list[Any]:
        return [value, MEASURES[measure].text(value)] if math.isfinite(value) else [None, "–"]

    rows = []
    for column in range(len(table.rois)):
        values = {key: float(table.matrix(key)[row, column]) for key in ("mass", "positive", "negative", "enrichment")}
        cells = {key: cell(value, "enrichment" if key == "enrichment" else "mass") for key, value in values.items()}
        rows.append({"roi": column, **cells, "size": cell(float(table.matrix("voxels")[row, column]) / volume)})
    return rows


def sentence(explanation: Explanation, name: str) -> str:
    """Say in plain words where most lies, and what was relied on most for its size."""
    table = explanation.importance
    row = table.classes.index(name)
    mass, times = (np.nan_to_num(table.matrix(measure)[row], nan=-1.0) for measure in ("mass", "enrichment"))
    if mass.max(initial=0) <= 0:
        return f"The attribution of {structure(name).name} is 0 everywhere, so nothing can be said about it."

    def called(column: int) -> str:
        roi = table.rois[column]
        return "no structure (background)" if roi == BACKGROUND else f"{structure(roi).name}{' itself' * (roi == name)}"

    most = [column for column in np.argsort(-mass, kind="stable")[:3].tolist() if mass[column] > 0]
    lies = [
        f"{MEASURES['mass'].text(mass[column])} {'in' if number else 'lies in'} {called(column)}"
        for number, column in enumerate(most)
    ]
    others = [column for column, roi in enumerate(table.rois) if roi not in (name, BACKGROUND) and times[column] > 0]
    words = f"Of what the model relied on to draw {structure(name).name}, {', '.join(lies)}."
    if others:
        best = max(others, key=lambda column: times[column])
        words += (
            f" Beside itself it relied most on {structure(table.rois[best]).name} for its size: "
            f"{MEASURES['enrichment'].text(times[best]).rstrip('×')} times what a region of that size holds by chance, "
            f"{MEASURES['mass'].text(mass[best])} in all."
        )
    return words


def _notes(explanation: Explanation, factors: Sequence[int], spacing: Sequence[float]) -> str:
    blocks = " x ".join(map(str, factors))
    size = " x ".join(f"{one:.1f}" for one in spacing)
    thinned = (
        "Every voxel of the model's grid is shown"
        if max(factors) == 1
        else f"Blocks of {blocks} voxels are shown as one: the mean of the scan, the strongest attribution, the label in the middle"
    )
    return (
        f"{provenance(explanation)} {thinned} ({size} mm). Pictures are rounded to 256 greys and 127 steps of colour, the strongest "
        "0.1 % have the same colour; thin structures may look broken. The numbers in the table are exact."
    )
