"""Training cases: phantom folders, or a TotalSegmentator download whose structures are merged into the label set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from Agg2ExpLib.anatomy import THORAX_17
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.volume import Volume, read_volume

#: Class of the thorax set -> TotalSegmentator v2 structures that make it up. A class not listed is its own structure.
TOTALSEGMENTATOR_MERGE: dict[str, tuple[str, ...]] = {
    "ribs": tuple(f"rib_{side}_{number}" for side in ("left", "right") for number in range(1, 13)),
    "vertebraes": tuple(
        f"vertebrae_{level}"
        for level in (
            *(f"C{number}" for number in range(1, 8)),
            *(f"T{number}" for number in range(1, 13)),
            *(f"L{number}" for number in range(1, 6)),
            "S1",
        )
    ),
}


@dataclass(frozen=True)
class Case:
    """One scan with its ground truth: an image, and either a label map or a folder of masks, one per structure."""

    name: str
    image: Path
    labels: Path | None = None
    masks: Path | None = None

    def changed(self) -> int:
        """Time (ns) of the latest change of any of its files."""
        files = [self.image, *([self.labels] if self.labels else []), *(self.masks.iterdir() if self.masks else [])]
        return max(file.stat().st_mtime_ns for file in files)

    def read(self, class_names: Sequence[str] = THORAX_17) -> tuple[Volume, Volume]:
        """Return the image (HU) and the label map (class indices) on one grid; their notes say what was odd.

        Raises
        ------
        InputError
            An unreadable file, grids that differ, or a structure whose mask file is missing.
        """
        image = read_volume(self.image)
        if self.labels is not None:
            labels = read_volume(self.labels, kind="labels")
            if int(labels.voxels.max()) >= len(class_names):
                raise InputError(
                    f"{self.labels} has label {int(labels.voxels.max())}, but there are only {len(class_names)} classes "
                    "(0 is background); give the matching label set with --labels"
                )
        else:
            assert self.masks is not None  # find_cases sets one of the two
            labels = merge_masks(self.masks, class_names, image)
        if not image.grid.same_as(labels.grid):
            raise InputError(f"{self.labels or self.masks} is not on the grid of {self.image}; resample it first")
        return image, Volume(labels.voxels.astype(label_type(class_names)), image.grid, notes=labels.notes)


def label_type(class_names: Sequence[str]) -> type[np.unsignedinteger[Any]]:
    """Return the type that holds the class indices of a label set."""
    return np.uint8 if len(class_names) <= 256 else np.uint16


def find_cases(folder: str | Path) -> list[Case]:
    """List the cases below ``folder``, sorted by name.

    A case is a subfolder with ``ct.nii.gz`` and either ``segmentation.nii.gz`` (a phantom) or ``segmentations/`` (a
    TotalSegmentator subject).

    Raises
    ------
    InputError
        No such folder, or no case in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give the folder that holds the training cases")
    cases = []
    for image in sorted(folder.glob("*/ct.nii.gz")):
        here = image.parent
        if (here / "segmentation.nii.gz").is_file():
            cases.append(Case(here.name, image, labels=here / "segmentation.nii.gz"))
        elif (here / "segmentations").is_dir():
            cases.append(Case(here.name, image, masks=here / "segmentations"))
    if not cases:
        raise InputError(
            f"{folder} holds no case: each needs a subfolder with ct.nii.gz and segmentation.nii.gz "
            "(see agg2exp phantom) or segmentations/ (TotalSegmentator)"
        )
    return cases


def merge_masks(folder: Path, class_names: Sequence[str], image: Volume) -> Volume:
    """Merge one mask per structure into a label map on the grid of ``image``; later classes win where masks overlap.

    A class made of many structures, such as the ribs, may lack some of them: they count as not in the scan, and a note
    of the label map says so.

    Raises
    ------
    InputError
        A class without any mask, or a mask on another grid.
    """
    labels = np.zeros(image.shape, dtype=label_type(class_names))
    notes = []
    for index, name in enumerate(class_names):
        if index == 0:
            continue
        files = [folder / f"{part}.nii.gz" for part in TOTALSEGMENTATOR_MERGE.get(name, (name,))]
        present = [file for file in files if file.is_file()]
        if not present:
            raise InputError(
                f"{folder} has no {files[0].name}, which class {name!r} needs; is it a TotalSegmentator v2 case?"
            )
        if len(present) < len(files):
            missing = [file.name for file in files if not file.is_file()]
            notes.append(f"{name}: {len(missing)} of {len(files)} masks are missing, such as {missing[0]}")
        for file in present:
            mask = read_volume(file, kind="labels")
            if not mask.grid.same_as(image.grid):
                raise InputError(f"{file} is not on the grid of {image.source}; resample it first")
            labels[mask.voxels > 0] = index
    return Volume(labels, image.grid, notes=tuple(notes))
