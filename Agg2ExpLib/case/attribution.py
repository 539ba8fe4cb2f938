"""What a method answers: E_c of one class, and what it cost. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Slices = tuple[slice, slice, slice]


@dataclass
class PassCount:
    """Network passes, in windows: one window forward, or one window backward for one class."""

    forward: int = 0
    backward: int = 0


@dataclass(frozen=True, eq=False)
class SupervoxelValues:
    """What each supervoxel is worth to one class.

    Attributes
    ----------
    names : tuple of str
        Supervoxels 1 to p.
    voxels : ndarray of int, shape (p,)
        Their sizes.
    values, errors : ndarray, shape (p,)
        The value of each, and its standard error (0 where nothing was sampled).
    full, empty : float
        Value of the scan, and of the scan with every supervoxel removed.
    coalitions : int
        Coalitions played: of the scan, or the most in one window.
    """

    names: tuple[str, ...]
    voxels: np.ndarray
    values: np.ndarray
    errors: np.ndarray
    full: float
    empty: float
    coalitions: int


@dataclass(frozen=True, eq=False)
class Attribution:
    """E_c of one class.

    Attributes
    ----------
    class_index : int
        c.
    box : tuple of slice
        Where the values lie in the volume; E_c is 0 elsewhere.
    channels : ndarray of float32 (float64 when computed so), shape (C, ...)
        E_c of each channel of the scan, within the box.
    windows_run : int
        Windows that the class needed.
    backward_passes : int
        Backward passes made for it.
    value, baseline_value : float
        F_c at the scan, and (integrated gradients; else NaN) where nothing is there.
    supervoxels : SupervoxelValues, optional
        Of methods that remove supervoxels.
    """

    class_index: int
    box: Slices
    channels: np.ndarray
    windows_run: int
    backward_passes: int
    value: float
    baseline_value: float = math.nan
    supervoxels: SupervoxelValues | None = None

    @property
    def values(self) -> np.ndarray:
        """E_c within the box, summed over channels."""
        return self.channels[0] if len(self.channels) == 1 else self.channels.sum(axis=0)

    def full(self, shape: Sequence[int]) -> np.ndarray:
        """Return E_c on the whole volume, summed over channels."""
        out = np.zeros(tuple(shape), dtype=self.channels.dtype)
        out[self.box] = self.values
        return out

    @property
    def completeness_gap(self) -> float:
        """Relative difference of sum(E_c) from F_c(x) - F_c(x0); NaN for methods that promise no such sum."""
        change = self.value - self.baseline_value
        return abs(float(self.channels.sum(dtype=np.float64)) - change) / max(abs(change), 1e-12)
