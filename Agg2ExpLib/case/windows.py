"""The windows over a volume and their blending weights: the one place that knows them.

Layout and weights are those of MONAI's ``sliding_window_inference`` (whose own functions compute them), so a stitched
prediction, and its gradient, are exactly what that inferer gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.models.card import BLENDINGS

Triple = tuple[int, int, int]
Slices = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Windows:
    """Windows over one volume.

    Attributes
    ----------
    volume_shape, window : tuple of int
        Voxels along i, j, k.
    overlap : float
        Fraction of a window shared with the next, 0 to below 1.
    blending : str
        ``"constant"`` or ``"gaussian"``.

    Raises
    ------
    InputError
        A shape, overlap or blending that cannot be used.
    """

    volume_shape: Triple
    window: Triple
    overlap: float = 0.25
    blending: str = "gaussian"

    def __post_init__(self) -> None:
        if min(*self.volume_shape, *self.window) < 1:
            raise InputError(f"volume {self.volume_shape} and window {self.window} must have voxels along every axis")
        if not 0.0 <= self.overlap < 1.0:
            raise InputError(f"overlap {self.overlap:g} of windows must be at least 0 and below 1")
        if self.blending not in BLENDINGS:
            raise InputError(f"unknown blending {self.blending!r}: use {' or '.join(BLENDINGS)}")

    @property
    def padded_shape(self) -> Triple:
        """Shape after padding a volume that is smaller than a window."""
        n = [max(size, side) for size, side in zip(self.volume_shape, self.window, strict=True)]
        return n[0], n[1], n[2]

    @property
    def pad_before(self) -> Triple:
        """Voxels padded before each axis; as in MONAI half of what lacks, rounded down."""
        n = [(padded - size) // 2 for padded, size in zip(self.padded_shape, self.volume_shape, strict=True)]
        return n[0], n[1], n[2]

    @cached_property
    def starts(self) -> np.ndarray:
        """First voxel of each window in the padded volume, shape (windows, 3), ordered along the longest axis."""
        from monai.data.utils import dense_patch_slices

        steps = [
            side if size == side else max(int(side * (1.0 - self.overlap)), 1)
            for size, side in zip(self.padded_shape, self.window, strict=True)
        ]
        found = np.array(
            [[part.start for part in box] for box in dense_patch_slices(self.padded_shape, self.window, steps)]
        )
        return found[np.argsort(found[:, self.rolling_axis], kind="stable")]

    @property
    def rolling_axis(self) -> int:
        """Axis along which windows are ordered."""
        return int(np.argmax(self.padded_shape))

    def __len__(self) -> int:
        return len(self.starts)

    @cached_property
    def weight(self) -> torch.Tensor:
        """Blending weight within a window, float32."""
        from monai.data.utils import compute_importance_map

        weight: torch.Tensor = compute_importance_map(self.window, mode=self.blending, sigma_scale=0.125)
        return weight

    @cached_property
    def total_weight(self) -> torch.Tensor:
        """Sum of the weights of all windows at each voxel of the padded volume, float64 (the divisor of exact gradients)."""
        total = torch.zeros(self.padded_shape, dtype=torch.float64)
        for index in range(len(self)):
            total[self.slices(index)] += self.weight
        return total

    def slices(self, index: int) -> Slices:
        """Slices of a window in the padded volume."""
        first = self.starts[index]
        return tuple(slice(int(f), int(f) + side) for f, side in zip(first, self.window, strict=True))  # type: ignore[return-value]

    def inside(self, index: int) -> tuple[Slices, Slices]:
        """Return the part of a window that is not padding: slices in the volume, and in the window."""
        volume, window = [], []
        for part, before, size in zip(self.slices(index), self.pad_before, self.volume_shape, strict=True):
            first, last = max(part.start - before, 0), min(part.stop - before, size)
            volume.append(slice(first, last))
            window.append(slice(first + before - part.start, last + before - part.start))
        return (volume[0], volume[1], volume[2]), (window[0], window[1], window[2])

    def pad(self, volume: torch.Tensor) -> torch.Tensor:
        """Pad a volume (i, j, k) with 0 (air) to :attr:`padded_shape`."""
        pads: list[int] = []
        for size, padded, before in zip(self.volume_shape, self.padded_shape, self.pad_before, strict=True):
            pads = [before, padded - size - before, *pads]
        return torch.nn.functional.pad(volume, pads) if any(pads) else volume

    def unpad(self, padded: torch.Tensor) -> torch.Tensor:
        """Take the volume out of a padded tensor whose last three axes are i, j, k."""
        i, j, k = (slice(b, b + n) for b, n in zip(self.pad_before, self.volume_shape, strict=True))
        return padded[..., i, j, k]

    def touching(self, mask: np.ndarray) -> list[int]:
        """Return the windows that hold a true voxel of ``mask`` (i, j, k)."""
        return [index for index in range(len(self)) if mask[self.inside(index)[0]].any()]
