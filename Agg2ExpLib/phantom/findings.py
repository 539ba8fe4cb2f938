"""Findings: what makes a phantom patient ill. Each is a region of interest, never one of the 17 classes.

Fluid and air in the pleural space push the lung away, so their voxels are background in the segmentation; a
consolidation or a nodule lies in a lobe and stays part of it, as in TotalSegmentator's masks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from Agg2ExpLib.anatomy import FINDINGS, THORAX_17, thorax_label
from Agg2ExpLib.errors import InputError, nearest_names
from Agg2ExpLib.phantom.shapes import Array, ellipsoid
from Agg2ExpLib.phantom.thorax import Thorax

# Points drawn for the place of a finding: the smallest lobe, deep inside, still catches dozens of them.
_TRIES = 20000


@dataclass(frozen=True)
class Finding:
    """A finding to put into a patient.

    Attributes
    ----------
    kind : str
        One of ``pleural_effusion``, ``consolidation``, ``nodule``, ``pneumothorax``.
    severity : float
        Above 0 (just visible) to 1 (filling most of its space).
    side : str
        ``"left"`` or ``"right"``.
    lobe : str
        Lobe of a consolidation or nodule; empty draws one.

    Raises
    ------
    InputError
        A kind, side, lobe or severity that does not exist.
    """

    kind: str
    severity: float = 0.5
    side: str = "right"
    lobe: str = ""

    def __post_init__(self) -> None:
        if self.kind not in FINDINGS:
            raise InputError(f"unknown finding {self.kind!r}: {nearest_names(self.kind, FINDINGS)}")
        if not 0.0 < self.severity <= 1.0:
            raise InputError(f"severity of {self.kind} is {self.severity:g}: it must be above 0 and at most 1")
        if self.side not in ("left", "right"):
            raise InputError(f"side of {self.kind} is {self.side!r}: use left or right")
        lobes = lobes_of(self.side)
        if self.lobe and self.lobe not in lobes:
            raise InputError(f"lobe of {self.kind} is {self.lobe!r}: on the {self.side} there are {', '.join(lobes)}")

    @staticmethod
    def parse(text: str) -> Finding:
        """Read ``kind[:severity[:side[:lobe]]]``, as on the command line.

        Examples
        --------
        >>> Finding.parse("nodule:0.4:left")
        Finding(kind='nodule', severity=0.4, side='left', lobe='')
        """
        parts = text.split(":")
        if len(parts) > 4:
            raise InputError(
                f"finding {text!r} has too many parts: write KIND:SEVERITY:SIDE:LOBE, all but KIND optional"
            )
        try:
            severity = float(parts[1]) if len(parts) > 1 and parts[1] else 0.5
        except ValueError as error:
            raise InputError(f"severity {parts[1]!r} of finding {text!r} is not a number") from error
        side, lobe = (*parts[2:], "", "")[:2]
        return Finding(parts[0], severity, side or "right", lobe)


def lobes_of(side: str) -> tuple[str, ...]:
    """Names of the lobes of one lung."""
    return tuple(name for name in THORAX_17 if name.startswith("lung_") and name.endswith(side))


def add_finding(thorax: Thorax, finding: Finding, rng: np.random.Generator) -> Array:
    """Paint a finding into a finished thorax and return its mask (bool, the canvas's shape)."""
    painters: dict[str, Callable[[Thorax, Finding, np.random.Generator], Array]] = {
        "pleural_effusion": _effusion,
        "pneumothorax": _pneumothorax,
        "consolidation": _consolidation,
        "nodule": _nodule,
    }
    return painters[finding.kind](thorax, finding, rng)


def _lung_only(thorax: Thorax, side: str) -> Array:
    return np.isin(thorax.canvas.labels, [thorax_label(name) for name in lobes_of(side)])


def _effusion(thorax: Thorax, finding: Finding, rng: np.random.Generator) -> Array:
    """Fluid gathers where it falls in a lying patient: at the back, with a meniscus along the chest wall."""
    canvas, lung = thorax.canvas, thorax.pleura[finding.side]
    _, y, z = canvas.at(canvas.everywhere)
    level = np.interp(finding.severity, [0.0, 1.0], [-72.0, 10.0]) + rng.normal(0.0, 2.0)
    meniscus = 26.0 * np.exp(lung / 9.0)
    fluid = np.maximum(lung, y - level - meniscus + 0.12 * (z + 40.0))
    mask = (fluid < 0) & _lung_only(thorax, finding.side)
    canvas.paint(canvas.everywhere, np.where(mask, fluid, 5.0), rng.uniform(4.0, 22.0))
    canvas.labels[mask] = 0
    return mask


def _pneumothorax(thorax: Thorax, finding: Finding, rng: np.random.Generator) -> Array:
    """Air rises to the front and the top, and the lung shrinks towards its root."""
    canvas, lung = thorax.canvas, thorax.pleura[finding.side]
    x, y, z = canvas.at(canvas.everywhere)
    sign = -1.0 if finding.side == "left" else 1.0
    gap = np.interp(finding.severity, [0.0, 1.0], [3.0, 34.0]) + rng.normal(0.0, 0.7)
    lean = np.interp(y, [-70.0, 0.0, 80.0], [0.15, 0.6, 1.5]) + np.interp(z, [-80.0, 60.0, 120.0], [0.0, 0.2, 0.6])
    root = np.exp(-((np.abs(x - sign * 40.0) / 25.0) ** 2))
    air = np.maximum(lung, -(lung + gap * lean.astype(np.float32) * (1.0 - 0.8 * root)))
    mask = (air < 0) & _lung_only(thorax, finding.side)
    canvas.paint(canvas.everywhere, np.where(mask, air, 5.0), -998.0)
    rim = np.maximum(np.abs(lung + gap * lean * (1.0 - 0.8 * root)) - 0.8, lung)
    canvas.paint(canvas.everywhere, np.where(_lung_only(thorax, finding.side), rim, 5.0), -420.0)
    canvas.labels[mask] = 0
    return mask


def _consolidation(thorax: Thorax, finding: Finding, rng: np.random.Generator) -> Array:
    """Part of a lobe filled with fluid density; air bronchograms stay open."""
    canvas = thorax.canvas
    lobe, centre, core = _place(thorax, finding, rng, depth=8.0)
    radius = np.interp(finding.severity, [0.0, 1.0], [10.0, 62.0])
    blob = ellipsoid(canvas.at(canvas.everywhere), centre, radius * rng.uniform(0.85, 1.2, 3)) + 5.0 * thorax._texture(
        14.0
    )
    mask = ((blob < 0) | core) & lobe
    canvas.paint(canvas.everywhere, np.where(lobe, blob, 5.0), rng.uniform(15.0, 45.0) + 12.0 * thorax._texture(5.0))
    open_airways = mask & (np.abs(thorax._texture(9.0)) < 0.06)
    canvas.hu[open_airways] = -600.0
    return mask


def _nodule(thorax: Thorax, finding: Finding, rng: np.random.Generator) -> Array:
    canvas = thorax.canvas
    lobe, centre, core = _place(thorax, finding, rng, depth=14.0)
    radius = np.interp(finding.severity, [0.0, 1.0], [4.0, 17.0])
    ball = ellipsoid(canvas.at(canvas.everywhere), centre, radius * rng.uniform(0.9, 1.12, 3)) + 0.8 * thorax._texture(
        6.0
    )
    canvas.paint(canvas.everywhere, np.where(lobe, ball, 5.0), rng.uniform(20.0, 70.0))
    return ((ball < 0) | core) & lobe


def _place(thorax: Thorax, finding: Finding, rng: np.random.Generator, depth: float) -> tuple[Array, Array, Array]:
    """Draw a lobe and a point in it, ``depth`` mm away from the pleura where the lobe is that thick.

    Returns the lobe (bool), the point (patient mm) and the one voxel that holds it (bool): the least a finding covers.
    """
    from scipy.ndimage import map_coordinates

    canvas = thorax.canvas
    name = finding.lobe or str(rng.choice(lobes_of(finding.side)))
    lobe = canvas.labels == thorax_label(name)
    if not lobe.any():
        raise InputError(f"no room for {finding.kind} in {name}: the scan does not show that lobe")
    # Points all over the scan, the same ones at every spacing, of which the first that fits is taken: a voxel drawn by
    # its number would lie elsewhere on another grid. Interpolated, so that the grid hardly decides what fits.
    last = np.array(canvas.shape) - 1
    middle, extent = canvas.origin + 0.5 * last * canvas.spacing, np.array(canvas.shape) * canvas.spacing
    points = middle + rng.uniform(-0.5, 0.5, (_TRIES, 3)) * np.round(extent / 10.0) * 10.0
    places = (points - canvas.origin) / canvas.spacing
    voxels = np.rint(places).astype(int).clip(0, last)
    share = map_coordinates(lobe.astype(np.float32), places.T, order=1)
    deep = map_coordinates(thorax.pleura[finding.side], places.T, order=1) < -depth
    inside = (share > 0.5) & lobe[tuple(voxels.T)]
    fitting = np.flatnonzero(inside & deep if np.any(inside & deep) else inside)
    if len(fitting):
        chosen, voxel = points[fitting[0]], tuple(voxels[fitting[0]])
    else:
        voxel = tuple(np.argwhere(lobe)[0])
        chosen = canvas.origin + np.array(voxel) * canvas.spacing
    core = np.zeros(canvas.shape, dtype=bool)
    core[voxel] = True
    x, y, z = canvas.placement.to_patient(list(chosen))
    return lobe, np.array([x, y, z], dtype=float).ravel(), core
