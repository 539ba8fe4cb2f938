"""What methods have in common that divide the scan into supervoxels and remove some of them. No torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from Agg2ExpLib.case.attribution import Attribution, SupervoxelValues
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.methods.base import Context, Method, option
from Agg2ExpLib.methods.games.shapley import ShapleyValues
from Agg2ExpLib.methods.games.supervoxel_map import SupervoxelMap, count_supervoxels, read_map
from Agg2ExpLib.methods.games.supervoxels import (
    OWN_MAP,
    REGULAR,
    SUPERVOXELS,
    Supervoxels,
    make_supervoxels,
    supervoxel_kind,
)
from Agg2ExpLib.volume import Grid

if TYPE_CHECKING:
    from Agg2ExpLib.case.objective import Objective


@dataclass(frozen=True)
class RemovalMethod(Method):
    """A method that removes supervoxels: no gradient is needed, and every voxel has its supervoxel's value."""

    unit: ClassVar[str] = "logit per supervoxel"
    needs_gradient: ClassVar[bool] = False
    removes_supervoxels: ClassVar[bool] = True

    supervoxels: str = option(
        "semantic",
        "supervoxels",
        f"What is removed: {', '.join(SUPERVOXELS)} (those of --roi), or the file of a label volume on any grid, whose "
        "values from 1 on are supervoxels; 0 is never removed.",
    )
    supervoxel_count: int = option(512, "supervoxel count", "About how many regular supervoxels.", low=2, high=100_000)

    def __post_init__(self) -> None:
        super().__post_init__()
        supervoxel_kind(self.supervoxels)

    @property
    def kind(self) -> str:
        """The kind of supervoxels; ``"map"`` when they are the user's own."""
        return supervoxel_kind(self.supervoxels)

    def own_map(self, grid: Grid) -> SupervoxelMap | None:
        """Read the user's supervoxels, where that is what is asked for; before the long work, so that errors come early."""
        return read_map(self.supervoxels, grid) if self.kind == OWN_MAP else None

    def divide(self, context: Context) -> Supervoxels:
        """Return the supervoxels of a scan: the context's, else made anew.

        Raises
        ------
        InputError
            The user's own map was not read, or the scan cannot be divided so.
        """
        if context.supervoxels is not None:
            return context.supervoxels
        found = context.segmentation
        if self.kind == OWN_MAP or context.grey is None or found is None:
            raise InputError("supervoxels need the scan and its prediction, or a map that is read; explain a Case")
        return make_supervoxels(
            self.kind,
            context.grey,
            found.labels,
            context.names,
            regions=context.regions,
            count=self.supervoxel_count,
            spacing=context.spacing,
        )

    def players(self, labels: int) -> int:
        """Return how many supervoxels to expect in a scan, of a model with that many classes."""
        if self.kind == OWN_MAP:
            return count_supervoxels(self.supervoxels)
        return self.supervoxel_count if self.kind in REGULAR else labels


def game_identity(objectives: Sequence[Objective], labels: np.ndarray, value: str) -> str:
    """Return what stored values depend on, beside the scan and the network."""
    digest = hashlib.sha256(np.ascontiguousarray(labels).tobytes()).hexdigest()
    return json.dumps([value, [objective.class_index for objective in objectives], digest])


def spread(
    found: ShapleyValues, objectives: Sequence[Objective], supervoxels: Supervoxels, channels: int
) -> Iterator[Attribution]:
    """Give each voxel its supervoxel's value, the channels alike: they are removed together."""
    i, j, k = (slice(0, size) for size in supervoxels.labels.shape)
    for column, objective in enumerate(objectives):
        table = SupervoxelValues(
            supervoxels.names,
            supervoxels.sizes,
            found.values[:, column],
            found.errors[:, column],
            float(found.full[column]),
            float(found.empty[column]),
            found.coalitions,
        )
        lookup = np.concatenate([[0.0], table.values / channels]).astype(np.float32)
        yield Attribution(
            objective.class_index,
            (i, j, k),
            np.broadcast_to(lookup[supervoxels.labels], (channels, *supervoxels.labels.shape)),
            len(objective.windows),
            0,
            table.full,
            supervoxels=table,
        )
