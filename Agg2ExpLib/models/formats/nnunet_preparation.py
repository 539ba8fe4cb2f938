"""From a scan to what nnU-Net's network sees, and from its logits to the label map that nnU-Net would have written.

The order is nnU-Net's: transpose, crop to what is not 0, normalise, resample; back: resample the logits, decide, paste,
transpose. Arithmetic is in float32 as nnU-Net's, over the same memory order, so that means and spreads have its bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.models.formats.nnunet_plans import Normalisation, Plan
from Agg2ExpLib.models.formats.nnunet_resampling import coarse_axis, new_shape, resample
from Agg2ExpLib.models.interface import Prepared, SigmoidRegions, Triple
from Agg2ExpLib.volume import Grid, Volume, reorient, to_grid

#: Hounsfield units of air: "nothing is there" in CT. What is not CT has intensity 0 there.
AIR_HU = -1000.0
_TINY = 1e-8
_AXES = "zyx"


@dataclass(frozen=True)
class Place:
    """Where the network's grid lies in a scan.

    Attributes
    ----------
    read : Grid
        The scan as nnU-Net reads it: its own grid, or that turned to RAS.
    axes : tuple of int
        Axis i, j, k of ``read`` that each axis of the network's grid runs along.
    spacing : tuple of float
        mm along the network's axes, before resampling.
    box : tuple of slice
        What is kept of the transposed scan.
    shape : tuple of int
        Of the network's grid.
    """

    read: Grid
    axes: Triple
    spacing: tuple[float, float, float]
    box: tuple[slice, slice, slice]
    shape: Triple

    @property
    def whole(self) -> Triple:
        """Voxels of the transposed scan, before cropping."""
        i, j, k = (self.read.shape[axis] for axis in self.axes)
        return i, j, k

    @property
    def cropped(self) -> Triple:
        """Voxels of the crop."""
        i, j, k = (part.stop - part.start for part in self.box)
        return i, j, k

    @property
    def grid(self) -> Grid:
        """The network's grid: the crop's field of view, divided into :attr:`shape` voxels."""
        crop = self.read.affine[:3, list(self.axes)]
        scale = np.divide(self.cropped, self.shape)
        affine = np.eye(4)
        affine[:3, :3] = crop * scale
        first = [part.start for part in self.box] + scale / 2 - 0.5
        affine[:3, 3] = self.read.affine[:3, 3] + crop @ first
        return Grid(self.shape, affine)


@dataclass(frozen=True, eq=False)
class NnUnetPrepared(Prepared):
    """A scan as nnU-Net's network sees it, with the way back."""

    plan: Plan | None = None
    place: Place | None = None

    def to_scan(self, labels: np.ndarray, logits: np.ndarray | None = None) -> Volume:
        """Return the label map that nnU-Net would have written, with its label values, on the scan's own grid.

        Parameters
        ----------
        labels : ndarray of int, shape (i, j, k)
            Not used: nnU-Net resamples logits, not labels.
        logits : ndarray of float32, shape (K, i, j, k)
            Stitched logits.
        """
        assert self.plan is not None and self.place is not None
        if logits is None:
            raise InputError("nnU-Net decides after resampling, so its logits are needed, not the labels alone")
        place = self.place
        kept = _decide(logits, self.plan, place)
        pasted = np.zeros(place.whole, dtype=kept.dtype)
        pasted[place.box] = kept
        back = pasted.transpose(np.argsort(place.axes))
        found = Volume(np.ascontiguousarray(back), place.read)
        # Turning back from RAS moves voxels and changes none.
        return found if place.read == self.scan_grid else to_grid(found, self.scan_grid, "nearest")


def prepare(images: Sequence[Volume], plan: Plan, stated: tuple[float, float, float] | None = None) -> NnUnetPrepared:
    """Turn a scan into what the network sees.

    Parameters
    ----------
    images : sequence of Volume
        One a channel.
    plan : Plan
        What the network's plans say.
    stated : tuple of float, optional
        Spacing along i, j, k, in mm, that decides on the new shape, where it is not that of the volumes' grid.

    Raises
    ------
    InputError
        A scan that is 0 everywhere, or that does not fit the normalisation.
    """
    read = [reorient(one, "RAS") for one in images] if plan.turns_to_ras else list(images)
    axes = (2 - plan.transpose[0], 2 - plan.transpose[1], 2 - plan.transpose[2])
    stacked = np.stack([one.voxels.transpose(2, 1, 0) for one in read]).astype(np.float32)
    data = stacked.transpose(0, *(axis + 1 for axis in plan.transpose))
    box, mask = _nonzero(data, str(images[0].source or "the volume"))
    data = data[(slice(None), *box)]
    stored = stated or stored_spacing(read[0].grid)
    spacing = (stored[axes[0]], stored[axes[1]], stored[axes[2]])
    shape = new_shape(data.shape[1:], spacing, plan.spacing)
    if min(shape) < 1:
        raise InputError(
            f"{images[0].source or 'the volume'}: at the model's spacing nothing is left of the scan along one axis; "
            "give one with a larger field of view"
        )
    place = Place(read[0].grid, axes, spacing, box, shape)
    own_units = data[0].copy()
    removed, notes = [], list(_place_notes(place, plan))
    for channel, (name, how) in enumerate(zip(plan.channels, plan.normalisations, strict=True)):
        nothing, told = _normalise(data[channel], mask, how, name)
        removed.append(nothing)
        notes += [told] if told else []
    x = np.stack([resample(one, shape, plan.data, spacing, plan.spacing) for one in data])
    display, display_range = _display(own_units, x[0], place, plan)
    return NnUnetPrepared(
        x,
        place.grid,
        np.array(removed, dtype=np.float32),
        Volume(display, place.grid),
        images[0].grid,
        display_range,
        tuple(notes),
        needs_logits=True,
        half_logits=True,
        plan=plan,
        place=place,
    )


def network_grid(images: Sequence[Volume], plan: Plan) -> Grid:
    """Return the network's grid without normalising and resampling."""
    read = [reorient(one, "RAS") for one in images] if plan.turns_to_ras else list(images)
    axes = (2 - plan.transpose[0], 2 - plan.transpose[1], 2 - plan.transpose[2])
    data = np.stack([one.voxels.transpose(axes) for one in read])
    box, mask = _nonzero(data, str(images[0].source or "the volume"))
    stored = stored_spacing(read[0].grid)
    spacing = (stored[axes[0]], stored[axes[1]], stored[axes[2]])
    return Place(read[0].grid, axes, spacing, box, new_shape(mask.shape, spacing, plan.spacing)).grid


def _nonzero(data: np.ndarray, source: str) -> tuple[tuple[slice, slice, slice], np.ndarray]:
    """Return the box of what is not 0 in any channel, holes filled, and the mask within the box."""
    from scipy.ndimage import binary_fill_holes

    mask = binary_fill_holes(np.any(data != 0, axis=0))
    sides = []
    for axis in range(3):
        where = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        if not len(where):
            raise InputError(f"{source}: is 0 everywhere, and nnU-Net crops what is 0 away; give another scan")
        sides.append(slice(int(where[0]), int(where[-1]) + 1))
    box = (sides[0], sides[1], sides[2])
    return box, mask[box]


def stored_spacing(grid: Grid) -> tuple[float, float, float]:
    """Spacing as the scan's file states it. It decides between two shapes where the rounding is a tie.

    An oblique affine gives it with noise. NIfTI states float32 numbers, other files float64, and people round ones.
    """
    i, j, k = (_unrounded(step) for step in grid.spacing)
    return i, j, k


def _unrounded(step: float) -> float:
    single, decimal = float(np.float32(step)), round(step, 6)
    for exact in (single, decimal):
        if abs(step - exact) <= 1e-12 * step:
            return exact
    near = float(np.float32(decimal))
    return near if abs(step - near) <= 2e-7 * step else step


def _normalise(image: np.ndarray, mask: np.ndarray, how: Normalisation, name: str) -> tuple[float, str]:
    """Normalise one channel in place; return what "nothing is there" becomes, and which statistics are held fixed."""
    nothing = np.float32(AIR_HU if how.scheme == "CTNormalization" or name.upper() == "CT" else 0.0)
    if how.scheme == "CTNormalization":
        np.clip(image, how.low, how.high, out=image)
        image -= how.mean
        image /= how.std
        return float((np.clip(nothing, np.float32(how.low), np.float32(how.high)) - how.mean) / how.std), ""
    if how.scheme == "ZScoreNormalization":
        if how.masked:
            inside = image[mask]
            mean, std = inside.mean(), max(inside.std(), _TINY)
            image[mask] = (inside - mean) / std
            told = "within what is not 0; outside it the network sees 0, which stands for nothing there"
            return (
                0.0,
                f"{name}: z-scored by the mean {mean:.6g} and spread {std:.6g} of this scan {told}; both are held fixed.",
            )
        mean, std = image.mean(), max(image.std(), _TINY)
        image -= mean
        image /= std
        told = f"{name}: z-scored by the mean {mean:.6g} and spread {std:.6g} of this scan; both are held fixed."
        return float((nothing - mean) / std), told
    if how.scheme == "RescaleTo01Normalization":
        low = image.min()
        image -= low
        high = np.clip(image.max(), _TINY, None)
        image /= high
        told = f"{name}: this scan's values from {low:.6g} to {low + high:.6g} became 0 to 1; both ends are held fixed."
        return float(np.clip((nothing - low) / high, 0, 1)), told
    if how.scheme == "RGBTo01Normalization":
        if image.min() < 0 or image.max() > 255:
            raise InputError(
                f"{name}: the model takes values from 0 to 255, and this scan has others; give a colour channel"
            )
        image /= 255.0
    return float(nothing), ""


def _place_notes(place: Place, plan: Plan) -> list[str]:
    notes = []
    if place.cropped != place.whole:
        kept, whole = (" x ".join(map(str, shape)) for shape in (place.cropped, place.whole))
        notes.append(f"Cropped to what is not 0, as nnU-Net does: {kept} of {whole} voxels.")
    axis = coarse_axis(plan.data, place.spacing, plan.spacing)
    if axis is not None and place.shape != place.cropped:
        name = _AXES[plan.transpose[axis]]
        notes.append(
            f"Resampled slice by slice, because axis {name} is coarse ({place.spacing[axis]:g} mm), as nnU-Net does."
        )
    return notes


def _display(own: np.ndarray, x: np.ndarray, place: Place, plan: Plan) -> tuple[np.ndarray, tuple[float, float] | None]:
    """The first channel in the scan's own units, on the network's grid; of CT only what the network sees."""
    how = plan.normalisations[0]
    if how.scheme == "CTNormalization":
        return x * np.float32(how.std) + np.float32(how.mean), (how.low, how.high)
    return resample(own, place.shape, plan.data, place.spacing, plan.spacing), None


def _decide(logits: np.ndarray, plan: Plan, place: Place) -> np.ndarray:
    """Resample the logits back to the crop, one class at a time, and decide there.

    nnU-Net keeps logits in float16, before and after; there two classes are equal more often, and then the first wins.
    """
    values = np.array(plan.values, dtype=np.uint8 if plan.largest < 255 else np.uint16)
    found = np.zeros(place.cropped, dtype=values.dtype)
    best: np.ndarray | None = None
    for channel, one in enumerate(logits):
        stored = one.astype(np.float16, copy=False).astype(np.float32)
        back = resample(stored, place.cropped, plan.logits, plan.spacing, place.spacing)
        back = back if plan.logits.function == "resample_torch_fornnunet" else back.astype(np.float16)
        if isinstance(plan.decision, SigmoidRegions):
            found[back > 0] = values[channel + 1]
        elif best is None:
            best = back.copy()
        else:
            # Of equal logits the first class wins, as with argmax.
            higher = back > best
            found[higher] = values[channel]
            best[higher] = back[higher]
    return found
