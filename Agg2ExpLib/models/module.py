"""A model of any torch module, made in a notebook: no file, hash or path to invent."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.models.card import ModelCard
from Agg2ExpLib.models.interface import Decision, Prepared, Softmax, Tiling
from Agg2ExpLib.models.model import SegmentationModel
from Agg2ExpLib.volume import Volume

if TYPE_CHECKING:
    from torch import nn


def from_module(
    module: nn.Module,
    *,
    classes: Sequence[str],
    tiling: Tiling,
    prepare: Callable[[Sequence[Volume]], Prepared | np.ndarray] | None = None,
    removed: float | Sequence[float] | None = None,
    channels: Sequence[str] = ("CT",),
    decision: Decision | None = None,
    name: str = "",
) -> SegmentationModel:
    """Make a model of a torch module.

    Parameters
    ----------
    module : torch.nn.Module
        Logits [B, K, D, H, W] of windows [B, C, D, H, W]. It is put into evaluation mode and its parameters stop asking for
        gradients; it is not copied.
    classes : sequence of str
        Class names, background first (also for overlapping regions, whose network has no channel for it).
    tiling : Tiling
        Its windows.
    prepare : callable, optional
        Volumes, one a channel, to :class:`~Agg2ExpLib.models.interface.Prepared`, or to an array (C, i, j, k) in network units
        on the scan's own grid. By default the voxels are taken as they are.
    removed : float or sequence of float
        What "nothing is there" is in network units, per channel: ``prepare`` of air. Needed unless ``prepare`` answers
        a ``Prepared``.
    channels : sequence of str
        What each volume is.
    decision : Softmax or SigmoidRegions
        One label a voxel by default.
    name : str
        For tables; the module's class by default.

    Raises
    ------
    InputError
        A class list, tiling or preparation that cannot be used.

    Examples
    --------
    >>> import torch
    >>> net = torch.nn.Conv3d(1, 2, 3, padding=1)
    >>> model = from_module(net, classes=["background", "heart"], tiling=Tiling((16, 16, 16)), removed=-2.7)
    >>> model.card.labels, model.card.name
    (('background', 'heart'), 'Conv3d')
    """
    decision = decision or Softmax()
    if tiling.window is None:
        raise InputError("a module needs a tiling with a window; give the size that it was trained with")
    card = ModelCard(
        name=name or type(module).__name__,
        labels=tuple(classes),
        channels=tuple(channels),
        intensity_range=None,
        window=tiling.window,
        overlap=tiling.overlap,
        step=tiling.step,
        blending=tiling.blending,
        sigma=tiling.sigma,
        padding=tiling.padding,
        mirror_axes=tiling.mirror_axes,
        decision=decision,
    )
    made = _preparation(prepare, removed, len(card.channels))
    return SegmentationModel(card, module.eval().requires_grad_(False), _hash_of(module), "", made)


def _preparation(
    prepare: Callable[[Sequence[Volume]], Any] | None, removed: float | Sequence[float] | None, channels: int
) -> Callable[[Sequence[Volume]], Prepared]:
    if prepare is None and removed is None:
        raise InputError(
            "say what stands for nothing in network units (removed=...), for example prepare's answer to air"
        )

    def prepared(images: Sequence[Volume]) -> Prepared:
        found = prepare(images) if prepare is not None else np.stack([image.voxels for image in images])
        if isinstance(found, Prepared):
            return found
        if removed is None:
            raise InputError("prepare answers an array, so say what stands for nothing in it with removed=...")
        first = images[0]
        if np.shape(found) != (channels, *first.shape):
            raise InputError(
                f"prepare answers an array of shape {np.shape(found)}, expected {(channels, *first.shape)}; answer a "
                "Prepared to change the grid"
            )
        values = np.broadcast_to(np.asarray(removed, dtype=np.float32), (channels,))
        notes = tuple(note for image in images for note in image.notes)
        return Prepared(found, first.grid, values, Volume(first.voxels, first.grid), first.grid, notes=notes)

    return prepared


def _hash_of(module: nn.Module) -> str:
    """SHA-256 of the parameters and buffers: the identity of a network that has no file."""
    digest = hashlib.sha256(type(module).__name__.encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode() + str(tuple(tensor.shape)).encode())
        digest.update(tensor.detach().cpu().double().numpy().tobytes())
    return digest.hexdigest()
