"""A loaded segmentation model: its card and its network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from Agg2ExpLib.models.architectures import first_output
from Agg2ExpLib.models.card import ModelCard

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True, eq=False)
class SegmentationModel:
    """What is explained: a network that answers one logit per class and voxel.

    Attributes
    ----------
    card : ModelCard
        What the network expects and answers.
    network : torch.nn.Module
        In evaluation mode, its parameters without gradients.
    sha256 : str
        Of the weights file, in hexadecimal.
    source : Path
        The weights file.
    """

    card: ModelCard
    network: nn.Module
    sha256: str
    source: Path

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits [B, K, D, H, W] of an input [B, 1, D, H, W] scaled to 0..1.

        Of a network with deep supervision this is the first output, the one at full resolution.
        """
        return first_output(self.network(x))

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> SegmentationModel:
        """Return the model on a device.

        The network is moved, not copied: this model and the returned one share it, so go on with the returned one.
        """
        return replace(self, network=self.network.to(device=device, dtype=dtype))
