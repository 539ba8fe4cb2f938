"""What a model is to everything else: a card, its networks, and how scans become what the networks see. No torch.

A third party writes a :class:`Model` in about fifty lines and offers it by the entry point ``agg2exp.models``; a notebook
makes one of any torch module with :func:`Agg2ExpLib.models.from_module`. What a model means by "nothing is there", by its
windows and by its decision is said here once; no other room assumes one channel, a range of 0 to 1, or that 0 is air.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.volume import Grid, Volume, labels_to_input_grid

if TYPE_CHECKING:
    import torch

    from Agg2ExpLib.models.card import ModelCard

Triple = tuple[int, int, int]

#: Blending weights of a window: all alike, MONAI's Gaussian, nnU-Net's Gaussian.
BLENDINGS = ("constant", "gaussian", "nnunet")
_MAX_OVERLAP = 0.9


@dataclass(frozen=True)
class Softmax:
    """One label a voxel: the class of the highest logit wins. Channel c of the network is class c."""

    def channel_of(self, class_index: int) -> int:
        """Return the network's channel of a class."""
        return class_index

    @property
    def explains_background(self) -> bool:
        """Whether class 0 has a logit of its own."""
        return True


@dataclass(frozen=True)
class SigmoidRegions:
    """Regions that may overlap, each there where its own logit is above 0 (its sigmoid above a half).

    Channel n of the network is class n + 1; background, class 0, has no logit.

    Attributes
    ----------
    order : tuple of int
        Channels in the order in which they are painted into one label map; a later one wins.
    """

    order: tuple[int, ...]

    def channel_of(self, class_index: int) -> int:
        """Return the network's channel of a class.

        Raises
        ------
        InputError
            Background, which has none.
        """
        if class_index == 0:
            raise InputError("background has no logit of its own in a model of overlapping regions; choose a region")
        return class_index - 1

    @property
    def explains_background(self) -> bool:
        """Whether class 0 has a logit of its own."""
        return False


Decision = Softmax | SigmoidRegions


@dataclass(frozen=True)
class Tiling:
    """How a network goes over a volume that is larger than its window.

    Attributes
    ----------
    window : tuple of int, optional
        Voxels of one window; ``None`` is the whole volume at once.
    overlap : float
        Share of a window that the next one sees again, 0 to 0.9: MONAI's way. Ignored when ``step`` is given.
    step : float, optional
        nnU-Net's way: windows spread evenly, at most this share of a window apart.
    blending : str
        One of :data:`BLENDINGS`.
    sigma : float
        Spread of MONAI's Gaussian, as a share of the window.
    padding : float, "edge" or None
        What surrounds a volume that is smaller than a window, in network units; ``None`` is what stands for "nothing is
        there" in each channel, ``"edge"`` repeats the outermost voxel.
    mirror_axes : tuple of int
        Axes along which the networks of this model average over mirrored copies; told, and done inside the network.

    Raises
    ------
    InputError
        A value out of its range.
    """

    window: Triple | None
    overlap: float = 0.25
    step: float | None = None
    blending: str = "gaussian"
    sigma: float = 0.125
    padding: float | Literal["edge"] | None = None
    mirror_axes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.window is not None and (len(self.window) != 3 or min(self.window) < 1):
            raise InputError(f"window {self.window} must have three sides of at least 1 voxel")
        if not 0.0 <= self.overlap <= _MAX_OVERLAP:
            raise InputError(f"overlap {self.overlap:g} of windows must be 0 to {_MAX_OVERLAP:g}")
        if self.step is not None and not 0.0 < self.step <= 1.0:
            raise InputError(f"step {self.step:g} of windows must be above 0 and at most 1")
        if self.blending not in BLENDINGS:
            raise InputError(f"unknown blending {self.blending!r}: use {', '.join(BLENDINGS)}")
        if not 0.0 < self.sigma < math.inf:
            raise InputError(f"sigma {self.sigma:g} of the blending must be positive")
        if isinstance(self.padding, str) and self.padding != "edge":
            raise InputError(f"unknown padding {self.padding!r}: give a number or 'edge'")
        if any(axis not in (0, 1, 2) for axis in self.mirror_axes):
            raise InputError(f"mirror axes {self.mirror_axes} must be among 0, 1 and 2")


@dataclass(frozen=True, eq=False)
class Part:
    """One network of a model. Most models have one; TotalSegmentator's ``total`` has five.

    Attributes
    ----------
    classes : tuple of int
        Class of the model that each channel of the network answers; 0 where it is background.
    build : callable
        (device, dtype) -> torch.nn.Module: logits [B, K, ...] of windows [B, C, ...], in evaluation mode, its parameters
        without gradients. Folds, mirroring and deep supervision live inside it.
    decision : Softmax or SigmoidRegions
        From this network's logits to labels.
    tiling : Tiling, optional
        When it differs from the card's.
    name : str
        For messages.
    no_gradient : str
        Why no gradient passes through the network; empty when one does.
    """

    classes: tuple[int, ...]
    build: Callable[[Any, Any], Callable[[torch.Tensor], torch.Tensor]]
    decision: Decision = field(default_factory=Softmax)
    tiling: Tiling | None = None
    name: str = ""
    no_gradient: str = ""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A scan as the networks see it. Arrays are read-only.

    Attributes
    ----------
    x : ndarray of float32, shape (C, i, j, k)
        Network units.
    grid : Grid
        Where x lies.
    removed : ndarray of float32, shape (C,)
        What "nothing is there" is in network units, per channel: air in CT, background in MR. Not assumed to be 0.
    display : Volume
        The scan (its first channel) on the same grid in its own units (HU for CT): for pictures and supervoxels.
    scan_grid : Grid
        The scan's own grid, where predictions go back to.
    display_range : tuple of float, optional
        Of ``display``, what is drawn from black to white; the range of its values by default.
    bounds : tuple of float, optional
        The lowest and the highest value that the preparation can give; of this scan by default.
    notes : tuple of str
        What was repaired, and which statistics of the scan are held fixed.
    needs_logits : bool
        Whether :meth:`to_scan` needs the stitched logits, not the labels alone.
    half_logits : bool
        Whether it rounds them to 16 bits itself, so that no more are kept.

    Raises
    ------
    InputError
        Parts that do not fit each other, or values that are not finite.
    """

    x: np.ndarray
    grid: Grid
    removed: np.ndarray
    display: Volume
    scan_grid: Grid
    display_range: tuple[float, float] | None = None
    bounds: tuple[float, float] | None = field(default=None, kw_only=True)
    notes: tuple[str, ...] = ()
    needs_logits: bool = False
    half_logits: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        x = np.ascontiguousarray(self.x, dtype=np.float32)
        removed = np.atleast_1d(np.asarray(self.removed, dtype=np.float32))
        if x.ndim != 4 or x.shape[1:] != self.grid.shape or self.display.shape != self.grid.shape:
            raise InputError(
                f"a prepared scan of shape {x.shape} does not fit its grid {self.grid.shape} or what is displayed "
                f"{self.display.shape}; it needs (channels, i, j, k)"
            )
        if removed.shape != (x.shape[0],):
            raise InputError(
                f"{x.shape[0]} channels need as many values that stand for nothing, not {removed.shape[0]}"
            )
        if not (np.isfinite(removed).all() and np.isfinite(x).all()):
            raise InputError(
                "the prepared scan has values that are not finite numbers; the model's preparation is wrong"
            )
        x = x.view()
        x.flags.writeable = False
        object.__setattr__(self, "x", x)
        object.__setattr__(self, "removed", removed)

    @property
    def shape(self) -> Triple:
        """Voxels along i, j, k."""
        return self.grid.shape

    @property
    def grey(self) -> np.ndarray:
        """What is displayed, as float32 from 0 (black) to 1 (white), shape (i, j, k)."""
        voxels = self.display.voxels.astype(np.float32)
        low, high = self.display_range or (float(voxels.min()), float(voxels.max()))
        return np.clip((voxels - np.float32(low)) / np.float32(max(high - low, 1e-12)), 0, 1)

    def to_scan(self, labels: np.ndarray, logits: np.ndarray | None = None) -> Volume:
        """Return the prediction on the scan's own grid, as the model's makers would have written it.

        Parameters
        ----------
        labels : ndarray of int, shape (i, j, k)
            The decision on the network's grid.
        logits : ndarray of float32, shape (K, i, j, k), optional
            Stitched logits of the only part; given when :attr:`needs_logits`.
        """
        return labels_to_input_grid(Volume(labels, self.grid), self.scan_grid)


@runtime_checkable
class Model(Protocol):
    """What is explained.

    Attributes
    ----------
    card : ModelCard
        Name, classes, colours, channels, tiling, licence: all that can be told without torch.
    sha256 : str
        Of the weights, in hexadecimal: the model's identity.
    source : str or Path
        Where it came from; empty for one made in memory.
    parts : sequence of Part
        Its networks.
    """

    @property
    def card(self) -> ModelCard:
        """Name, classes, channels, tiling."""

    @property
    def sha256(self) -> str:
        """Of the weights."""

    @property
    def source(self) -> Any:
        """Where it came from."""

    @property
    def parts(self) -> Sequence[Part]:
        """Its networks."""

    def prepare(self, images: Sequence[Volume]) -> Prepared:
        """Turn the scan, one volume a channel, into what the networks see.

        Raises
        ------
        InputError
            Another number of volumes than the card has channels, or volumes that do not fit the model.
        """


def kind_of_channel(name: str) -> Literal["ct", "scan"]:
    """Return how the volume of a channel is read: ``"ct"`` in Hounsfield units, or ``"scan"``."""
    return "ct" if name.upper().split()[:1] == ["CT"] else "scan"


def check_channels(images: Sequence[Volume], card: ModelCard) -> None:
    """Refuse another number of volumes than a model has channels, or volumes on different grids.

    Raises
    ------
    InputError
        With what is missing.
    """
    if len(images) != len(card.channels):
        raise InputError(
            f"{card.name} takes {len(card.channels)} "
            f"{'channel' if len(card.channels) == 1 else 'channels'} ({', '.join(card.channels)}), but {len(images)} "
            f"{'volume was' if len(images) == 1 else 'volumes were'} given; give one volume for each"
        )
    for name, image in zip(card.channels[1:], images[1:], strict=True):
        if not image.grid.same_as(images[0].grid):
            raise InputError(
                f"{image.source or name}: channel {name} lies on another grid than {images[0].source or card.channels[0]}; "
                "register and resample it first"
            )
