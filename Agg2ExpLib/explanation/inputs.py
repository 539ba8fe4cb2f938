"""What lies beside the scan, brought onto the model's grid: extra regions, the truth, the user's own supervoxels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.explanation.folder import region_file
from Agg2ExpLib.methods.games.supervoxel_map import SupervoxelMap
from Agg2ExpLib.regions import Region, as_regions, regions_on_grid
from Agg2ExpLib.volume import Grid, Volume, file_sha256, read_volume, to_grid

Source = str | Path | Volume | Region


@dataclass(frozen=True)
class Copied:
    """A scan that is a copy which a program has made, and where it came from, for explanation.json.

    Attributes
    ----------
    scan : path, Volume, or a sequence of them
        The scan.
    origin : mapping
        Where its first volume came from.
    others : sequence of mapping
        Where the volumes after it came from.
    """

    scan: Any
    origin: Mapping[str, Any]
    others: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, eq=False)
class Inputs:
    """Volumes beside the scan, on the model's grid.

    Attributes
    ----------
    regions : mapping of str to bool ndarray
        Extra regions by name.
    region_entries : tuple of dict
        What explanation.json says of each.
    truth : ndarray of int, optional
        True classes.
    truth_entry : dict, optional
        Its file and hash.
    supervoxel_map : SupervoxelMap, optional
        The user's own supervoxels.
    notes : tuple of str
        Sentences about them.
    """

    regions: Mapping[str, np.ndarray] = field(default_factory=dict)
    region_entries: tuple[dict[str, Any], ...] = ()
    truth: np.ndarray | None = None
    truth_entry: dict[str, str] | None = None
    supervoxel_map: SupervoxelMap | None = None
    notes: tuple[str, ...] = ()

    def fingerprint(self) -> list[Any]:
        """Return what results depend on."""
        regions = {name: hashlib.sha256(mask.tobytes()).hexdigest() for name, mask in self.regions.items()}
        truth = "" if self.truth is None else hashlib.sha256(np.ascontiguousarray(self.truth).tobytes()).hexdigest()
        return [regions, truth, self.supervoxel_map.sha256 if self.supervoxel_map else ""]


def read_inputs(
    grid: Grid,
    labels: Sequence[str],
    regions: Mapping[str, Source],
    truth: str | Path | Volume | None,
    supervoxel_map: SupervoxelMap | None,
    scan: Volume | None = None,
) -> Inputs:
    """Read regions and truth and bring them onto a grid by the nearest voxel.

    Regions are checked against the frame of reference of ``scan``, where DICOM tells it.

    Raises
    ------
    InputError
        A region that cannot be read or placed, or has the name of a class or of another region; or a truth with more classes
        than the model.
    """
    frame = scan.dicom.frame_of_reference if scan is not None and scan.dicom else ""
    placed = regions_on_grid(as_regions(regions), grid, labels, frame, scan.grid if scan is not None else None)
    masks = {region.name: inside for region, inside in zip(placed.regions, placed.masks, strict=True)}
    entries = [
        {
            "id": region.name,
            "source": region.source,
            "sha256": region.sha256,
            "voxels": int(masks[region.name].sum()),
            "file": region_file(region.name),
        }
        for region in placed.regions
    ]
    notes = [*(supervoxel_map.notes if supervoxel_map else ()), *placed.notes]
    on_grid, entry = (None, None) if truth is None else _truth_on_grid(truth, grid, len(labels))
    return Inputs(masks, tuple(entries), on_grid, entry, supervoxel_map, tuple(notes))


def _truth_on_grid(source: str | Path | Volume, grid: Grid, count: int) -> tuple[np.ndarray, dict[str, str]]:
    given = source if isinstance(source, Volume) else read_volume(source, kind="labels")
    highest = int(given.voxels.max())
    if highest >= count:
        raise InputError(
            f"the truth {given.source or ''} has label {highest}, but the model has {count} classes; is it its label set?"
        )
    path = given.source
    entry = (
        {"path": str(path.resolve()), "sha256": given.sha256 or file_sha256(path)}
        if path
        else {"path": "", "sha256": ""}
    )
    return to_grid(given, grid, "nearest").voxels, entry
