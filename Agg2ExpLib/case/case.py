"""Everything of one patient, in memory: the scan as the model sees it, its segmentation, attributions, and their table."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from Agg2ExpLib.case.attribution import Attribution, PassCount
from Agg2ExpLib.case.context import Context, Explains
from Agg2ExpLib.case.instances import MIN_VOLUME_ML, MOST, Instances, find_instances
from Agg2ExpLib.device import Compute, choose_device, dtype_of, running
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.importance import ImportanceTable, Rois, build_table
from Agg2ExpLib.models import Model, Part, Prepared, kind_of_channel, load_model
from Agg2ExpLib.progress import Progress
from Agg2ExpLib.volume import Volume, channel_files, on_first_grid, read_volume, to_grid

if TYPE_CHECKING:
    from Agg2ExpLib.case.cost import Estimate
    from Agg2ExpLib.case.objective import Objective
    from Agg2ExpLib.case.segmentation import Segmentation
    from Agg2ExpLib.case.stitched import StitchedNetwork

Image = str | os.PathLike[str] | Volume


@dataclass(frozen=True)
class CaseSegmentation:
    """The prediction of all parts of a model.

    Attributes
    ----------
    labels : ndarray of uint8 or uint16, shape (i, j, k)
        Class at each voxel, on the model's grid; of several parts a later one wins where it is not background.
    parts : tuple of Segmentation
        Of each part.
    agreement : float, optional
        Where another prediction was given: the share of voxels at which the networks decide the same.
    """

    labels: np.ndarray
    parts: tuple[Segmentation, ...]
    agreement: float | None = None

    @property
    def forward_passes(self) -> int:
        """Windows run."""
        return sum(part.forward_passes for part in self.parts)


@dataclass(eq=False)
class Case:
    """One patient and one model. Segmented when first needed; what is asked for twice is computed once.

    Make one with :meth:`open`.

    Attributes
    ----------
    model : Model
        What is explained.
    prepared : Prepared
        The scan as the networks see it.
    compute : Compute
        Where and how exactly.
    images : tuple of Volume
        The scan as it was read, one volume a channel.
    progress : Progress
        Where stages, counts and the time left go; also cancels.
    passes : PassCount
        Network passes of attributions so far.
    given : Volume, optional
        A prediction on any grid that is explained in place of the networks' own, with the label values of the model's makers.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from Agg2ExpLib.methods import Gradient
    >>> from Agg2ExpLib.models import Tiling, from_module
    >>> from Agg2ExpLib.volume import Grid, Volume
    >>> torch.manual_seed(0)  # doctest: +SKIP
    >>> net = torch.nn.Conv3d(1, 2, 3, padding=1)
    >>> model = from_module(net, classes=["background", "bright"], tiling=Tiling((8, 8, 8)), removed=-1000.0)
    >>> scan = Volume(np.random.default_rng(0).normal(0, 300, (12, 10, 9)), Grid((12, 10, 9), np.eye(4)))
    >>> case = Case.open(scan, model, device="cpu")
    >>> case
    Case(volume in memory, Conv3d: 12 x 10 x 9 voxels, 8 windows)
    >>> table = case.importance(case.attribute(Gradient()))
    >>> table.rois
    ('background', 'bright')
    """

    model: Model
    prepared: Prepared
    compute: Compute
    images: tuple[Volume, ...] = ()
    progress: Progress = field(default_factory=Progress)
    passes: PassCount = field(default_factory=PassCount)
    given: Volume | None = None

    @classmethod
    def open(
        cls,
        images: Image | Sequence[Image],
        model: str | os.PathLike[str] | Model,
        *,
        device: str = "auto",
        precision: str = "float32",
        compute: Compute | None = None,
        progress: Progress | None = None,
        prediction: str | os.PathLike[str] | Volume | None = None,
    ) -> Case:
        """Read a scan and a model, and prepare the one for the other.

        Parameters
        ----------
        images : path or Volume, or a sequence of them
            The scan: files, folders with DICOM series, volumes, arrays of MONAI (MetaTensor), or nibabel images; one for each
            channel of the model. ``FOLDER/CASE`` stands for all of ``CASE_0000.nii.gz``, ``CASE_0001.nii.gz`` ...
        model : name, path or Model
            See :func:`Agg2ExpLib.models.load_model`.
        device, precision : str
            See :class:`~Agg2ExpLib.device.Compute`; or give that whole as ``compute``.
        progress : Progress
            Where progress goes.
        prediction : path or Volume, optional
            A label map that the model's makers wrote: what is explained, in place of what the networks decide here.

        Raises
        ------
        InputError
            A scan, model, prediction, device or precision that cannot be used.
        """
        compute = compute or Compute(device=device, precision=precision)
        compute = replace(compute, device=str(choose_device(compute.device)))
        loaded = load_model(Path(model)) if isinstance(model, os.PathLike) else model
        loaded = load_model(loaded) if isinstance(loaded, str) else loaded
        volumes = on_first_grid(read_images(images, loaded))
        given = read_volume(prediction, kind="labels") if isinstance(prediction, (str, os.PathLike)) else prediction
        return cls(loaded, loaded.prepare(volumes), compute, volumes, progress or Progress(), given=given)

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.prepared.shape))
        return f"Case({self.name}, {self.model.card.name}: {size} voxels, {self.n_windows} windows)"

    @property
    def name(self) -> str:
        """The scan's file, or what it is."""
        source = self.images[0].source if self.images else None
        return source.name if source else "volume in memory"

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names of the model, class 0 first."""
        return tuple(self.model.card.labels)

    @cached_property
    def stitched(self) -> tuple[StitchedNetwork, ...]:
        """Each part's network over the scan."""
        import torch

        from Agg2ExpLib.case.recomputing import Recomputing
        from Agg2ExpLib.case.stitched import StitchedNetwork
        from Agg2ExpLib.case.windows import Windows

        device = torch.device(self.compute.device)
        again = partial(Recomputing, surroundings=partial(running, self.compute.precision, device))
        built: Any = again if self.compute.recompute else lambda network: network
        dtype = dtype_of(self.compute.precision, device)
        x = torch.tensor(self.prepared.x, dtype=dtype, device=device)
        removed = torch.tensor(self.prepared.removed)
        return tuple(
            StitchedNetwork(
                built(part.build(device, dtype)),
                x,
                Windows.over(self.prepared.shape, part.tiling or self.model.card.tiling),
                removed,
                self.compute,
                self.labels,
            )
            for part in self.model.parts
        )

    @property
    def n_windows(self) -> int:
        """Windows over the scan, of all parts."""
        from Agg2ExpLib.case.windows import Windows

        tilings = [part.tiling or self.model.card.tiling for part in self.model.parts]
        return sum(len(Windows.over(self.prepared.shape, tiling)) for tiling in tilings)

    @cached_property
    def segmentation(self) -> CaseSegmentation:
        """The prediction, on the model's grid."""
        import torch

        from Agg2ExpLib.case.segmentation import segment

        found = []
        given = None if self.given is None else given_labels(self.given, self.model, self.prepared)
        rounded = torch.float16 if self.prepared.half_logits else torch.float32
        keep = rounded if self.prepared.needs_logits and given is None else None
        for part, stitched in zip(self.model.parts, self.stitched, strict=True):
            one = segment(stitched, part.classes, part.decision, given=given, keep_logits=keep, progress=self.progress)
            found.append(one)
        if given is None:
            return CaseSegmentation(_merged([one.labels for one in found]), tuple(found))
        own = _merged([one.own_labels for one in found if one.own_labels is not None])
        return CaseSegmentation(given, tuple(found), float((own == given).mean()))

    def prediction(self) -> Volume:
        """Return the prediction on the scan's own grid, as the model's makers would have written it."""
        if self.given is not None:
            return self.given
        found = self.segmentation
        return self.prepared.to_scan(found.labels, found.parts[0].logits)

    def class_indices(self, classes: Sequence[str | int] | None) -> list[int]:
        """Return the indices of classes by name or index; ``None`` is every class but background.

        Raises
        ------
        InputError
            A class that the model does not have.
        """
        if classes is None:
            return list(range(1, len(self.labels)))
        found = []
        for one in classes:
            index = self.labels.index(one) if isinstance(one, str) and one in self.labels else one
            if isinstance(index, str) or not 0 <= index < len(self.labels):
                raise InputError(f"the model has no class {one!r}: it has {', '.join(self.labels)}")
            found.append(int(index))
        return found

    def objectives(self, classes: Sequence[str | int] | None = None, reduction: str = "sum") -> list[Objective]:
        """Return F_c of each class (equation 2), in order; one that is absent has no voxels."""
        from Agg2ExpLib.case.objective import objectives

        wanted = self.class_indices(classes)
        found: list[Objective] = []
        for index in wanted:
            number = self._part_of(index)
            windows = self.stitched[number].windows
            found += objectives(self.segmentation.parts[number], windows, [index], reduction)
        return found

    def instances(
        self, name: str | int, min_volume_ml: float = MIN_VOLUME_ML, most: int = MOST, reduction: str = "sum"
    ) -> Instances:
        """Return the connected components of a class's prediction, each with an objective to attribute.

        Parameters
        ----------
        name : str or int
            The class; one that is absent has no instances.
        min_volume_ml : float
            Smaller components are left out, and counted.
        most : int
            The largest ones are kept, and the others counted.
        reduction : str
            The A of equation 2, of the whole class.

        Examples
        --------
        ``case.attribute(Gradient(), objectives=case.instances("lesion").objectives)`` yields the attribution of each.
        """
        (objective,) = self.objectives([name], reduction)
        number = self._part_of(objective.class_index)
        fewest = min_volume_ml * 1000.0 / self.prepared.grid.voxel_volume
        label, windows = self.labels[objective.class_index], self.stitched[number].windows
        # Rounding must not leave out a component of just that volume.
        return find_instances(label, objective, self.segmentation.parts[number], windows, fewest * (1.0 - 1e-9), most)

    def check_explainable(self, class_index: int) -> None:
        """Raise :class:`InputError` for a class that no network of the model has a logit for."""
        self._part_of(class_index)

    def check_method(self, method: Explains, classes: Sequence[int]) -> None:
        """Raise :class:`InputError` for a method that needs a gradient where a network has none."""
        parts = self.model.parts
        lacking = [parts[self._part_of(index)] for index in classes if parts[self._part_of(index)].no_gradient]
        if lacking and method.needs_gradient:
            raise InputError(
                f"no gradient passes through {lacking[0].name or self.model.card.name} ({lacking[0].no_gradient}), and "
                f"{method.name} needs one; use --method kernelshap or occlusion"
            )

    def _part_of(self, class_index: int) -> int:
        parts: Sequence[Part] = self.model.parts
        if class_index == 0 and (len(parts) > 1 or 0 not in parts[0].classes):
            raise InputError(
                f"background has no logit of its own in {self.model.card.name}, so it cannot be explained; choose a structure"
            )
        number = next((n for n, part in enumerate(parts) if class_index in part.classes), None)
        if number is None:
            raise InputError(f"no network of {self.model.card.name} answers {self.labels[class_index]}")
        return number

    def attribute(
        self,
        method: Explains,
        classes: Sequence[str | int] | None = None,
        reduction: str = "sum",
        *,
        objectives: Sequence[Objective] | None = None,
        **context: Any,
    ) -> Iterator[Attribution]:
        """Yield the attribution of each class that is present, computed when it is asked for.

        Parameters
        ----------
        method : Method
            Such as ``SmoothGrad(samples=20)``.
        classes : sequence of str or int, optional
            Names or indices; every class but background by default.
        reduction : str
            The A of equation 2.
        objectives : sequence of Objective, optional
            F_c already made, in place of ``classes`` and ``reduction``.
        **context
            More for the method; see :class:`~Agg2ExpLib.case.context.Context`: ``regions``,
            ``truth``, ``supervoxels``, ``checkpoint``.

        Raises
        ------
        InputError
            A class that is not there, or options that do not fit this scan.
        """
        aims = self.objectives(classes, reduction) if objectives is None else list(objectives)
        self.check_method(method, [aim.class_index for aim in aims])
        if context.get("supervoxels") is None and any(aim.voxels for aim in aims):
            # Made once for all parts; the user's own map is read here too.
            context["supervoxels"] = self.divide(method, context.get("regions"))
        for number, stitched in enumerate(self.stitched):
            mine = [aim for aim in aims if self._part_of(aim.class_index) == number]
            if mine:
                yield from method.attribute(stitched, mine, self.context(number, **context))

    def context(self, part: int = 0, **more: Any) -> Context:
        """Return what a method may look at beside a part's network and the scan."""
        found = self.segmentation.parts[part]
        if len(self.model.parts) > 1:
            # Supervoxels are cut along the structures of the whole model.
            found = replace(found, labels=self.segmentation.labels)
        return Context(
            segmentation=found,
            grey=self.prepared.grey,
            names=self.labels,
            spacing=self.prepared.grid.spacing,
            progress=self.progress,
            passes=self.passes,
            **more,
        )

    def estimate(self, method: Explains, classes: Sequence[str | int] | None = None) -> Estimate:
        """Return what explaining classes by a method would cost, without doing it."""
        from Agg2ExpLib.case.cost import cost_of

        return cost_of(self.model, self.prepared.shape, method, len(self.class_indices(classes)), self.compute)

    def divide(self, method: Explains, regions: Mapping[str, np.ndarray] | None = None) -> Any:
        """Return the supervoxels that a method removes; ``None`` for a method that removes none."""
        if not method.removes_supervoxels:
            return None
        # Of a removal method, which the rooms above know.
        removal: Any = method
        own = removal.own_map(self.prepared.grid)
        return own.supervoxels if own else removal.divide(self.context(regions=dict(regions or {})))

    def rois(self, regions: Mapping[str, np.ndarray] | None = None) -> Rois:
        """Return the regions that importance is summed over: the model's classes, then extra masks (i, j, k)."""
        parts = self.segmentation.parts
        if len(parts) == 1 and not parts[0].decision.explains_background:
            # Regions of the model may overlap: each is a mask of its own, and background is what none of them holds.
            own = {self.labels[index]: parts[0].mask(index) for index in parts[0].classes}
            anywhere = np.any(list(own.values()), axis=0)
            return Rois.of_masks({self.labels[0]: ~anywhere, **own, **dict(regions or {})})
        return Rois(self.segmentation.labels, self.labels, dict(regions or {}))

    def importance(
        self,
        attributions: Iterator[Attribution] | Sequence[Attribution],
        regions: Mapping[str, np.ndarray] | None = None,
    ) -> ImportanceTable:
        """Return the RoI importance (equation 7) of attributions over the model's classes and extra masks."""
        rois = self.rois(regions)
        rows = {self.labels[one.class_index]: rois.row(one.channels, one.box) for one in attributions}
        return build_table(rows, rois.names)

    def with_scan(self, x: Any) -> Case:
        """Return the same case over another scan (C, i, j, k) in network units; its segmentation is made anew."""
        other = replace(self, passes=self.passes, given=None)
        other.__dict__["stitched"] = tuple(one.of(x) for one in self.stitched)
        return other

    def what_if(self, region: np.ndarray, fill: str = "shell", seed: int = 0) -> CaseSegmentation:
        """Return the prediction of the scan in which a region (i, j, k) is replaced; see :mod:`Agg2ExpLib.case.filling`."""
        from Agg2ExpLib.case.filling import fill_region

        return self.with_scan(_tensor(fill_region(self.prepared, region, fill, seed))).segmentation


def given_labels(given: Volume, model: Model, prepared: Prepared) -> np.ndarray:
    """Return a prediction that the model's makers wrote as classes on the network's grid.

    Raises
    ------
    InputError
        It does not lie on the scan, or has values that are no classes of the model.
    """
    named = given.source or "the given prediction"
    if not given.grid.same_as(prepared.scan_grid):
        raise InputError(f"{named}: lies on another grid than the scan; give the prediction of this scan")
    labels = model.card.labels
    values = [int(value) for value in model.card.extra.get("label_values", range(len(labels)))]
    found = np.unique(given.voxels)
    unknown = sorted(set(found.tolist()) - set(values))
    if unknown:
        raise InputError(
            f"{named}: has the label {unknown[0]}, and {model.card.name} has none of that number; is it of this model?"
        )
    lookup = np.zeros(max(values) + 1, dtype=np.uint8 if len(labels) <= 256 else np.uint16)
    lookup[values] = np.arange(len(labels))
    classes = Volume(lookup[np.asarray(given.voxels, dtype=np.int64)], given.grid)
    return np.asarray(to_grid(classes, prepared.grid, "nearest").voxels)


def _merged(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Join the labels of several parts; a later one wins where it is not background."""
    labels = parts[0]
    for one in parts[1:]:
        labels = np.where(one > 0, one, labels)
    return labels


def _tensor(x: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(x)


def read_images(images: Image | Sequence[Image], model: Model) -> list[Volume]:
    """Return a scan as volumes, one a channel of the model, each read as what the model takes there.

    Raises
    ------
    InputError
        One that cannot be read.
    """
    several = isinstance(images, Sequence) and not isinstance(images, (str, os.PathLike))
    given: list[Any] = list(images) if several else [images]  # type: ignore[arg-type]
    if len(given) == 1 and isinstance(given[0], (str, os.PathLike)):
        given = [*channel_files(Path(given[0]))] or given
    kinds = [kind_of_channel(name) for name in model.card.channels]
    kinds += ["scan"] * (len(given) - len(kinds))
    return [as_volume(one, kind) for one, kind in zip(given, kinds, strict=False)]


def as_volume(image: Any, kind: Literal["ct", "scan"] = "ct") -> Volume:
    """Return a scan as a volume: a path, a Volume, a MONAI MetaTensor (1, i, j, k) or (i, j, k), or a nibabel image.

    Raises
    ------
    InputError
        Anything else, or one without an affine.
    """
    from Agg2ExpLib.volume import Grid

    if isinstance(image, Volume):
        return image
    if isinstance(image, (str, os.PathLike)):
        return read_volume(Path(image), kind=kind)
    if hasattr(image, "get_fdata") and hasattr(image, "affine"):
        voxels, affine = np.asarray(image.get_fdata(dtype=np.float32)), np.asarray(image.affine)
    elif hasattr(image, "affine") and hasattr(image, "detach"):
        voxels = image.detach().cpu().numpy()
        affine = np.asarray(image.affine.detach().cpu().numpy() if hasattr(image.affine, "detach") else image.affine)
    else:
        raise InputError(
            f"a scan cannot be a {type(image).__name__}; give a path, a Volume, a MetaTensor or a nibabel image"
        )
    voxels = voxels[0] if voxels.ndim == 4 and len(voxels) == 1 else voxels
    if voxels.ndim != 3:
        raise InputError(f"a scan has three axes, not the shape {voxels.shape}; give one volume for each channel")
    i, j, k = voxels.shape
    return Volume(voxels, Grid((i, j, k), affine))
