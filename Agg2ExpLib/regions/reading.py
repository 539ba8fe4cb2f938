"""Regions of a file or a folder, whatever kind it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.regions.label_maps import has_segment_table, is_label_of, label_map_regions, segment_regions
from Agg2ExpLib.regions.region import Region
from Agg2ExpLib.volume import READABLE, check_exists, read_volume, refuse, suffix_of

_MOST_TOLD = 10


def read_regions(path: str | Path) -> tuple[Region, ...]:
    """Read all regions of a file or a folder, each by its own name.

    Parameters
    ----------
    path : path
        A label map (names from a table beside it or from its header, else "label 7"); a ``.seg.nrrd`` of 3D Slicer; a
        DICOM segmentation or structure set; or a folder with one of these, or with one mask for each structure.

    Returns
    -------
    tuple of Region
        Only those with a voxel inside.

    Raises
    ------
    InputError
        Nothing there that can be read, or no voxel in it.
    """
    path = Path(path)
    check_exists(path)
    regions = _of_folder(path) if path.is_dir() else _of_file(path)
    full = [region for region in regions if region.voxels]
    empty = [region.name for region in regions if not region.voxels]
    if not full:
        _refuse_empty(path, empty)
    if empty:
        told = f"{path.name}: {_shortened(empty)} {'has' if len(empty) == 1 else 'have'} no voxel and {_was(empty)} left out."
        full[0] = _with_note(full[0], told)
    return tuple(full)


def named_region(name: str, path: str | Path) -> Region:
    """Read one region by the name that the user gives it.

    Of a file with several segments, or of a label map that has a label of that name, it is the one of that name; any other
    label map or mask is inside wherever it is above 0.

    Raises
    ------
    InputError
        The file has several segments and none of that name.
    """
    found = named_regions(name, path)
    if len(found) > 1:
        told = _shortened([region.name for region in found])
        refuse(
            Path(path), f"there are {len(found)} segments in it and none is {name!r}: {told}", "give one of these names"
        )
    return found[0].renamed(name)


def named_regions(name: str, path: str | Path) -> tuple[Region, ...]:
    """Read what ``NAME=FILE`` means: one region of that name or, of several segments without that name, each by its own.

    The first of several carries a note that says so.

    Raises
    ------
    InputError
        Nothing there that can be read.
    """
    path = Path(path)
    check_exists(path)
    if not _has_segments(path):
        if path.is_file() and is_label_of(path, name):
            return tuple(region for region in read_regions(path) if region.name == name)
        return (Region.from_volume(name, read_volume(path, kind="mask")),)
    regions = read_regions(path)
    same = [region for region in regions if region.name.casefold() == name.casefold()]
    if same or len(regions) == 1:
        return ((same or list(regions))[0].renamed(name),)
    told = f"{path.name} has no segment {name!r}; each of its {len(regions)} segments became a region by its own name."
    return (_with_note(regions[0], told), *regions[1:])


def present_regions(given: Mapping[str, str | Path]) -> dict[str, Region]:
    """Read regions of a case by name; one whose mask is empty is not present in this case, and is left out.

    Raises
    ------
    InputError
        A file that cannot be read as one region.
    """
    found = {}
    for name, path in given.items():
        region = named_region(name, path)
        if region.voxels:
            found[name] = region
    return found


def _has_segments(path: Path) -> bool:
    if path.is_dir():
        return bool(_objects(path)) or bool(_masks(path))
    return bool(_objects(path)) or has_segment_table(path)


def _objects(path: Path) -> list[Path]:
    """The DICOM segmentations and structure sets of a folder, or the file itself when it is one."""
    from Agg2ExpLib.regions.dicom_objects import objects_of

    return [] if suffix_of(path, READABLE) and path.is_file() else objects_of(path)


def _masks(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_file() and suffix_of(child, READABLE))


def _of_folder(folder: Path) -> list[Region]:
    objects = _objects(folder)
    if objects:
        return _unique(folder, [region for file in objects for region in _of_object(file)])
    masks = _masks(folder)
    if masks:
        return _unique(folder, [region for file in masks for region in _of_file(file)])
    if any(child.is_file() for child in folder.iterdir()):
        # A mask kept as a DICOM series is one region.
        return [Region.from_volume(folder.name, read_volume(folder, kind="mask"))]
    inner = sorted(child.name for child in folder.iterdir() if child.is_dir())
    refuse(
        folder, "the folder holds no masks", f"give the folder inside it, such as {inner[0]}" if inner else "give masks"
    )


def _of_file(path: Path) -> list[Region]:
    if suffix_of(path, READABLE):
        return segment_regions(path) if has_segment_table(path) else label_map_regions(path)
    if _objects(path):
        return _of_object(path)
    try:
        volume = read_volume(path, kind="mask")
    except InputError:
        refuse(path, "this is no file of regions", f"give {', '.join(READABLE)}, or a DICOM SEG or RTSTRUCT")
    return [Region.from_volume(path.stem, volume)]


def _of_object(path: Path) -> list[Region]:
    from Agg2ExpLib.regions.dicom_objects import read_object

    return read_object(path)


def _unique(folder: Path, regions: Sequence[Region]) -> list[Region]:
    seen: dict[str, str] = {}
    for region in regions:
        if region.name in seen:
            cause = f"{region.name!r} is in {Path(seen[region.name]).name} and in {Path(region.source).name}"
            refuse(folder, cause, "keep one of them, or rename it")
        seen[region.name] = region.source
    return list(regions)


def _refuse_empty(path: Path, names: Sequence[str]) -> NoReturn:
    told = f" ({_shortened(names)})" if names else ""
    refuse(path, f"no region in it has a voxel above 0{told}", "give a segmentation that is not empty")


def _with_note(region: Region, note: str) -> Region:
    from dataclasses import replace

    return replace(region, notes=(*region.notes, note))


def _was(names: Sequence[str]) -> str:
    return "was" if len(names) == 1 else "were"


def _shortened(names: Sequence[str]) -> str:
    more = len(names) - _MOST_TOLD
    return ", ".join(names[:_MOST_TOLD]) + (f" and {more} more" if more > 0 else "")
