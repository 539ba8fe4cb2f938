"""Where voxels lie in the patient.

World coordinates are RAS millimetres (x to the right, y to the front, z to the head) and voxels are indexed ``[i, j, k]``.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from Agg2ExpLib.errors import InputError

#: Largest departure from perpendicular unit axes that a grid may have (cosine).
MAX_SHEAR = 1e-3
#: The two sides of each world axis; the second is the positive one.
SIDES = (("L", "R"), ("P", "A"), ("I", "S"))


@dataclass(frozen=True, eq=False)
class Grid:
    """Where voxels lie in the patient.

    Parameters
    ----------
    shape : tuple of int
        Voxels along i, j, k.
    affine : ndarray of shape (4, 4)
        Maps a voxel index (i, j, k, 1) to RAS millimetres; kept as a read-only float64 copy.

    Raises
    ------
    InputError
        When the affine is not finite, singular or sheared, or the shape has no voxels.

    Examples
    --------
    >>> grid = Grid((10, 20, 30), np.diag([-1.5, -1.5, 3.0, 1.0]))
    >>> grid.axcodes, grid.spacing
    ('LPS', (1.5, 1.5, 3.0))
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    def __post_init__(self) -> None:
        shape = tuple(int(count) for count in self.shape)
        affine = np.array(self.affine, dtype=np.float64)
        if len(shape) != 3 or min(shape) < 1:
            raise InputError(f"a grid needs three axes of at least one voxel, not the shape {shape}")
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise InputError("the affine of a grid must be a 4 x 4 matrix of finite numbers")
        if not np.allclose(affine[3], (0, 0, 0, 1), atol=1e-6):
            raise InputError("the last row of an affine must be 0 0 0 1")
        lengths = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
        if not (lengths > 0).all():
            raise InputError(f"the voxel spacing must be positive on every axis, not {spaced_numbers(lengths)} mm")
        shear = shear_of(affine)
        if shear > 1 - 1e-6:
            raise InputError("the direction matrix is singular: two of the voxel axes point the same way")
        if shear > MAX_SHEAR:
            raise InputError(
                f"the voxel axes are not perpendicular (sheared by {shear:.3g}); resample to a straight grid"
            )
        affine[3] = (0, 0, 0, 1)
        affine.flags.writeable = False
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Grid):
            return NotImplemented
        return self.shape == other.shape and bool(np.array_equal(self.affine, other.affine))

    def __hash__(self) -> int:
        return hash((self.shape, tuple((self.affine + 0.0).ravel())))

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres between voxels along i, j, k."""
        i, j, k = np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))
        return float(i), float(j), float(k)

    @property
    def direction(self) -> np.ndarray:
        """Unit vectors of the i, j, k axes, as the columns of a (3, 3) array."""
        return self.affine[:3, :3] / np.asarray(self.spacing)

    @property
    def axcodes(self) -> str:
        """Towards which side each axis runs, such as ``"RAS"``; the nearest side for an oblique grid."""
        direction = self.direction
        order = max(
            itertools.permutations(range(3)),
            key=lambda rows: sum(abs(direction[rows[axis], axis]) for axis in range(3)),
        )
        return "".join(SIDES[row][int(direction[row, axis] > 0)] for axis, row in enumerate(order))

    @property
    def voxel_volume(self) -> float:
        """Cubic millimetres of one voxel."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def centre(self) -> np.ndarray:
        """The middle of the field of view in RAS millimetres, shape (3,)."""
        return self.index_to_world((np.asarray(self.shape) - 1) / 2)

    def index_to_world(self, points: Any) -> np.ndarray:
        """Return the RAS millimetres, shape (..., 3), of voxel indices (fractions allowed) of shape (..., 3)."""
        return np.asarray(points, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def world_to_index(self, points: Any) -> np.ndarray:
        """Return the (fractional) voxel indices, shape (..., 3), of RAS millimetres of shape (..., 3)."""
        offset = np.asarray(points, dtype=np.float64) - self.affine[:3, 3]
        return np.linalg.solve(self.affine[:3, :3], offset[..., None])[..., 0]

    def same_as(self, other: Grid, tol: float = 1e-3) -> bool:
        """Tell whether both have the same shape and no corner lies further apart than ``tol`` voxel edges."""
        if self.shape != other.shape:
            return False
        corners = np.array(list(itertools.product(*((0, count - 1) for count in self.shape))))
        apart = np.linalg.norm(self.index_to_world(corners) - other.index_to_world(corners), axis=1).max()
        return bool(
            apart <= tol * min(self.spacing) and np.allclose(self.spacing, other.spacing, rtol=max(tol, 1e-9), atol=0)
        )


def shear_of(affine: np.ndarray) -> float:
    """Return how far the axes of an affine are from perpendicular: the largest cosine between two, 1 when singular."""
    lengths = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    if not (lengths > 0).all():
        return 1.0
    direction = affine[:3, :3] / lengths
    if abs(np.linalg.det(direction)) < 1e-3:
        return 1.0
    return float(abs(direction.T @ direction - np.eye(3)).max())


def straightened(affine: np.ndarray) -> np.ndarray:
    """Return the affine with the nearest perpendicular axes, the same spacing and the same first voxel."""
    lengths = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    left, _, right = np.linalg.svd(affine[:3, :3] / lengths)
    straight = np.array(affine, dtype=np.float64)
    straight[:3, :3] = (left @ right) * lengths
    return straight


def spaced_numbers(values: Any) -> str:
    """Return numbers as ``1 x 2 x 3``."""
    return " x ".join(f"{value:g}" for value in values)
