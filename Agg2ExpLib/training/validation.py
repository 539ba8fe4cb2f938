"""Dice of a network on whole cases, by the same stitched prediction that explanations use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from Agg2ExpLib.agreement import dice_of_labels
from Agg2ExpLib.case.case import Case as ScanCase
from Agg2ExpLib.device import Compute
from Agg2ExpLib.models import SegmentationModel
from Agg2ExpLib.models.card import ModelCard
from Agg2ExpLib.models.model import prepare_by_card
from Agg2ExpLib.progress import Progress
from Agg2ExpLib.training.cases import Case
from Agg2ExpLib.volume import reorient, to_grid


def validate(
    network: torch.nn.Module,
    weights: Mapping[str, torch.Tensor],
    cases: Sequence[Case],
    card: ModelCard,
    device: torch.device,
    progress: Progress,
) -> dict[str, float]:
    """Return the mean Dice per class (background left out) of ``network`` with ``weights`` over ``cases``.

    Prediction and truth are compared on the model's grid. The network's own weights are put back afterwards.
    """
    kept = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    network.load_state_dict(weights)
    network.eval()
    rows = []
    progress.stage("validation", len(cases))
    try:
        for case in cases:
            rows.append(_score(network, case, card, device))
            progress.advance(detail=case.name)
    finally:
        network.load_state_dict(kept)
    with np.errstate(all="ignore"):
        means = [
            float(np.nanmean(column)) if np.isfinite(column).any() else float("nan") for column in np.array(rows).T
        ]
    return dict(zip(card.labels[1:], means, strict=True))


def _score(network: torch.nn.Module, case: Case, card: ModelCard, device: torch.device) -> list[float]:
    image, labels = case.read(card.labels)
    prepared = prepare_by_card([image], card)
    truth = to_grid(reorient(labels, card.orientation), prepared.grid, "nearest").voxels
    model = SegmentationModel(card, network, "")
    found = ScanCase(model, prepared, Compute(device=str(device))).segmentation
    return dice_of_labels(np.asarray(found.labels), truth, len(card.labels))[1:].tolist()
