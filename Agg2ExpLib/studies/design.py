"""The phantom study's patients, and what counts as a finding near a structure; all of it fixed before anything is scored.

Reference: healthy patients of one seed. New: patients of another seed, every second of them with one finding. Kinds and
sides go round in turn, severities follow the golden ratio, so that any number of patients covers them evenly.

A finding is *near* a structure when, in the ground truth of that patient, some voxel of the finding lies within 10 mm of
some voxel of the structure (between voxel centres; 0 for a finding inside of it). What the network finds plays no part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from Agg2ExpLib.anatomy import FINDINGS, THORAX_17
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.phantom import Finding, write_phantoms
from Agg2ExpLib.progress import Progress
from Agg2ExpLib.volume import read_volume

NEAR_MM = 10.0
#: Structures that findings of the lung and the pleural space lie near to or far from.
CLASSES = (
    "lung_upper_lobe_left",
    "lung_lower_lobe_left",
    "lung_upper_lobe_right",
    "lung_lower_lobe_right",
    "heart",
    "aorta",
)
_GOLDEN = 0.6180339887498949
_LEAST_SEVERITY = 0.1


@dataclass(frozen=True)
class Design:
    """Who is in the study and how each is explained.

    Attributes
    ----------
    reference, new : int
        Patients.
    reference_seed, new_seed : int
        Of the phantoms; the model must not have been trained on either.
    spacing : float
        Of the phantoms, mm.
    classes : tuple of str
        Structures that are explained and scored.
    near_mm : float
        Distance within which a finding is near a structure.

    Raises
    ------
    InputError
        Too few patients, or seeds that are the same.
    """

    reference: int = 60
    new: int = 40
    reference_seed: int = 6100
    new_seed: int = 6200
    spacing: float = 3.0
    classes: tuple[str, ...] = CLASSES
    near_mm: float = NEAR_MM

    def __post_init__(self) -> None:
        if self.reference < 3 or self.new < 2:
            raise InputError(f"{self.reference} reference and {self.new} new patients: give 3 and 2 or more")
        if self.reference_seed == self.new_seed:
            raise InputError(f"reference and new patients have the seed {self.new_seed} both: they would be the same")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "classes": list(self.classes)}

    def findings_of(self, index: int) -> list[Finding]:
        """Return what new patient ``index`` has: nothing when even, one finding when odd."""
        if index % 2 == 0:
            return []
        turn = index // 2
        kinds = sorted(FINDINGS)
        severity = _LEAST_SEVERITY + (1.0 - _LEAST_SEVERITY) * ((turn * _GOLDEN) % 1.0)
        side = ("left", "right")[turn // len(kinds) % 2]
        return [Finding(kinds[turn % len(kinds)], round(severity, 3), side)]

    def write_reference(self, folder: Path, progress: Progress) -> None:
        """Generate the healthy patients that are not there yet."""
        write_phantoms(folder, self.reference, self.reference_seed, self.spacing, progress=progress)

    def write_new(self, folder: Path, progress: Progress) -> None:
        """Generate the new patients that are not there yet."""
        progress.stage("new patients", self.new)
        for index in range(self.new):
            write_phantoms(folder, 1, self.new_seed, self.spacing, self.findings_of(index), index)
            progress.advance()


def distances(case: Path, classes: Sequence[str]) -> np.ndarray:
    """Return the distance from each structure to the nearest finding of a phantom case, by its ground truth.

    Parameters
    ----------
    case : path
        Folder of a phantom case.
    classes : sequence of str
        Structures of the thorax-17 set.

    Returns
    -------
    ndarray, shape (classes,)
        mm; infinite in a healthy patient, NaN for a structure that the patient lacks.
    """
    truth = read_volume(case / "segmentation.nii.gz")
    masks = [read_volume(path).voxels > 0 for path in sorted((case / "findings").glob("*.nii.gz"))]
    finding = np.logical_or.reduce(masks) if masks else np.zeros(truth.shape, dtype=bool)
    return mask_distances(truth.voxels, finding, truth.spacing, [THORAX_17.index(name) for name in classes])


def mask_distances(
    labels: np.ndarray, finding: np.ndarray, spacing: Sequence[float], indices: Sequence[int]
) -> np.ndarray:
    """Return the distance in mm from each label to a mask, between the nearest voxel centres.

    Parameters
    ----------
    labels : ndarray of int
        Label map.
    finding : ndarray of bool, same shape
        The mask; an empty one is infinitely far from everything.
    spacing : sequence of float
        mm.
    indices : sequence of int
        Labels; one that is not there gives NaN.
    """
    from scipy.ndimage import distance_transform_edt

    far = np.full(labels.shape, np.inf)
    if finding.any():
        far = distance_transform_edt(~finding, sampling=spacing)
    found = [far[labels == index] for index in indices]
    return np.array([float(one.min()) if one.size else np.nan for one in found])
