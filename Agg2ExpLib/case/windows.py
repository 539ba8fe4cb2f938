"""The windows over a volume and their blending weights: the one place that knows them.

Two layouts: that of MONAI's ``sliding_window_inference`` (whose own functions compute it) and that of nnU-Net, evenly
spread. Either way a stitched prediction, and its gradient, are exactly what the model's makers' inferer gives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.models.interface import BLENDINGS, Tiling, Triple

Slices = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Windows:
    """Windows over one volume.

    Attributes
    ----------
    volume_shape, window : tuple of int
        Voxels along i, j, k.
    overlap, blending, step, sigma, padding
        See :class:`~Agg2ExpLib.models.interface.Tiling`.

    Raises
    ------
    InputError
        A shape, overlap or blending that cannot be used.
    """

    volume_shape: Triple
    window: Triple
    overlap: float = 0.25
    blending: str = "gaussian"
    step: float | None = None
    sigma: float = 0.125
    padding: float | Literal["edge"] | None = None

    def __post_init__(self) -> None:
        if min(*self.volume_shape, *self.window) < 1:
            raise InputError(f"volume {self.volume_shape} and window {self.window} must have voxels along every axis")
        if not 0.0 <= self.overlap < 1.0:
            raise InputError(f"overlap {self.overlap:g} of windows must be at least 0 and below 1")
        if self.blending not in BLENDINGS:
            raise InputError(f"unknown blending {self.blending!r}: use {', '.join(BLENDINGS)}")

    @classmethod
    def over(cls, shape: Triple, tiling: Tiling) -> Windows:
        """Return the windows of a model over a volume."""
        window = tiling.window or shape
        return cls(shape, window, tiling.overlap, tiling.blending, tiling.step, tiling.sigma, tiling.padding)

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
        found = self._evenly_spread(self.step) if self.step is not None else self._as_monai()
        return found[np.argsort(found[:, self.rolling_axis], kind="stable")]

    def _as_monai(self) -> np.ndarray:
        from monai.data.utils import dense_patch_slices

        steps = [
            side if size == side else max(int(side * (1.0 - self.overlap)), 1)
            for size, side in zip(self.padded_shape, self.window, strict=True)
        ]
        boxes = dense_patch_slices(self.padded_shape, self.window, steps)
        return np.array([[part.start for part in box] for box in boxes])

    def _evenly_spread(self, step: float) -> np.ndarray:
        """nnU-Net's layout (``compute_steps_for_sliding_window``): as few windows as the step allows, spread evenly."""
        axes = []
        for size, side in zip(self.padded_shape, self.window, strict=True):
            count = math.ceil((size - side) / (side * step)) + 1
            apart = (size - side) / (count - 1) if count > 1 else 0.0
            # numpy's rounding, half to even, as nnU-Net's.
            axes.append([int(np.round(apart * number)) for number in range(count)])
        i, j, k = np.meshgrid(*axes, indexing="ij")
        return np.stack([i.ravel(), j.ravel(), k.ravel()], axis=1)

    @property
    def rolling_axis(self) -> int:
        """Axis along which windows are ordered."""
        return int(np.argmax(self.padded_shape))

    def __len__(self) -> int:
        return len(self.starts)

    @cached_property
    def weight(self) -> torch.Tensor:
        """Blending weight within a window, float32."""
        if self.blending == "nnunet":
            return _nnunet_weight(self.window)
        from monai.data.utils import compute_importance_map

        weight: torch.Tensor = compute_importance_map(self.window, mode=self.blending, sigma_scale=self.sigma)
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

    def pad(self, volume: torch.Tensor, fill: torch.Tensor | float) -> torch.Tensor:
        """Pad a volume (..., i, j, k) to :attr:`padded_shape` with ``fill``, shape (...); or with its edge, where so tiled."""
        if self.padded_shape == self.volume_shape:
            return volume
        if self.padding == "edge":
            for axis, (before, size, padded) in enumerate(
                zip(self.pad_before, self.volume_shape, self.padded_shape, strict=True)
            ):
                index = torch.arange(padded, device=volume.device).sub_(before).clamp_(0, size - 1)
                volume = volume.index_select(volume.ndim - 3 + axis, index)
            return volume
        out = volume.new_empty((*volume.shape[:-3], *self.padded_shape))
        out[...] = torch.as_tensor(fill, dtype=out.dtype, device=out.device)[..., None, None, None]
        self.unpad(out).copy_(volume)
        return out

    def gather(self, index: int, gradient: torch.Tensor) -> torch.Tensor:
        """Return a window's gradient (..., window) in the voxels that are not padding: the transpose of :meth:`pad`."""
        _, window = self.inside(index)
        if self.padding == "edge" and self.padded_shape != self.volume_shape:
            for axis, part in enumerate(window):
                if part.start > 0 or part.stop < self.window[axis]:
                    gradient = _fold(gradient, gradient.ndim - 3 + axis, part)
            return gradient
        i, j, k = window
        return gradient[..., i, j, k]

    def unpad(self, padded: torch.Tensor) -> torch.Tensor:
        """Take the volume out of a padded tensor whose last three axes are i, j, k."""
        i, j, k = (slice(b, b + n) for b, n in zip(self.pad_before, self.volume_shape, strict=True))
        return padded[..., i, j, k]

    def touching(self, mask: np.ndarray) -> list[int]:
        """Return the windows that hold a true voxel of ``mask`` (i, j, k)."""
        return [index for index in range(len(self)) if mask[self.inside(index)[0]].any()]


def _fold(gradient: torch.Tensor, axis: int, part: slice) -> torch.Tensor:
    """Add what lies beyond an edge to the edge, whose copies it is the gradient of."""
    inside = gradient.narrow(axis, part.start, part.stop - part.start).clone()
    before = gradient.narrow(axis, 0, part.start).sum(dim=axis, keepdim=True)
    after = gradient.narrow(axis, part.stop, gradient.shape[axis] - part.stop).sum(dim=axis, keepdim=True)
    inside.narrow(axis, 0, 1).add_(before)
    inside.narrow(axis, inside.shape[axis] - 1, 1).add_(after)
    return inside


def _nnunet_weight(window: Triple) -> torch.Tensor:
    """nnU-Net's Gaussian (``compute_gaussian``): a filtered unit, its maximum 10, in half precision, nowhere 0."""
    from scipy.ndimage import gaussian_filter

    unit = np.zeros(window)
    unit[tuple(side // 2 for side in window)] = 1.0
    found = torch.from_numpy(gaussian_filter(unit, [side / 8 for side in window], 0, mode="constant", cval=0))
    found /= found.max() / 10
    half = found.to(torch.float16)
    half[half == 0] = half[half != 0].min()
    return half.float()
