"""The transforms of a MONAI bundle, run by MONAI's own classes: to the network's grid, and back to the scan's.

Only classes and plain arguments that :mod:`Agg2ExpLib.models.bundle_plan` lists come here, so nothing of a bundle is code.
Statistics of the scan (mean, range, percentiles) are held fixed: the attribution's gradient does not go through them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.models.bundle_plan import BundlePlan, Step
from Agg2ExpLib.models.formats.bundle_statistics import STATISTICS
from Agg2ExpLib.models.interface import Prepared, SigmoidRegions
from Agg2ExpLib.volume import Grid, Volume, labels_to_input_grid

if TYPE_CHECKING:
    import torch

#: Hounsfield units of air.
AIR = -1000.0

_SPATIAL = ("Orientation", "Spacing", "Resize", "CropForeground", "SpatialPad", "DivisiblePad")
_PREDICTION = "pred"


@dataclass(frozen=True, eq=False)
class BundlePrepared(Prepared):
    """A scan as a bundle's network sees it, with the bundle's own way back.

    Attributes
    ----------
    back : callable
        (labels, logits) -> Volume on the scan's grid.
    """

    back: Callable[[np.ndarray, np.ndarray | None], Volume] | None = None

    def to_scan(self, labels: np.ndarray, logits: np.ndarray | None = None) -> Volume:
        """Return the label map that the bundle itself would have written, on the scan's own grid.

        Parameters
        ----------
        labels : ndarray of int, shape (i, j, k)
            The decision on the network's grid.
        logits : ndarray of float32, shape (K, i, j, k), optional
            Stitched logits; needed where the bundle resamples logits or probabilities.
        """
        assert self.back is not None
        if self.needs_logits and logits is None:
            raise InputError("this bundle decides after resampling, so its logits are needed, not the labels alone")
        return self.back(labels, logits)


@dataclass(frozen=True, eq=False)
class Transforms:
    """The transforms of a bundle, made once.

    Attributes
    ----------
    plan : BundlePlan
        What they are.
    before : tuple of MONAI dictionary transforms
        For the scan.
    """

    plan: BundlePlan
    before: tuple[Any, ...]

    @classmethod
    def of(cls, plan: BundlePlan) -> Transforms:
        """Make the transforms of a plan.

        Raises
        ------
        InputError
            Arguments that MONAI does not take.
        """
        made = tuple(_made(step, plan.image_key, plan) for step in plan.before)
        for name, arguments in plan.after.steps:
            if name != "Invert":
                _made(Step(name, arguments), _PREDICTION, plan)
        return cls(plan, made)

    def prepare(self, images: Sequence[Volume]) -> BundlePrepared:
        """Turn a scan into what the network sees.

        Raises
        ------
        InputError
            A scan that a transform cannot be applied to, named.
        """
        import torch
        from monai.data import MetaTensor

        key, first = self.plan.image_key, images[0]
        stacked = np.stack([np.asarray(image.voxels) for image in images]).astype(np.float32)
        data = {key: MetaTensor(torch.from_numpy(stacked), affine=torch.tensor(first.affine, dtype=torch.float64))}
        data[key].meta["spatial_shape"] = np.asarray(first.shape)
        data[key].meta["original_affine"] = np.array(first.affine)
        shown = data[key][:1].clone()
        removed = np.full(len(images), AIR if self.plan.modality == "CT" else 0.0, dtype=np.float64)
        notes = [note for image in images for note in image.notes]
        for step, transform in zip(self.plan.before, self.before, strict=True):
            with _named(step.name, first), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if step.name in _SPATIAL:
                    shown = _spatial(step, transform, data, shown, key)
                else:
                    removed, told = _of_nothing(step, transform, data[key], removed, key)
                    notes += told
                data = transform(data)
        return self._prepared(data[key], shown, removed, first, notes)

    def _prepared(self, x: Any, shown: Any, removed: np.ndarray, first: Volume, notes: Sequence[str]) -> BundlePrepared:
        affine = np.asarray(x.affine, dtype=np.float64)
        shape = tuple(int(side) for side in x.shape[1:])
        grid = Grid((shape[0], shape[1], shape[2]), affine)
        after = self.plan.after
        operations, meta = list(x.applied_operations), dict(x.meta)

        def back(labels: np.ndarray, logits: np.ndarray | None) -> Volume:
            return self._back(labels, logits, operations, meta, grid, first.grid)

        return BundlePrepared(
            _array(x).astype(np.float32),
            grid,
            removed.astype(np.float32),
            Volume(_array(shown)[0].astype(np.float32), grid),
            first.grid,
            _range(self.plan.before),
            tuple(notes),
            after.from_labels is None,
            back,
        )

    def _back(
        self,
        labels: np.ndarray,
        logits: np.ndarray | None,
        operations: list[Any],
        meta: dict[str, Any],
        grid: Grid,
        scan_grid: Grid,
    ) -> Volume:
        """Run what follows the network, from the logits or from the label map on."""
        import torch
        from monai.data import MetaTensor
        from monai.transforms import Compose, Invertd

        after, key = self.plan.after, self.plan.image_key
        begin = after.from_labels or 0
        start = np.ascontiguousarray(labels[None] if after.from_labels is not None else logits)
        image = MetaTensor(torch.zeros((1, *grid.shape)), meta=meta)
        image.applied_operations = operations
        data: Any = {key: image, _PREDICTION: MetaTensor(torch.from_numpy(start.astype(np.float32)), meta=image.meta)}
        undone = Compose(list(self.before))
        for name, arguments in after.steps[begin:]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if name == "Invert":
                    data = Invertd(keys=_PREDICTION, transform=undone, orig_keys=key, **arguments)(data)
                else:
                    data = _made(Step(name, arguments), _PREDICTION, self.plan)(data)
        found = _label_map(_array(data[_PREDICTION]), self.plan, labels.dtype)
        if after.inverts:
            if found.shape != scan_grid.shape:
                raise InputError(
                    f"{self.plan.path}: its transforms lead back to {found.shape} voxels where the scan has {scan_grid.shape}"
                )
            return Volume(found, scan_grid)
        return _saved(Volume(found, grid), scan_grid, self.plan)


def _made(step: Step, key: str, plan: BundlePlan) -> Any:
    import monai.transforms

    arguments = dict(step.arguments)
    if arguments.get("dtype") is not None:
        arguments["dtype"] = np.dtype(arguments["dtype"]).type
    if step.name == "CropForeground":
        arguments["source_key"] = key
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return getattr(monai.transforms, f"{step.name}d")(keys=[key], **arguments)
    except Exception as error:  # whatever the constructor of a transform says
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"{plan.path}: {step.name} cannot be made: {lines[0][:200]}") from None


class _named:
    """Name the transform that cannot be applied to a scan."""

    def __init__(self, name: str, image: Volume) -> None:
        self.name, self.image = name, image

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, (InputError, MemoryError)):
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise InputError(
                f"{self.image.source or 'the volume'}: {self.name} of the bundle cannot be applied to this scan: {lines[0][:200]}"
            ) from None


def _spatial(step: Step, transform: Any, data: Mapping[str, Any], shown: Any, key: str) -> Any:
    """Move what is displayed as the scan will be moved, and nothing else."""
    if step.name != "CropForeground":
        return transform({key: shown})[key]
    # The box is that of what the network sees, not of the scan as it was.
    start, end = transform.cropper.compute_bounding_box(img=data[key])
    return transform.cropper.crop_pad(img=shown, box_start=start, box_end=end)


def _of_nothing(
    step: Step, transform: Any, before: torch.Tensor, values: np.ndarray, key: str
) -> tuple[np.ndarray, list[str]]:
    """Return what "nothing is there" becomes, one value a channel, and the statistics that were held fixed."""
    import torch

    statistics = STATISTICS.get(step.name)
    if statistics is not None:
        return statistics(step.arguments, _array(before), values)
    column = torch.tensor(values, dtype=torch.float32).reshape(-1, 1, 1, 1)
    return _array(transform({key: column})[key]).reshape(-1).astype(np.float64), []


def _range(steps: Sequence[Step]) -> tuple[float, float] | None:
    """Of the scan's own values, what the first fixed range of the bundle shows."""
    if steps and (found := [step for step in steps if step.name not in _SPATIAL]):
        low, high = (found[0].arguments.get(key) for key in ("a_min", "a_max"))
        if found[0].name == "ScaleIntensityRange" and low is not None and high is not None and low < high:
            return float(low), float(high)
    return None


def _label_map(found: np.ndarray, plan: BundlePlan, dtype: Any) -> np.ndarray:
    """Return one label a voxel: overlapping regions are drawn in order, one-hot classes joined."""
    if isinstance(plan.decision, SigmoidRegions):
        labels = np.zeros(found.shape[1:], dtype=dtype)
        for channel in plan.decision.order:
            labels[found[channel] > 0] = channel + 1
        return labels
    if len(found) > 1:
        return found.argmax(axis=0).astype(dtype)
    return np.rint(found[0]).astype(dtype)


def _saved(labels: Volume, scan_grid: Grid, plan: BundlePlan) -> Volume:
    """Bring labels to the scan's grid as the bundle's own writer does, by the nearest voxel."""
    import torch
    from monai.transforms import SpatialResample

    save = plan.after.save
    if not save.get("resample"):
        return labels_to_input_grid(labels, scan_grid)
    from monai.data import MetaTensor

    padding = save.get("padding_mode", "border")
    resampled = SpatialResample(mode="nearest", padding_mode=padding, align_corners=False, dtype=np.float64)(
        MetaTensor(torch.from_numpy(labels.voxels[None].astype(np.float32)), affine=torch.tensor(labels.affine)),
        dst_affine=torch.tensor(scan_grid.affine),
        spatial_size=scan_grid.shape,
    )
    return Volume(np.rint(_array(resampled)[0]).astype(labels.voxels.dtype), scan_grid)


def _array(tensor: Any) -> np.ndarray:
    """Return a tensor of MONAI as a plain array."""
    plain = tensor.as_tensor() if hasattr(tensor, "as_tensor") else tensor
    return np.asarray(plain.detach().cpu().numpy() if hasattr(plain, "detach") else plain)
