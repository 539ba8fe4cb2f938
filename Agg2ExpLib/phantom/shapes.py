"""Signed distances and the canvas on which the thorax phantom is painted.

Shapes live in *patient* coordinates: millimetres, x to the right, y to the front, z to the head, origin in the middle
of the chest. The canvas knows how its voxels map there (size, tilt and a smooth warp differ between patients), so one
description of the anatomy serves any spacing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

Array = np.ndarray
Box = tuple[slice, slice, slice]
Numbers = Sequence[float] | Array


@dataclass(frozen=True)
class Placement:
    """How a patient lies in the scanner: size, tilt and a smooth warp.

    Attributes
    ----------
    scale : ndarray, shape (3,)
        Size relative to the standard patient along x, y, z.
    tilt : ndarray, shape (3, 3)
        Rotation matrix.
    shift : ndarray, shape (3,)
        Displacement in mm.
    waves : ndarray, shape (n, 3, 3)
        Per wave: wave vector (1/mm), phase (rad) per axis, amplitude (mm) per axis.
    """

    scale: Array
    tilt: Array
    shift: Array
    waves: Array

    @property
    def reach(self) -> float:
        """Largest displacement in mm that the warp can cause."""
        return float(np.abs(self.waves[:, 2]).sum(axis=0).max()) if len(self.waves) else 0.0

    def to_patient(self, world: Sequence[Array]) -> list[Array]:
        """Map world coordinates (three broadcastable arrays, mm) to patient coordinates (mm, float32)."""
        moved = [world[axis] - self.shift[axis] for axis in range(3)]
        inverse = self.tilt.T / self.scale[:, None]
        out = [sum(inverse[row, axis] * moved[axis] for axis in range(3)) for row in range(3)]
        for vector, phase, amplitude in self.waves:
            argument = sum(vector[axis] * moved[axis] for axis in range(3))
            for row in range(3):
                out[row] = out[row] + amplitude[row] * np.sin(argument + phase[row])
        return [np.ascontiguousarray(values, dtype=np.float32) for values in out]

    def to_world(self, points: Array) -> Array:
        """Map patient points (n, 3) to world points, the warp left out (it is at most :attr:`reach`)."""
        return (points * self.scale) @ self.tilt.T + self.shift


@dataclass
class Canvas:
    """Hounsfield units and labels under construction on one grid.

    Parameters
    ----------
    shape, spacing, origin
        Voxels along x, y, z; mm; world coordinates (mm) of voxel (0, 0, 0). Axes are RAS.
    placement
        Where the patient lies.
    """

    shape: tuple[int, int, int]
    spacing: Array
    origin: Array
    placement: Placement
    hu: Array = field(init=False)
    labels: Array = field(init=False)
    x: Array = field(init=False)
    y: Array = field(init=False)
    z: Array = field(init=False)

    def __post_init__(self) -> None:
        axes = [
            (self.origin[axis] + self.spacing[axis] * np.arange(self.shape[axis])).astype(np.float32)
            for axis in range(3)
        ]
        world = [axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None, :]]
        self.x, self.y, self.z = (np.broadcast_to(v, self.shape) for v in self.placement.to_patient(world))
        self.hu = np.full(self.shape, -1000.0, dtype=np.float32)
        self.labels = np.zeros(self.shape, dtype=np.uint8)
        # Over this width (mm) a border goes from outside to inside: a voxel's own size, as in a scanner.
        self._soft = float(np.mean(self.spacing))

    def box(self, low: Numbers, high: Numbers, margin: float = 3.0) -> Box:
        """Return the slices that surely hold the patient box from ``low`` to ``high`` (mm)."""
        corners = np.array(
            [[(low, high)[i][0], (low, high)[j][1], (low, high)[k][2]] for i, j, k in np.ndindex(2, 2, 2)]
        )
        world = self.placement.to_world(corners)
        pad = margin + 1.2 * self.placement.reach + self._soft
        first = np.floor((world.min(axis=0) - pad - self.origin) / self.spacing).astype(int)
        last = np.ceil((world.max(axis=0) + pad - self.origin) / self.spacing).astype(int) + 1
        first, last = np.clip(first, 0, self.shape), np.clip(last, 0, self.shape)
        return slice(first[0], last[0]), slice(first[1], last[1]), slice(first[2], last[2])

    @property
    def everywhere(self) -> Box:
        """The slices of the whole grid."""
        return slice(None), slice(None), slice(None)

    def at(self, box: Box) -> tuple[Array, Array, Array]:
        """Patient coordinates (mm) of the voxels of ``box``."""
        return self.x[box], self.y[box], self.z[box]

    def paint(self, box: Box, distance: Array, hu: float | Array, label: int | None = None) -> None:
        """Paint a shape: blend ``hu`` over its border, and set ``label`` where the distance (mm) is negative.

        ``label`` ``None`` leaves labels alone (vessels inside a lobe); 0 makes the place background again.
        """
        share = np.clip(0.5 - distance / self._soft, 0.0, 1.0)
        region = self.hu[box]
        region += share * (hu - region)
        if label is not None:
            self.labels[box][distance < 0] = label


def ellipsoid(at: tuple[Array, Array, Array], centre: Numbers, radii: Numbers) -> Array:
    """Distance (mm, exact on the axes, first order elsewhere) to an ellipsoid."""
    scaled = [(at[axis] - centre[axis]) / radii[axis] for axis in range(3)]
    length = np.sqrt(scaled[0] ** 2 + scaled[1] ** 2 + scaled[2] ** 2) + 1e-6
    gradient = np.sqrt(sum((scaled[axis] / radii[axis]) ** 2 for axis in range(3))) + 1e-6
    distance = length * (length - 1.0) / gradient
    # At the very centre the quotient is 0/0; every direction is as good as the shortest.
    return np.where(length < 1e-3, -np.min(radii), distance).astype(np.float32)


def rounded_section(x: Array, y: Array, half_x: Array, half_y: Array, power: float = 2.0) -> Array:
    """Distance (mm, along the radius) to a superellipse |x/a|^p + |y/b|^p = 1 in the plane."""
    level = (np.abs(x / half_x) ** power + np.abs(y / half_y) ** power) ** (1.0 / power) + 1e-4
    return (np.sqrt(x * x + y * y + 1e-6) * (1.0 - 1.0 / level)).astype(np.float32)


def rounded_box(
    at: tuple[Array, Array, Array], centre: Sequence[Array | float], half: Sequence[Array | float]
) -> Array:
    """Distance (mm) to a box whose centre and half sizes may vary from voxel to voxel."""
    gaps = [np.abs(at[axis] - centre[axis]) - half[axis] for axis in range(3)]
    outside = np.sqrt(sum(np.maximum(gap, 0.0) ** 2 for gap in gaps))
    inside = np.minimum(np.maximum(np.maximum(gaps[0], gaps[1]), gaps[2]), 0.0)
    return (outside + inside).astype(np.float32)


def smooth_curve(points: Sequence[Numbers] | Array, count: int = 24) -> Array:
    """Points (count, 3) on a smooth curve through the given ones."""
    from scipy.interpolate import PchipInterpolator

    knots = np.asarray(points, dtype=float)
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
    return PchipInterpolator(along, knots)(np.linspace(0.0, along[-1], count))


def tube(canvas: Canvas, curve: Array, radius: float | Array, flatten: float = 1.0) -> tuple[Box, Array]:
    """Return the box and the distance (mm) to a tube along ``curve`` (n, 3).

    ``radius`` may vary along the curve; ``flatten`` above 1 makes the section taller (z) than wide, as a rib is.
    """
    radii = np.broadcast_to(np.asarray(radius, dtype=float), (len(curve),))
    reach = float(radii.max()) * max(flatten, 1.0) + 3.0
    box = canvas.box(curve.min(axis=0) - reach, curve.max(axis=0) + reach)
    shape = canvas.x[box].shape
    distance = np.full(shape, 100.0, dtype=np.float32)
    stretch = np.array([1.0, 1.0, 1.0 / flatten])
    for start, end, r0, r1 in zip(curve[:-1], curve[1:], radii[:-1], radii[1:], strict=True):
        part = canvas.box(np.minimum(start, end) - reach, np.maximum(start, end) + reach, margin=0.0)
        local = tuple(slice(p.start - b.start, p.stop - b.start) for p, b in zip(part, box, strict=True))
        at = [(c - s) * f for c, s, f in zip(canvas.at(part), start, stretch, strict=True)]
        step = (end - start) * stretch
        along = np.clip((at[0] * step[0] + at[1] * step[1] + at[2] * step[2]) / max(float(step @ step), 1e-9), 0.0, 1.0)
        gap = np.sqrt(sum((at[axis] - along * step[axis]) ** 2 for axis in range(3))) - (r0 + along * (r1 - r0))
        distance[local] = np.minimum(distance[local], gap)
    return box, distance


def along_z(heights: Numbers, values: Numbers) -> Callable[[Array | np.floating], Array]:
    """Return a function of z (mm) that interpolates ``values`` given at rising ``heights``."""
    from scipy.interpolate import PchipInterpolator

    fine = np.linspace(heights[0], heights[-1], 200)
    table = PchipInterpolator(heights, values)(fine)
    return lambda z: np.asarray(np.interp(z, fine, table), dtype=np.float32)
