"""Occlusion: what F_c loses when one supervoxel is set to air and all others stay (captum's FeatureAblation)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from Agg2ExpLib.case.objective import Objective
from Agg2ExpLib.case.segmentation import Network
from Agg2ExpLib.case.windows import Windows
from Agg2ExpLib.methods.games.masking import MaskedValues
from Agg2ExpLib.methods.games.shapley import ShapleyValues
from Agg2ExpLib.methods.games.supervoxels import Supervoxels
from Agg2ExpLib.methods.games.value_store import ValueStore
from Agg2ExpLib.methods.gradients import Attribution, PassCount
from Agg2ExpLib.methods.kernelshap import identity_of, spread
from Agg2ExpLib.progress import Progress


def attribute(
    network: Network,
    x: torch.Tensor,
    windows: Windows,
    objectives: Sequence[Objective],
    *,
    supervoxels: Supervoxels,
    batch_size: int = 1,
    device: torch.device | str = "cpu",
    precision: str = "float32",
    names: Sequence[str] = (),
    progress: Progress | None = None,
    passes: PassCount | None = None,
    checkpoint: Path | None = None,
) -> Iterator[Attribution]:
    """Yield the attribution of each class that is present: every voxel has what the loss of its supervoxel costs.

    A window is run once as it is, and once for each supervoxel that it holds.

    Parameters
    ----------
    **options
        As :func:`Agg2ExpLib.methods.kernelshap.attribute`.

    Raises
    ------
    InputError
        Supervoxels of another grid.
    """
    supervoxels.check_grid(windows.volume_shape)
    present = [objective for objective in objectives if objective.voxels]
    if not present:
        return
    store = ValueStore(checkpoint, identity_of(present, supervoxels.labels, "occlusion"))
    values = MaskedValues(
        network,
        windows,
        present,
        x,
        supervoxels.labels,
        len(supervoxels.names),
        store=store,
        device=device,
        precision=precision,
        batch_size=batch_size,
        passes=passes,
        progress=progress,
    )
    values.progress.stage("attributions", sum(len(players) + 1 for players in values.players.values()))
    lost = np.zeros((len(supervoxels.names), len(present)))
    full = np.zeros(len(present))
    try:
        for number, index in enumerate(values.relevant):
            players = values.players[index]
            kept = np.concatenate([np.ones((1, len(players)), dtype=bool), ~np.eye(len(players), dtype=bool)])
            answers = values.of_window(index, kept, f"window {number + 1} of {len(values.relevant)}")
            full += answers[0]
            lost[players - 1] += answers[0] - answers[1:]
    finally:
        store.close()
    nan = np.full(len(present), np.nan)
    yield from spread(ShapleyValues(lost, np.zeros_like(lost), full, nan, 0), present, supervoxels)
