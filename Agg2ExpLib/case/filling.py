"""What takes a region's place when it is taken out of a scan."""

from __future__ import annotations

import math

import numpy as np

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.models import Prepared

#: Fill -> what takes the region's place.
FILLS: dict[str, str] = {
    "air": 'what stands for "nothing is there" in the model: air in CT (-1024 HU for most)',
    "shell": "the mean of a 10 mm shell around the region",
    "noise": "normal noise with the mean and spread of that shell",
}
SHELL_MM = 10.0


def check_fill(fill: str) -> None:
    """Raise :class:`InputError` for an unknown fill."""
    if fill not in FILLS:
        raise InputError(f"unknown fill {fill!r}: use {', '.join(FILLS)}")


def fill_region(prepared: Prepared, inside: np.ndarray, fill: str, seed: int = 0) -> np.ndarray:
    """Return a copy of a prepared scan in which a region is replaced, shape (C, i, j, k).

    Parameters
    ----------
    prepared : Prepared
        The scan.
    inside : ndarray of bool, shape (i, j, k)
        The region.
    fill : str
        One of :data:`FILLS`; each channel is filled by itself.
    seed : int
        Of the noise.

    Raises
    ------
    InputError
        An unknown fill, an empty region, or a region with no scan around it to take a mean of.
    """
    check_fill(fill)
    if not inside.any():
        raise InputError("the region has no voxel within the scan, so there is nothing to replace")
    out = prepared.x.copy()
    if fill == "air":
        out[:, inside] = prepared.removed[:, None]
        return out
    shell = _shell(inside, prepared.grid.spacing)
    if not shell.any():
        raise InputError("the region fills the whole scan, so nothing is around it; use --fill air")
    rng = np.random.default_rng(seed)
    for channel, scan in zip(out, prepared.x, strict=True):
        around = scan[shell]
        mean = float(around.mean(dtype=np.float64))
        if fill == "shell":
            channel[inside] = mean
        else:
            noise = rng.normal(mean, float(around.std(dtype=np.float64)), int(inside.sum()))
            low, high = prepared.bounds or (float(scan.min()), float(scan.max()))
            channel[inside] = np.clip(noise, low, high).astype(scan.dtype)
    return out


def _shell(inside: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    from scipy.ndimage import distance_transform_edt

    # Only the neighbourhood is measured: the distance over a whole scan takes long.
    margin = [math.ceil(SHELL_MM / step) + 1 for step in spacing]
    where = np.argwhere(inside)
    low, high = where.min(axis=0), where.max(axis=0) + 1
    box = tuple(
        slice(max(int(a) - m, 0), min(int(b) + m, n))
        for a, b, m, n in zip(low, high, margin, inside.shape, strict=True)
    )
    near = distance_transform_edt(~inside[box], sampling=spacing) <= SHELL_MM
    shell = np.zeros_like(inside)
    shell[box] = near & ~inside[box]
    return shell
