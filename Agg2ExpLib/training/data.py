"""Preprocessed cases on disk, and the patches drawn from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from Agg2ExpLib.models.card import ModelCard
from Agg2ExpLib.models.model import prepare_by_card
from Agg2ExpLib.progress import Progress
from Agg2ExpLib.storage import FolderLock, write_folder
from Agg2ExpLib.training.cases import Case
from Agg2ExpLib.volume import reorient, to_grid

# Voxels kept per class and case as possible patch centres.
_CENTRES = 400


@dataclass(frozen=True)
class Prepared:
    """A case as the network sees it: memory-mapped image (float16, 0 to 1), labels (uint8), and centres per class."""

    name: str
    folder: Path

    def image(self) -> np.ndarray:
        """Image, shape (i, j, k)."""
        return np.load(self.folder / "image.npy", mmap_mode="r")

    def labels(self) -> np.ndarray:
        """Labels, shape (i, j, k)."""
        return np.load(self.folder / "labels.npy", mmap_mode="r")

    def centres(self) -> np.ndarray:
        """Rows of (class, i, j, k)."""
        return np.load(self.folder / "centres.npy")


def prepare_cases(cases: Sequence[Case], card: ModelCard, cache: Path, progress: Progress) -> list[Prepared]:
    """Preprocess each case once into ``cache``; a case that is there already is not read again."""
    progress.stage("preparing cases", len(cases))
    prepared = []
    for case in cases:
        key = json.dumps(
            [
                case.name,
                str(case.image.resolve()),
                case.changed(),
                card.spacing,
                card.orientation,
                card.intensity_range,
                card.labels,
            ]
        )
        folder = cache / f"{case.name}_{hashlib.sha256(key.encode()).hexdigest()[:12]}"
        # Of several processes the first one prepares a case, and the others wait for it.
        with FolderLock(folder, wait=lambda: None, option="--run") as lock:
            notes = () if folder.is_dir() else _prepare(case, card, folder, lock)
        for note in notes:
            progress.message(f"{case.name}: {note}")
        prepared.append(Prepared(case.name, folder))
        progress.advance(detail=case.name)
    return prepared


def _prepare(case: Case, card: ModelCard, folder: Path, lock: FolderLock) -> tuple[str, ...]:
    """Write the folder of one case, and return what was odd about its files."""
    image, labels = case.read(card.labels)
    small = prepare_by_card([image], card)
    truth = to_grid(reorient(labels, card.orientation), small.grid, "nearest").voxels.astype(labels.voxels.dtype)
    rng = np.random.default_rng(0)
    rows = []
    for index in np.unique(truth):
        voxels = np.argwhere(truth == index)
        chosen = voxels[rng.choice(len(voxels), min(_CENTRES, len(voxels)), replace=False)]
        rows.append(np.column_stack([np.full(len(chosen), index), chosen]))
    with write_folder(folder, lock=lock, option="--run") as part:
        np.save(part / "image.npy", small.x[0].astype(np.float16))
        np.save(part / "labels.npy", truth)
        np.save(part / "centres.npy", np.concatenate(rows).astype(np.int32))
    return (*image.notes, *labels.notes)


def draw_patch(
    case: Prepared,
    window: Sequence[int],
    rng: np.random.Generator,
    balanced: float = 0.6,
    focus: Sequence[int] = (),
    margin: int = 8,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one patch: image (float32) and labels (int64), both of shape ``window``.

    With probability ``balanced`` it holds a voxel of a class drawn evenly among those present, so that small
    structures are seen as often as large ones, and half of the times of a class of ``focus`` (label values) where the
    case has one; otherwise it lies anywhere. It may reach ``margin`` voxels beyond the scan. What is beyond the scan is 0: air.
    Patches are never mirrored, since left and right are different classes; density and noise are varied a little.
    """
    image, labels = case.image(), case.labels()
    if rng.random() < balanced:
        centres = case.centres()
        present = np.unique(centres[:, 0])
        focused = present[np.isin(present, np.asarray(focus, dtype=int))]
        # The coin is tossed only where there is a choice, so that patches without a focus stay what they were.
        wanted = rng.choice(focused if len(focused) and rng.random() < 0.5 else present)
        rows = centres[centres[:, 0] == wanted]
        middle = rows[rng.integers(len(rows)), 1:] + rng.integers(-12, 13, 3)
        start = middle - np.asarray(window) // 2
    else:
        start = np.array(
            [rng.integers(-margin, max(n - w, 0) + margin + 1) for n, w in zip(image.shape, window, strict=True)]
        )
    limit = [max(n - w, 0) for n, w in zip(image.shape, window, strict=True)]
    # A scan smaller than the margin is still touched.
    last = np.minimum(np.asarray(limit) + margin, np.asarray(image.shape) - 1)
    start = np.clip(start, np.maximum(-margin, 1 - np.asarray(window)), last)
    patch, truth = np.zeros(window, dtype=np.float32), np.zeros(window, dtype=np.int64)
    inside = tuple(slice(max(s, 0), min(s + w, n)) for s, w, n in zip(start, window, image.shape, strict=True))
    target = tuple(slice(i.start - s, i.stop - s) for i, s in zip(inside, start, strict=True))
    patch[target] = image[inside]
    truth[target] = labels[inside]
    patch = patch * rng.uniform(0.95, 1.05) + rng.uniform(-0.015, 0.015)
    patch += rng.normal(0.0, rng.uniform(0.0, 0.008), patch.shape).astype(np.float32)
    return np.clip(patch, 0.0, 1.0).astype(np.float32), truth
