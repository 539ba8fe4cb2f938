"""The contract of a model, as checks that a third party runs on its own: ``check_model(model, images)``.

Each check returns nothing, or raises :class:`AssertionError` with one sentence. They need a scan that the model can take; a
small one will do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from Agg2ExpLib.models.interface import Model, Prepared
from Agg2ExpLib.volume import Volume

if TYPE_CHECKING:
    import torch

# In float64: small enough for normalisation of a part of a scan that is the same everywhere, which is strongly curved.
_STEP = 1e-6


def check_model(model: Model, images: Sequence[Volume], *, nothing: Sequence[Volume] | None = None) -> None:
    """Run every check.

    Parameters
    ----------
    model : Model
        What is checked.
    images : sequence of Volume
        A scan, one volume a channel.
    nothing : sequence of Volume, optional
        A scan in which nothing is there (air for CT), for models whose preparation does not depend on the whole scan.

    Raises
    ------
    AssertionError
        The first promise that the model does not keep.
    """
    assert isinstance(model, Model), "a model has card, sha256, source, parts and prepare(images)"
    prepared = model.prepare(images)
    check_preparation(model, images, prepared)
    check_parts(model)
    check_answers(model, prepared)
    check_round_trip(model, prepared, images)
    if not model.parts[0].no_gradient:
        check_gradient(model, prepared)
    if nothing is not None:
        check_removed(model, nothing)


def check_preparation(model: Model, images: Sequence[Volume], prepared: Prepared) -> None:
    """One channel of x for each of the card's; the same scan twice gives the same bits; the scan itself stays."""
    channels = len(model.card.channels)
    assert len(prepared.x) == channels, f"prepare answers {len(prepared.x)} channels, the card names {channels}"
    again = model.prepare(images)
    assert np.array_equal(prepared.x, again.x), "prepare answers something else for the same scan"
    assert prepared.grid == again.grid, "prepare answers another grid for the same scan"
    assert prepared.scan_grid == images[0].grid, "scan_grid is the grid of the first volume that was given"


def check_parts(model: Model) -> None:
    """The parts' classes are classes of the card, and every structure is answered by one part at least."""
    count = len(model.card.labels)
    assert model.parts, "a model has one part at least"
    for part in model.parts:
        wrong = [index for index in part.classes if not 0 <= index < count]
        assert not wrong, f"part {part.name!r} answers class {wrong[:1]}, and the card has {count} classes"
    answered = {index for part in model.parts for index in part.classes}
    missing = [model.card.labels[index] for index in range(1, count) if index not in answered]
    assert not missing, f"no part answers {missing[0]!r}"


def check_answers(model: Model, prepared: Prepared) -> None:
    """Each network answers one finite logit per class and voxel, twice the same, whatever else is in the batch."""
    import torch

    for number, part in enumerate(model.parts):
        network, batch = _window(model, prepared, number, torch.float32)
        with torch.no_grad():
            first, again, two = network(batch), network(batch), network(torch.cat([batch, torch.zeros_like(batch)]))
        expected = (1, len(part.classes), *batch.shape[2:])
        assert tuple(first.shape) == expected, f"part {part.name!r} answers {tuple(first.shape)}, expected {expected}"
        assert torch.isfinite(first).all(), f"part {part.name!r} answers logits that are not finite"
        assert torch.equal(first, again), (
            f"part {part.name!r} answers the same window twice differently; is dropout on?"
        )
        close = torch.allclose(first, two[:1], rtol=1e-3, atol=1e-3 * float(first.abs().max()))
        assert close, f"part {part.name!r} answers a window differently beside another; is it in evaluation mode?"


def check_round_trip(model: Model, prepared: Prepared, images: Sequence[Volume]) -> None:
    """A prediction comes back on the scan's own grid, and a structure in the middle stays in the middle."""
    if prepared.needs_logits:
        return
    labels = np.zeros(prepared.shape, dtype=np.uint8)
    middle = tuple(slice(n // 3, max(2 * n // 3, n // 3 + 1)) for n in prepared.shape)
    labels[middle] = 1
    back = prepared.to_scan(labels)
    assert back.grid == images[0].grid, "to_scan answers another grid than the scan's"
    there = np.argwhere(back.voxels > 0)
    assert len(there), "to_scan lost a structure in the middle of the scan"
    before = prepared.grid.index_to_world(np.argwhere(labels).mean(axis=0))
    after = images[0].grid.index_to_world(there.mean(axis=0))
    apart = float(np.linalg.norm(before - after))
    room = max(*prepared.grid.spacing, *images[0].grid.spacing)
    assert apart <= room, f"to_scan moved a structure by {apart:.1f} mm"


def check_gradient(model: Model, prepared: Prepared) -> None:
    """The gradient of a logit is its slope (central difference in float64), and asks nothing of the parameters."""
    import torch

    network, batch = _window(model, prepared, 0, torch.float64)
    batch = batch.requires_grad_(True)
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(batch.shape, generator=generator, dtype=torch.float64).to(batch)
    direction /= direction.norm()
    channel = len(model.parts[0].classes) - 1

    def value(x: torch.Tensor) -> torch.Tensor:
        return network(x)[:, channel].sum()

    (gradient,) = torch.autograd.grad(value(batch), batch)
    with torch.no_grad():
        slope = float(value(batch + _STEP * direction) - value(batch - _STEP * direction)) / (2 * _STEP)
    found = float((gradient * direction).sum())
    scale = max(abs(slope), float(gradient.norm()) * 1e-3, 1e-12)
    assert abs(found - slope) <= 2e-2 * scale, f"the gradient says {found:.4g} where the network changes by {slope:.4g}"


def check_removed(model: Model, nothing: Sequence[Volume]) -> None:
    """A scan in which nothing is there is prepared to what the model says stands for nothing."""
    prepared = model.prepare(nothing)
    for channel, value in zip(prepared.x, prepared.removed, strict=True):
        found = float(np.median(channel))
        assert np.isclose(found, value, rtol=1e-3, atol=1e-3), (
            f"nothing is prepared to {found:g}, but removed is {value:g}"
        )


def _window(model: Model, prepared: Prepared, number: int, dtype: torch.dtype) -> tuple[Any, torch.Tensor]:
    """Return a part's network on the CPU, and one window from the middle of the scan, filled up with nothing."""
    import torch

    part = model.parts[number]
    side = (part.tiling or model.card.tiling).window or prepared.shape
    batch = np.empty((1, len(prepared.x), *side), dtype=np.float32)
    batch[:] = prepared.removed[:, None, None, None]
    starts = [max((n - w) // 2, 0) for n, w in zip(prepared.shape, side, strict=True)]
    i, j, k = (slice(s, min(s + w, n)) for s, w, n in zip(starts, side, prepared.shape, strict=True))
    cut = prepared.x[:, i, j, k]
    batch[0, :, : cut.shape[1], : cut.shape[2], : cut.shape[3]] = cut
    return part.build(torch.device("cpu"), dtype), torch.from_numpy(batch).to(dtype)
