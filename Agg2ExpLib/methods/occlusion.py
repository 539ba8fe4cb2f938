"""Occlusion: what F_c loses when one supervoxel is removed and all others stay (captum's FeatureAblation).

References
----------
Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, 2013, https://arxiv.org/abs/1311.2901.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from Agg2ExpLib.case.attribution import Attribution
from Agg2ExpLib.methods.base import Context, register
from Agg2ExpLib.methods.games.shapley import ShapleyValues
from Agg2ExpLib.methods.removal import RemovalMethod, game_identity, spread

if TYPE_CHECKING:
    from Agg2ExpLib.case.objective import Objective
    from Agg2ExpLib.case.stitched import StitchedNetwork


@register
@dataclass(frozen=True)
class Occlusion(RemovalMethod):
    """Occlusion: a window is run once as it is, and once for each supervoxel that it holds."""

    id: ClassVar[str] = "occlusion"
    name: ClassVar[str] = "occlusion"
    equation: ClassVar[str] = "F_c(x) - F_c(x without the supervoxel)"
    summary: ClassVar[str] = "What is lost when one supervoxel is removed and all others stay."

    def passes(self, players: int = 0) -> tuple[int, int]:
        """The scan, and the scan without each supervoxel."""
        return players + 1, 0

    def attribute(
        self, stitched: StitchedNetwork, objectives: Sequence[Objective], context: Context
    ) -> Iterator[Attribution]:
        """Yield the attribution of each class that is present: every voxel has what the loss of its supervoxel costs."""
        from Agg2ExpLib.methods.games.masking import MaskedValues
        from Agg2ExpLib.methods.games.value_store import ValueStore

        supervoxels = self.divide(context)
        supervoxels.check_grid(stitched.windows.volume_shape)
        present = [objective for objective in objectives if objective.voxels]
        if not present:
            return
        store = ValueStore(context.checkpoint, game_identity(present, supervoxels.labels, "occlusion"))
        lost = np.zeros((len(supervoxels.names), len(present)))
        full = np.zeros(len(present))
        try:
            values = MaskedValues(
                stitched, present, supervoxels, store=store, passes=context.passes, progress=context.progress
            )
            values.progress.stage("attributions", sum(len(players) + 1 for players in values.players.values()))
            for number, index in enumerate(values.relevant):
                players = values.players[index]
                kept = np.concatenate([np.ones((1, len(players)), dtype=bool), ~np.eye(len(players), dtype=bool)])
                answers = values.of_window(index, kept, f"window {number + 1} of {len(values.relevant)}")
                full += answers[0]
                lost[players - 1] += answers[0] - answers[1:]
        finally:
            store.close()
        nan = np.full(len(present), np.nan)
        found = ShapleyValues(lost, np.zeros_like(lost), full, nan, 0)
        yield from spread(found, present, supervoxels, stitched.channels)
