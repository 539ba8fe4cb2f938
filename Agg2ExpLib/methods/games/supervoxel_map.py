"""The user's own supervoxels: a label volume on any grid, brought onto the model's by the nearest voxel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.methods.games.supervoxels import Supervoxels
from Agg2ExpLib.volume import Grid, file_sha256, read_volume, to_grid

#: More supervoxels than this are worth a word: each needs at least one coalition more.
MANY = 1000
_WORTH_TELLING = 0.001
# The same grid, written by two programs, differs by rounding alone.
_SAME_GRID_MM = 1e-3


@dataclass(frozen=True, eq=False)
class SupervoxelMap:
    """A user's supervoxels on the model's grid.

    Attributes
    ----------
    supervoxels : Supervoxels
        Numbered anew; each is named by its value in the file.
    source : Path
        The file.
    sha256 : str
        Of the file.
    notes : tuple of str
        Sentences about what was done to it.
    """

    supervoxels: Supervoxels
    source: Path
    sha256: str
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for explanation.json."""
        return {
            "path": str(self.source.resolve()),
            "sha256": self.sha256,
            "supervoxels": len(self.supervoxels.names),
        }


def read_map(path: str | Path, grid: Grid) -> SupervoxelMap:
    """Read a supervoxel map and bring it onto a grid.

    A map of another grid is resampled when it lies where the scan does, and refused when it does not.

    Parameters
    ----------
    path : path
        Label volume: values from 1 on are supervoxels, however many lie between them; 0 is never removed.
    grid : Grid
        The model's.

    Raises
    ------
    InputError
        It cannot be read, holds fewer than two supervoxels, or fewer than two lie within the scan.
    """
    source = Path(path)
    given = read_volume(source, kind="labels")
    before = _values(given.voxels)
    if len(before) < 2:
        raise InputError(
            f"{source}: the supervoxel map holds {'only 1 supervoxel' if len(before) else 'no supervoxel'}, "
            "and a method needs at least 2; "
            "give a label volume with different whole numbers from 1 on"
        )
    voxels = to_grid(given, grid, "nearest").voxels
    values = _values(voxels)
    if len(values) < 2:
        raise InputError(
            f"{source}: of the {len(before)} supervoxels of this map {'only 1' if len(values) else 'none'} lies within "
            "the scan, and a method needs at least 2; "
            "give a map of this scan, in the same space"
        )
    labels = np.where(voxels > 0, np.searchsorted(values, voxels) + 1, 0).astype(np.int32)
    notes = [*given.notes]
    if given.shape != grid.shape or not np.allclose(given.affine, grid.affine, atol=_SAME_GRID_MM):
        notes.append(f"the supervoxel map {source.name} was resampled onto the model's grid by the nearest voxel")
    if len(values) < len(before):
        lost = len(before) - len(values)
        notes.append(f"{lost} of its {len(before)} supervoxels have no voxel on the model's grid and are left out")
    fixed = float((labels == 0).mean())
    if fixed >= _WORTH_TELLING:
        notes.append(f"{fixed:.1%} of the scan lies in no supervoxel of {source.name} and is never removed")
    if len(values) > MANY:
        notes.append(
            f"{source.name} has {len(values)} supervoxels: kernelshap needs more samples than that, and its time grows "
            "with them; fewer, larger supervoxels are quicker"
        )
    names = tuple(f"supervoxel {value}" for value in values)
    return SupervoxelMap(Supervoxels(labels, names), source, file_sha256(source), tuple(notes))


def count_supervoxels(path: str | Path) -> int:
    """Return the number of supervoxels in a map, wherever they lie.

    Raises
    ------
    InputError
        It cannot be read.
    """
    return len(_values(read_volume(path, kind="labels").voxels))


def _values(voxels: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.unique(voxels)
    return found[found > 0]
