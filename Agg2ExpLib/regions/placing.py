"""Regions brought onto the grid of a scan, checked by name and frame of reference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.regions.contours import as_thick_as_slices
from Agg2ExpLib.regions.reading import named_region
from Agg2ExpLib.regions.region import Region
from Agg2ExpLib.storage import file_key
from Agg2ExpLib.volume import Grid, Volume, to_grid

_MOST_PAIRS = 5
_ON_VOXEL = 0.02  # voxels


@dataclass(frozen=True, eq=False)
class PlacedRegions:
    """Regions on the grid of a scan.

    Attributes
    ----------
    regions : tuple of Region
        In the order given.
    masks : tuple of ndarray of bool
        Shape of the grid; one for each region.
    notes : tuple of str
        Sentences about what was repaired, overlaps, or lies outside of the scan.
    """

    regions: tuple[Region, ...]
    masks: tuple[np.ndarray, ...]
    notes: tuple[str, ...]


def as_regions(given: Mapping[str, str | Path | Volume | Region]) -> tuple[Region, ...]:
    """Return regions for a mapping of names to files, volumes (above 0 is inside) or regions already read.

    Raises
    ------
    InputError
        A file that cannot be read as one region.
    """
    return tuple(_as_region(name, source) for name, source in given.items())


def _as_region(name: str, source: str | Path | Volume | Region) -> Region:
    if isinstance(source, Region):
        return source.renamed(name)
    return Region.from_volume(name, source) if isinstance(source, Volume) else named_region(name, source)


def check_names(names: Iterable[str], labels: Sequence[str]) -> None:
    """Refuse names of regions that are those of classes or of each other.

    Raises
    ------
    InputError
        Which name is taken, and by what.
    """
    taken = {file_key(label): label for label in labels}
    for name in names:
        # Some systems do not tell "R" and "r" apart in file names.
        file = file_key(name)
        if file in taken:
            raise InputError(f"region {name!r} has the name of {taken[file]!r}; give it a name of its own")
        taken[file] = name


def regions_on_grid(
    regions: Sequence[Region],
    grid: Grid,
    labels: Sequence[str] = (),
    frame_of_reference: str = "",
    scan_grid: Grid | None = None,
) -> PlacedRegions:
    """Bring regions onto a grid by the nearest voxel.

    Parameters
    ----------
    regions : sequence of Region
        On any grids; they may overlap.
    grid : Grid
        Where they are wanted.
    labels : sequence of str
        Names that are taken: those of the classes.
    frame_of_reference : str
        Of the scan, where DICOM tells it.
    scan_grid : Grid, optional
        The scan's own grid, ``grid`` by default. A region of another frame of reference is refused, unless its voxels are
        exactly voxels of the scan: then it was drawn on it, and the identifiers were changed since.

    Returns
    -------
    PlacedRegions
        The masks, and what there is to say of them.

    Raises
    ------
    InputError
        A name that is taken, a region without a voxel in its own file, or one of another frame of reference.

    Examples
    --------
    >>> grid = Grid((4, 4, 4), np.eye(4))
    >>> block = np.zeros((4, 4, 4)); block[1:3, 1:3, 1:3] = 1
    >>> placed = regions_on_grid([Region.from_mask("block", block, grid)], grid, ["heart"])
    >>> int(placed.masks[0].sum()), placed.notes
    (8, ())
    """
    check_names([region.name for region in regions], labels)
    notes: list[str] = []
    masks = []
    for region in regions:
        where = region.source or f"region {region.name}"
        if not region.voxels:
            raise InputError(f"{where}: region {region.name} has no voxel above 0; give a mask that is not empty")
        if frame_of_reference and region.frame_of_reference not in ("", frame_of_reference):
            if not _same_voxels(region, scan_grid or grid):
                raise InputError(
                    f"{where}: region {region.name} belongs to another frame of reference than the scan, so its place in it "
                    "is not known; give the segmentation of this scan, or register it first"
                )
            told = f"{where}: it names another frame of reference than the scan but lies on exactly the scan's voxels; it was "
            notes.append(f"{told}taken as drawn on this scan.")
        # How thick contours are is known best from the slices that they were drawn on.
        placed = as_thick_as_slices(region, scan_grid or grid) if region.slab else region
        notes.extend((*placed.notes, *((placed.slab,) if placed.slab else ())))
        mask = to_grid(placed.mask, grid, "nearest").voxels > 0
        if not mask.any():
            notes.append(f"region {region.name} has no voxel within the scan; its importance is 0")
        masks.append(mask)
    notes.extend(_overlaps([region.name for region in regions], masks))
    return PlacedRegions(tuple(regions), tuple(masks), tuple(dict.fromkeys(notes)))


def _same_voxels(region: Region, grid: Grid) -> bool:
    """Tell whether the voxels of a region's box are voxels of a grid: the same axes, in any order, without an offset."""
    mapping = np.linalg.solve(grid.affine, region.grid.affine)
    whole = np.rint(mapping[:3, :3])
    axes = (abs(whole).sum(axis=0) == 1).all() and (abs(whole).sum(axis=1) == 1).all()
    corners = np.array([[part.start for part in region.box], [part.stop - 1 for part in region.box]])
    ends = grid.world_to_index(region.grid.index_to_world(corners))
    within = (ends > -_ON_VOXEL).all() and (ends < np.array(grid.shape) - 1 + _ON_VOXEL).all()
    return bool(axes and abs(ends - np.rint(ends)).max() < _ON_VOXEL and within)


def _overlaps(names: Sequence[str], masks: Sequence[np.ndarray]) -> list[str]:
    if len(masks) < 2:
        return []
    count = np.zeros(masks[0].shape, dtype=np.uint16)
    for mask in masks:
        count += mask
    shared = count > 1
    if not shared.any():
        return []
    inside = np.array([mask[shared] for mask in masks])
    touched = [number for number in range(len(masks)) if inside[number].any()]
    pairs = [
        (int((inside[one] & inside[other]).sum()), names[one], names[other]) for one, other in combinations(touched, 2)
    ]
    pairs = sorted((pair for pair in pairs if pair[0]), key=lambda pair: -pair[0])
    told = ", ".join(f"{one} and {other} by {size} voxels" for size, one, other in pairs[:_MOST_PAIRS])
    more = f" and {len(pairs) - _MOST_PAIRS} more pairs" if len(pairs) > _MOST_PAIRS else ""
    return [f"Regions overlap: {told}{more}; what lies in several counts for each."]
