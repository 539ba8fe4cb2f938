"""nnU-Net's resampling: splines through half-pixel centres, clipped to the input's range; a coarse axis slice by slice.

nnU-Net calls scikit-image's ``resize`` (mode "edge", no anti-aliasing), which is SciPy's ``zoom`` in grid mode followed by a
clip; so SciPy alone gives its numbers. Axes are nnU-Net's (z, y, x of the file, then transposed).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from Agg2ExpLib.models.formats.nnunet_plans import Resampling


def new_shape(shape: Sequence[int], old: Sequence[float], new: Sequence[float]) -> tuple[int, int, int]:
    """Return the number of voxels along each axis at another spacing, rounded half to even as nnU-Net's.

    Examples
    --------
    >>> new_shape((75, 64, 85), (4.0, 4.0, 1.5), (5.0, 5.0, 3.0))
    (60, 51, 42)
    """
    i, j, k = (round(a / b * n) for a, b, n in zip(old, new, shape, strict=True))
    return i, j, k


def coarse_axis(method: Resampling, current: Sequence[float], wanted: Sequence[float]) -> int | None:
    """Return the axis that is resampled apart, slice by slice; ``None`` where all are resampled together."""
    if method.separate is False:
        return None
    if method.separate or max(current) / min(current) > method.threshold:
        spacing = current
    elif max(wanted) / min(wanted) > method.threshold:
        spacing = wanted
    else:
        return None
    coarsest = [axis for axis, step in enumerate(spacing) if max(spacing) / step == 1]
    return coarsest[0] if len(coarsest) == 1 else None


def resample(
    array: np.ndarray, shape: Sequence[int], method: Resampling, current: Sequence[float], wanted: Sequence[float]
) -> np.ndarray:
    """Resample one channel.

    Parameters
    ----------
    array : ndarray of float32, shape (i, j, k)
        One channel of the scan, or of the logits.
    shape : sequence of int
        Of the result.
    method : Resampling
        As the plans name it.
    current, wanted : sequence of float
        Spacing of ``array``, and that of the result, in mm: they decide whether an axis is resampled apart.

    Returns
    -------
    ndarray of float32
        ``array`` itself where the shape stays.
    """
    if tuple(shape) == array.shape:
        return array
    axis = coarse_axis(method, current, wanted)
    if method.function == "resample_torch_fornnunet":
        return _by_torch(array, shape, axis, method.apart_mode)
    if axis is None:
        return _spline(array.astype(np.float64), shape, method.order).astype(np.float32)
    slices = np.moveaxis(array, axis, 0).astype(np.float64)
    within = [side for place, side in enumerate(shape) if place != axis]
    resized = np.stack([_spline(one, within, method.order) for one in slices])
    return np.ascontiguousarray(np.moveaxis(_along(resized, shape[axis], method.order_z), 0, axis), dtype=np.float32)


def _spline(array: np.ndarray, shape: Sequence[int], order: int) -> np.ndarray:
    """scikit-image's ``resize`` of float64."""
    from scipy.ndimage import zoom

    # The detour by 1 / (old / new) is scikit-image's: its rounding reaches the coordinates.
    factors = [1 / (old / new) for old, new in zip(array.shape, shape, strict=True)]
    out = zoom(array, factors, order=order, mode="nearest", grid_mode=True)
    return np.clip(out, array.min(), array.max(), out=out)


def _along(slices: np.ndarray, count: int, order: int) -> np.ndarray:
    """Resample the first axis alone, at half-pixel centres."""
    from scipy.ndimage import map_coordinates

    if len(slices) == count:
        return slices
    where = float(len(slices)) / count * (np.arange(count) + 0.5) - 0.5
    if order == 0:
        # Interpolation of order 0 takes one whole slice; a probe tells which, ties and rounding included.
        taken = map_coordinates(np.arange(len(slices), dtype=np.float64), [where], order=0, mode="nearest")
        return slices[taken.astype(np.intp)]
    _, rows, columns = slices.shape
    grid = np.meshgrid(where, np.arange(rows), np.arange(columns), indexing="ij")
    return np.asarray(map_coordinates(slices, np.stack(grid), order=order, mode="nearest"))


def _by_torch(array: np.ndarray, shape: Sequence[int], axis: int | None, apart_mode: str) -> np.ndarray:
    """nnU-Net's ``resample_torch_fornnunet``: trilinear, or bilinear within slices and then along the coarse axis."""
    import torch
    from torch.nn.functional import interpolate

    tensor = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    with torch.no_grad():
        if axis is None:
            return interpolate(tensor[None, None], tuple(shape), mode="trilinear")[0, 0].numpy()
        within = [side for place, side in enumerate(shape) if place != axis]
        moved = tensor.movedim(axis, 0)
        if tuple(moved.shape[1:]) != tuple(within):
            moved = interpolate(moved[None], within, mode="bilinear")[0]
        back = moved.movedim(0, axis)
        mode = "trilinear" if apart_mode == "linear" else apart_mode
        if tuple(back.shape) != tuple(shape):
            back = interpolate(back[None, None], tuple(shape), mode=mode)[0, 0]
        return back.contiguous().numpy()
