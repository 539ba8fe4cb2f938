"""Live importance: what a painted region holds of the shown structure's attribution. No network runs; a numpy sum is redone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from Agg2ExpLib.importance import importance_row
from Agg2ExpLib.panel.words.importance_rows import Row

if TYPE_CHECKING:
    from Agg2ExpLib.anatomy import RGB
    from Agg2ExpLib.volume import Volume


class LiveImportance:
    """Importance of any region for one structure, recomputed within the region's own box only.

    Parameters
    ----------
    attribution : Volume of float32
        E_c on the model's grid.
    """

    def __init__(self, attribution: Volume) -> None:
        self.attribution = attribution
        values = attribution.voxels
        # Sums in double precision without a double-precision copy of the volume.
        self._all = float(np.sum(np.abs(values), dtype=np.float64))
        self._up = float(np.sum(values, where=values > 0, dtype=np.float64))
        self._down = self._all - self._up

    def row(self, mask: Volume | None, region: str, name: str, colour: RGB) -> Row:
        """Return the importance of a mask, given on any grid.

        Parameters
        ----------
        mask : Volume
            Non-zero is inside; ``None`` is an empty region.
        region, name, colour
            Of the row.
        """
        inside = None if mask is None else self._cropped(mask)
        if inside is None or not inside[1].any():
            nothing = 0.0 if mask is not None else math.nan
            return Row(region, name, colour, nothing, math.nan, nothing, nothing, 0, live=True)
        box, voxels = inside
        values = self.attribution.voxels[box]
        everything = (slice(0, values.shape[0]), slice(0, values.shape[1]), slice(0, values.shape[2]))
        found = {
            key: float(measures[1])
            for key, measures in importance_row(
                values, everything, np.zeros(values.shape, dtype=np.int16), 1, [voxels]
            ).items()
        }
        return self._whole(
            found, values, Row(region, name, colour, 0.0, 0.0, 0.0, 0.0, int(found["voxels"]), live=True)
        )

    def strongest(self, mask: Volume) -> list[float] | None:
        """Return where |E| is largest within a mask, RAS without the scan's transform; ``None`` when it holds no voxel."""
        inside = self._cropped(mask)
        if inside is None or not inside[1].any():
            return None
        box, voxels = inside
        at = np.unravel_index(
            int(np.argmax(np.where(voxels, np.abs(self.attribution.voxels[box]), -1.0))), voxels.shape
        )
        place = [int(part) + side.start for part, side in zip(at, box, strict=True)]
        return [float(part) for part in self.attribution.grid.index_to_world(place)]

    def _whole(self, found: dict[str, float], values: np.ndarray, row: Row) -> Row:
        """Turn shares of a box's attribution into shares of the whole volume's."""
        from dataclasses import replace

        if not self._all > 0:
            return replace(row, share=math.nan, enrichment=math.nan, positive=math.nan, negative=math.nan)
        part = float(np.sum(np.abs(values), dtype=np.float64))
        up = float(np.sum(values, where=values > 0, dtype=np.float64))

        def share(measure: str, inside: float, whole: float) -> float:
            if not whole > 0:
                return math.nan
            return min(found[measure] * inside / whole, 1.0) if inside > 0 else 0.0

        mass = share("mass", part, self._all)
        volume = row.voxels / self.attribution.voxels.size
        return replace(
            row,
            share=mass,
            enrichment=mass / volume,
            positive=share("positive", up, self._up),
            negative=share("negative", part - up, self._down),
        )

    def _cropped(self, mask: Volume) -> tuple[tuple[slice, slice, slice], np.ndarray] | None:
        """Return the mask on the model's grid within the box that can hold it; ``None`` when it lies outside."""
        from Agg2ExpLib.volume import crop, to_grid

        # One axis at a time: np.nonzero of a whole lung would take longer than all the rest.
        full = mask.voxels > 0
        ends = [np.flatnonzero(full.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
        if not len(ends[0]):
            return None
        mask = crop(mask, [slice(int(one[0]), int(one[-1]) + 1) for one in ends])
        corners = np.array([[i, j, k] for i in (-0.5, 1) for j in (-0.5, 1) for k in (-0.5, 1)])
        size = np.array(mask.shape, dtype=float)
        edges = np.where(corners > 0, size - 0.5, -0.5)
        places = self.attribution.grid.world_to_index(mask.grid.index_to_world(edges))
        shape = np.array(self.attribution.shape)
        low = np.clip(np.floor(places.min(axis=0)).astype(int), 0, shape)
        high = np.clip(np.ceil(places.max(axis=0)).astype(int) + 1, 0, shape)
        if (high <= low).any():
            return None
        i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        target = crop(self.attribution, (i, j, k)).grid
        return (i, j, k), to_grid(mask, target, "nearest").voxels > 0
