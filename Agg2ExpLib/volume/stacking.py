"""Slices that lie parallel but not straight above each other, moved within their planes to a straight grid."""

from __future__ import annotations

import numpy as np

from Agg2ExpLib.volume.grid import shear_of


def straight_stack(
    voxels: np.ndarray, shifts: np.ndarray, fill: float, nearest: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Move every slice within its plane; the planes stay, so nothing is interpolated between slices.

    Parameters
    ----------
    voxels : ndarray of shape (i, j, k)
        Slices along the last axis.
    shifts : ndarray of shape (k, 2)
        How far slice k lies from its place in a straight stack, in voxels along i and j.
    fill : float
        Value where no slice reaches.
    nearest : bool
        Take the nearest voxel (labels) instead of linear interpolation.

    Returns
    -------
    ndarray of shape (i', j', k)
        Large enough for all slices; float32, or the same dtype for ``nearest``.
    ndarray of shape (2,)
        Index, along i and j of the straight stack, of the first voxel.

    Examples
    --------
    >>> voxels = np.arange(8.0).reshape(4, 1, 2)
    >>> moved, first = straight_stack(voxels, np.array([[0, 0], [1, 0]]), -1)
    >>> moved[:, 0, 1].tolist(), first.tolist()
    ([-1.0, 1.0, 3.0, 5.0, 7.0], [0, 0])
    """
    first = np.floor(shifts.min(axis=0) + 1e-6).astype(int)
    last = np.ceil(shifts.max(axis=0) - 1e-6).astype(int) + voxels.shape[:2] - 1
    shape = (*(last - first + 1), voxels.shape[2])
    moved = np.full(shape, fill, dtype=voxels.dtype if nearest else np.float32)
    for k in range(voxels.shape[2]):
        part = voxels[:, :, k]
        inside = []
        for axis in (0, 1):
            places = np.arange(shape[axis]) + first[axis] - shifts[k, axis]
            count = part.shape[axis]
            # Half a voxel beyond the outermost centres is still field of view.
            within = (places > -0.5 - 1e-6) & (places < count - 0.5 + 1e-6)
            part = _moved(part, places[within].clip(0, count - 1), axis, nearest)
            inside.append(within)
        moved[np.ix_(*inside, [k])] = part[:, :, None]
    return moved, first


def _moved(part: np.ndarray, places: np.ndarray, axis: int, nearest: bool) -> np.ndarray:
    if nearest:
        return part.take(np.rint(places).astype(int), axis=axis)
    lower = np.floor(places + 1e-6).astype(int)
    share = (places - lower).clip(0, 1)
    if not (share > 1e-6).any():
        return part.take(lower, axis=axis)
    share = share[:, None] if axis == 0 else share[None, :]
    upper = (lower + 1).clip(max=part.shape[axis] - 1)
    return part.take(lower, axis=axis) * (1 - share) + part.take(upper, axis=axis) * share


def unsheared(
    voxels: np.ndarray, affine: np.ndarray, fill: float, nearest: bool
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return voxels and affine of a straight grid for a stack whose slices are straight but lie askew on each other.

    None when the slices themselves are sheared: their i and j axes are not perpendicular.
    """
    i, j, k = affine[:3, :3].T
    plane = affine.copy()
    normal = np.cross(i, j)
    plane[:3, 2] = normal / np.linalg.norm(normal)
    if shear_of(plane) > 1e-3:
        return None
    height = float(k @ plane[:3, 2])
    aside = k - height * plane[:3, 2]
    steps = np.array([aside @ i / (i @ i), aside @ j / (j @ j)])
    moved, first = straight_stack(voxels, np.arange(voxels.shape[2])[:, None] * steps, fill, nearest)
    straight = affine.copy()
    straight[:3, 2] = height * plane[:3, 2]
    straight[:3, 3] += first[0] * i + first[1] * j
    return moved, straight
