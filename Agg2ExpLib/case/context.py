"""What attribution methods and a case know of each other. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from Agg2ExpLib.case.attribution import Attribution, PassCount
from Agg2ExpLib.progress import Progress

if TYPE_CHECKING:
    from Agg2ExpLib.case.objective import Objective
    from Agg2ExpLib.case.segmentation import Segmentation
    from Agg2ExpLib.case.stitched import StitchedNetwork


class Explains(Protocol):
    """What a case asks of a method; see :class:`Agg2ExpLib.methods.Method`."""

    @property
    def name(self) -> str:
        """For people."""

    @property
    def needs_gradient(self) -> bool:
        """Whether the network must be differentiable."""

    @property
    def removes_supervoxels(self) -> bool:
        """Whether it divides the scan and removes parts of it."""

    def passes(self, players: int = 0) -> tuple[int, int]:
        """Return the passes forward and backward over one window for one class."""

    def players(self, labels: int) -> int:
        """Return how many supervoxels to expect, of a model with that many classes; 0 where none are removed."""

    def attribute(
        self, stitched: StitchedNetwork, objectives: Sequence[Objective], context: Context
    ) -> Iterator[Attribution]:
        """Yield the attribution of each class that is present."""


@dataclass(frozen=True, eq=False)
class Context:
    """What a method may look at beside the network and the scan; a :class:`~Agg2ExpLib.case.Case` makes it.

    Attributes
    ----------
    segmentation : Segmentation, optional
        The first prediction.
    truth : ndarray of int, shape (i, j, k), optional
        True class at each voxel.
    grey : ndarray of float32, shape (i, j, k), optional
        The scan as it is displayed, 0 to 1.
    regions : mapping of str to bool ndarray
        The user's regions.
    names : sequence of str
        Class names.
    spacing : tuple of float
        mm.
    supervoxels : Agg2ExpLib.methods.games.supervoxels.Supervoxels, optional
        The division to use, when it is made already.
    checkpoint : Path, optional
        File that finished values are kept in, so that a stopped run goes on from them.
    progress, passes
        Where progress goes, and what counts the passes.
    """

    segmentation: Segmentation | None = None
    truth: np.ndarray | None = None
    grey: np.ndarray | None = None
    regions: Mapping[str, np.ndarray] = field(default_factory=dict)
    names: Sequence[str] = ()
    spacing: Sequence[float] = (1.0, 1.0, 1.0)
    supervoxels: Any = None
    checkpoint: Path | None = None
    progress: Progress = field(default_factory=Progress)
    passes: PassCount = field(default_factory=PassCount)
