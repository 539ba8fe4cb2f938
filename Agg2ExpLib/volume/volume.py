"""A scan or any other field of numbers on a grid, and what is known of its source."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.volume.grid import Grid


@dataclass(frozen=True)
class DicomIds:
    """What DICOM calls the scan, so that it is found again where it came from.

    Attributes
    ----------
    study, series : str
        StudyInstanceUID and SeriesInstanceUID; empty when the files do not tell.
    frame_of_reference : str
        FrameOfReferenceUID: objects with the same one share their coordinates.
    part : str
        The stack or time point that was chosen of several; else empty.
    """

    study: str = ""
    series: str = ""
    frame_of_reference: str = ""
    part: str = ""


@dataclass(frozen=True, eq=False)
class Volume:
    """A scan, a label map or any other field of numbers on a grid. Treat the voxels as read-only.

    Attributes
    ----------
    voxels : ndarray of shape (i, j, k)
        The values; Hounsfield units for a CT.
    grid : Grid
        Where they lie.
    source : Path or None
        The file or folder they were read from.
    notes : tuple of str
        Sentences about what was repaired or looked odd on reading.
    sha256 : str
        SHA-256 of the source as it was when it was read (see :func:`Agg2ExpLib.volume.file_sha256`), else empty.
    dicom : DicomIds or None
        Identifiers of a scan that was read from DICOM.
    """

    voxels: np.ndarray
    grid: Grid
    source: Path | None = None
    notes: tuple[str, ...] = field(default=())
    sha256: str = ""
    dicom: DicomIds | None = None

    def __post_init__(self) -> None:
        if np.shape(self.voxels) != self.grid.shape:
            raise InputError(f"voxels of shape {np.shape(self.voxels)} do not fit a grid of shape {self.grid.shape}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along i, j, k."""
        return self.grid.shape

    @property
    def affine(self) -> np.ndarray:
        """The grid's affine, (4, 4), voxel index to RAS millimetres."""
        return self.grid.affine

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres between voxels along i, j, k."""
        return self.grid.spacing
