"""What the panel takes out of the scene: a CT, the segments of a segmentation, and notice of their changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.scene.volumes import voxels_of
from Agg2ExpLib.storage import region_names

if TYPE_CHECKING:
    from Agg2ExpLib.anatomy import RGB
    from Agg2ExpLib.volume import Grid, Volume


#: Empty voxels around a mask that is handed on.
_RIM = 4


@dataclass(frozen=True)
class Segment:
    """One segment, by what does not change when it is renamed."""

    node_id: str
    identifier: str
    name: str
    colour: RGB

    @property
    def key(self) -> str:
        """What tells it from every other region."""
        return f"segment:{self.node_id}/{self.identifier}"


def volume_of(node: Any) -> Volume:
    """Return a copy of a volume node's voxels and geometry, its parent transforms applied.

    Raises
    ------
    InputError
        No voxels, or a transform that bends.
    """
    import slicer.util

    from Agg2ExpLib.volume import Volume

    if node is None or node.GetImageData() is None or node.GetImageData().GetNumberOfPoints() == 0:
        raise InputError(f"{node.GetName() if node else 'the CT'} has no voxels; load the scan again")
    if node.GetImageData().GetNumberOfScalarComponents() != 1:
        raise InputError(f"{node.GetName()} is a colour image; choose a CT in Hounsfield units")
    voxels = slicer.util.arrayFromVolume(node).transpose(2, 1, 0)
    # In the order in which it lies: turning the axes of a large scan here would hold up the window.
    return Volume(voxels.copy(order="K"), grid_of(node))


def grid_of(node: Any) -> Grid:
    """Return where a volume node's voxels lie, its parent transforms applied.

    Raises
    ------
    InputError
        No voxels, or a transform that bends.
    """
    import slicer.util

    from Agg2ExpLib.volume import Grid

    if node.GetImageData() is None:
        raise InputError(f"{node.GetName()} has no voxels; load the scan again")
    i, j, k = node.GetImageData().GetDimensions()
    matrix = slicer.util.vtkMatrixFromArray(np.eye(4))
    node.GetIJKToRASMatrix(matrix)
    return Grid((i, j, k), to_world(node) @ slicer.util.arrayFromVTKMatrix(matrix))


def same_grid(first: Any, second: Any) -> bool:
    """Whether two volume nodes have voxels at the same places, as a model of several channels needs them."""
    return grid_of(first).same_as(grid_of(second))


def is_overlay(node: Any) -> bool:
    """Whether a volume node is an attribution over a CT, made by this module."""
    from Agg2ExpLib.scene.nodes import ROLE

    return bool(node.GetAttribute(ROLE) == "overlay")


def first_scan(scene: Any) -> Any:
    """Return the first volume node of a scene that may be a CT; ``None`` when there is none."""
    count = scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    nodes = (scene.GetNthNodeByClass(index, "vtkMRMLScalarVolumeNode") for index in range(count))
    shown = (node for node in nodes if not node.GetHideFromEditors())
    return next((node for node in shown if not is_overlay(node)), None)


def to_world(node: Any) -> np.ndarray:
    """Return the matrix of a node's parent transforms, shape (4, 4).

    Raises
    ------
    InputError
        A transform that bends.
    """
    import slicer.util

    parent = node.GetParentTransformNode()
    if parent is None:
        return np.eye(4)
    if not parent.IsTransformToWorldLinear():
        raise InputError(f"{node.GetName()} is under a transform that bends; harden the transform first")
    matrix: np.ndarray = slicer.util.arrayFromTransformMatrix(parent, toWorld=True)
    return matrix


def segments_of(node: Any) -> list[Segment]:
    """Return the segments of a segmentation node in its order; none of ``None``."""
    if node is None:
        return []
    segmentation = node.GetSegmentation()
    found = []
    for identifier in segmentation.GetSegmentIDs():
        segment = segmentation.GetSegment(identifier)
        red, green, blue = (round(255 * channel) for channel in segment.GetColor())
        found.append(Segment(node.GetID(), identifier, segment.GetName(), (red, green, blue)))
    return found


def named_segments(node: Any, labels: Sequence[str]) -> dict[Segment, str]:
    """Return each segment with the name that it has as an extra region; see :func:`~Agg2ExpLib.storage.region_names`."""
    found = segments_of(node)
    # "=" would end the name on the command line.
    names = region_names([one.name.replace("=", "-") for one in found], labels)
    return dict(zip(found, names, strict=True))


def visible_names(node: Any) -> set[str]:
    """Return the names of the segments that are shown."""
    display = node.GetDisplayNode() if node else None
    if display is None:
        return set()
    return {one.name for one in segments_of(node) if display.GetSegmentVisibility(one.identifier)}


def segment_volume(node: Any, identifier: str) -> Volume | None:
    """Return one segment as a mask of its label map's own extent; ``None`` when it is empty or gone.

    The mask is read from the segmentation itself, not from a copy on the whole scan.
    """
    import slicer.util

    from Agg2ExpLib.volume import Grid, Volume

    segment = node.GetSegmentation().GetSegment(identifier)
    if segment is None:
        return None
    name = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
    if not segment.GetRepresentation(name):
        node.GetSegmentation().CreateRepresentation(name)
    image = segment.GetRepresentation(name)
    if image is None or image.IsEmpty() or image.GetPointData().GetScalars() is None:
        return None
    inside = voxels_of(image) == segment.GetLabelValue()
    # One axis at a time: the places of all voxels of a lung would take longer than all the rest.
    ends = [np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    if not len(ends[0]):
        return None
    box = tuple(slice(int(one[0]), int(one[-1]) + 1) for one in ends)
    matrix = slicer.util.vtkMatrixFromArray(np.eye(4))
    image.GetImageToWorldMatrix(matrix)
    affine = slicer.util.arrayFromVTKMatrix(matrix)
    corner = np.array(image.GetExtent()[::2], dtype=float) + [part.start for part in box]
    affine[:3, 3] += affine[:3, :3] @ (corner - _RIM)
    # A file of a few voxels would be taken for a damaged one.
    mask = np.pad(inside[box].astype(np.uint8), _RIM)
    i, j, k = mask.shape
    return Volume(mask, Grid((i, j, k), to_world(node) @ affine))


class Layers:
    """Remembers the layers of a segmentation, to tell which segments a stroke has changed: often many share one layer."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[int, tuple[int, ...], np.ndarray]] = {}
        self._versions: dict[tuple[str, int], int] = {}

    def version(self, image: Any, value: int) -> int:
        """Return a number that rises whenever the voxels of a label value have changed."""
        # Python's own object for it may be another one each time.
        at, extent = str(image.GetAddressAsString("")), tuple(image.GetExtent())
        kept = self._kept.get(at)
        if kept is None or kept[0] != image.GetMTime():
            layer = voxels_of(image)
            for touched in self._touched(kept, extent, layer):
                self._versions[at, touched] = self._versions.get((at, touched), 0) + 1
            self._kept[at] = (image.GetMTime(), extent, layer.copy(order="K"))
        return self._versions.get((at, value), 0)

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()

    def _touched(
        self, kept: tuple[int, tuple[int, ...], np.ndarray] | None, extent: Any, layer: np.ndarray
    ) -> set[int]:
        if kept is None:
            return {value for place, value in self._versions} | set(map(int, np.unique(layer)))
        _, before, old = kept
        if before == extent:
            changed = old != layer
            return set(map(int, np.unique(np.concatenate([old[changed], layer[changed]]))))
        # The layer has grown or shrunk: what is in both is compared, and what is in one alone has changed.
        low = np.maximum(before[::2], extent[::2])
        high = np.minimum(before[1::2], extent[1::2])
        found: set[int] = set()
        parts = []
        for array, start in ((old, before[::2]), (layer, extent[::2])):
            part = array[
                tuple(slice(max(a - s, 0), max(b + 1 - s, 0)) for a, b, s in zip(low, high, start, strict=True))
            ]
            whole, common = (np.bincount(one.ravel(order="K").astype(np.int64), minlength=1) for one in (array, part))
            common = np.pad(common, (0, len(whole) - len(common)))
            found |= set(map(int, np.flatnonzero(whole != common)))
            parts.append(part)
        if parts[0].shape == parts[1].shape:
            changed = parts[0] != parts[1]
            found |= set(map(int, np.unique(np.concatenate([parts[0][changed], parts[1][changed]]))))
        return found


class Watch:
    """Observers that are all taken back at once."""

    def __init__(self) -> None:
        self._tags: list[tuple[Any, int]] = []

    def add(self, thing: Any, event: Any, heard: Callable[..., Any]) -> None:
        """Call ``heard`` on an event of a VTK object."""
        self._tags.append((thing, thing.AddObserver(event, heard)))

    def add_segmentation(self, node: Any, heard: Callable[..., Any]) -> None:
        """Call ``heard`` whenever a segment is added, edited, renamed or removed."""
        import slicer

        segmentation = node.GetSegmentation()
        for name in (
            "SegmentAdded",
            "SegmentRemoved",
            "SegmentModified",
            "SourceRepresentationModified",
            "ContainedRepresentationNamesModified",
        ):
            self.add(segmentation, getattr(slicer.vtkSegmentation, name), heard)

    def clear(self) -> None:
        """Hear nothing more."""
        for thing, tag in self._tags:
            thing.RemoveObserver(tag)
        self._tags.clear()
