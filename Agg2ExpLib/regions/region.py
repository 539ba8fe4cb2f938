"""A region: a name, the voxels inside, and where they were read from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.volume import Grid, Volume


@dataclass(frozen=True, eq=False)
class Region:
    """A region of interest on the grid of its own file.

    Attributes
    ----------
    name : str
        How tables and figures call it.
    inside : ndarray of bool, shape of the box
        The voxels of its bounding box: a hundred masks of a large scan would not fit into memory whole.
    box : tuple of slice
        Where the bounding box lies on ``grid``.
    grid : Grid
        The whole grid of the file.
    source : str
        File that it was read from; empty for one made in memory.
    sha256 : str
        Of that file.
    frame_of_reference : str
        DICOM's identifier of the coordinates, where the file tells it.
    notes : tuple of str
        What was repaired or looks odd.
    slab : str
        For contours: how thick they were taken to be, and why; empty where the file itself holds voxels.
    """

    name: str
    inside: np.ndarray
    box: tuple[slice, slice, slice]
    grid: Grid
    source: str = ""
    sha256: str = ""
    frame_of_reference: str = ""
    notes: tuple[str, ...] = ()
    slab: str = ""

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise InputError(f"{self.source or 'a region'}: a region has no name; give it one")
        if any("\ud800" <= letter <= "\udfff" for letter in self.name):
            cause = f"the region's name {self.name!a} is no text in the encoding of this terminal"
            raise InputError(f"{cause}; set the terminal to UTF-8, or name the region in plain letters")
        if self.inside.shape != tuple(part.stop - part.start for part in self.box):
            raise InputError(f"region {self.name}: its voxels do not fill its box")

    @classmethod
    def from_mask(
        cls,
        name: str,
        mask: np.ndarray,
        grid: Grid,
        *,
        first: tuple[int, int, int] = (0, 0, 0),
        source: str = "",
        sha256: str = "",
        frame_of_reference: str = "",
        notes: tuple[str, ...] = (),
    ) -> Region:
        """Return a region from a mask (above 0 is inside) of any part of a grid that begins at index ``first``."""
        inside = mask > 0
        bounds = []
        for axis in range(3):
            hit = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
            bounds.append((int(hit[0]), int(hit[-1]) + 1) if len(hit) else (0, 0))
        (a, b), (c, d), (e, f) = bounds
        part = np.ascontiguousarray(inside[a:b, c:d, e:f])
        part.flags.writeable = False
        i, j, k = first
        box = (slice(i + a, i + b), slice(j + c, j + d), slice(k + e, k + f))
        return cls(name, part, box, grid, source, sha256, frame_of_reference, notes)

    @classmethod
    def from_volume(cls, name: str, volume: Volume) -> Region:
        """Return a region from a volume whose values above 0 are inside."""
        return cls.from_mask(
            name,
            np.asarray(volume.voxels),
            volume.grid,
            source=str(volume.source or ""),
            sha256=volume.sha256,
            frame_of_reference=volume.dicom.frame_of_reference if volume.dicom else "",
            notes=volume.notes,
        )

    def renamed(self, name: str) -> Region:
        """Return the same region under another name."""
        return replace(self, name=name)

    @property
    def voxels(self) -> int:
        """Number of voxels inside, on its own grid."""
        return int(np.count_nonzero(self.inside))

    @property
    def mask(self) -> Volume:
        """The whole mask, uint8, 1 inside."""
        whole = np.zeros(self.grid.shape, dtype=np.uint8)
        whole[self.box] = self.inside
        return Volume(whole, self.grid)
