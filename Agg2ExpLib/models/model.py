"""A loaded segmentation model of one network on CT in a fixed range of HU: what the project's own folders hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.models.architectures import first_output
from Agg2ExpLib.models.card import ModelCard
from Agg2ExpLib.models.interface import Part, Prepared, check_channels
from Agg2ExpLib.volume import MIN_AXIS, Grid, Volume, model_grid, preprocess

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
    source : Path or str
        The weights file; empty for a network made in memory.
    preparation : callable, optional
        Volumes, one a channel, to :class:`Prepared`; by default what the card says: orientation, spacing, range of HU.
    no_gradient : str
        Why no gradient passes through the network; empty when one does.
    """

    card: ModelCard
    network: nn.Module
    sha256: str
    source: Path | str = ""
    preparation: Callable[[Sequence[Volume]], Prepared] | None = None
    no_gradient: str = ""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits [B, K, D, H, W] of windows [B, C, D, H, W] in network units.

        Of a network with deep supervision this is the first output, the one at full resolution.
        """
        return first_output(self.network(x))

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> SegmentationModel:
        """Return the model on a device.

        The network is moved, not copied: this model and the returned one share it, so go on with the returned one.
        """
        return replace(self, network=self.network.to(device=device, dtype=dtype))

    @property
    def parts(self) -> tuple[Part, ...]:
        """The one network."""
        first = 0 if self.card.decision.explains_background else 1
        classes = tuple(range(first, len(self.card.labels)))
        return (Part(classes, self.to, self.card.decision, name=self.card.name, no_gradient=self.no_gradient),)

    def grid_of(self, images: Sequence[Volume]) -> Grid:
        """Return the grid that a scan will have, where it can be told without preparing it."""
        if self.preparation is not None:
            return self.prepare(images).grid
        return model_grid(images[0].grid, self.card.spacing, self.card.orientation)

    def prepare(self, images: Sequence[Volume]) -> Prepared:
        """Turn a scan into what the network sees: reoriented, resampled, HU of the card's range mapped to 0..1.

        Raises
        ------
        InputError
            Another number of volumes, a card without a range, or a scan of too few voxels.
        """
        check_channels(images, self.card)
        if self.preparation is not None:
            return self.preparation(images)
        return prepare_by_card(images, self.card)


def prepare_by_card(images: Sequence[Volume], card: ModelCard) -> Prepared:
    """Turn a scan into what a network sees: reoriented, resampled, HU of the card's range mapped to 0..1.

    Raises
    ------
    InputError
        Another number of volumes, a card without a range, or a scan of too few voxels.
    """
    check_channels(images, card)
    if card.intensity_range is None:
        raise InputError(f"{card.name}: its card states no intensity_range, so no scan can be prepared for it")
    low, high = card.intensity_range
    scaled = [
        preprocess(one, spacing=card.spacing, orientation=card.orientation, intensity_range=(low, high))
        for one in images
    ]
    first = scaled[0]
    if min(first.shape) < MIN_AXIS:
        size = " x ".join(map(str, first.shape))
        raise InputError(
            f"{images[0].source or 'the volume'}: at the model's spacing the scan has only {size} voxels; "
            f"give one with {MIN_AXIS} at least along each axis"
        )
    # What is clipped away is not seen by the network, and so not shown as seen.
    display = Volume(first.voxels * (high - low) + low, first.grid)
    return Prepared(
        np.stack([one.voxels for one in scaled]),
        first.grid,
        np.zeros(len(scaled), np.float32),
        display,
        images[0].grid,
        (low, high),
        tuple(note for image in images for note in image.notes),
        bounds=(0.0, 1.0),
    )
