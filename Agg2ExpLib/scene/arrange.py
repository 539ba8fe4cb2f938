"""A scene arranged for the eye: what is seen first when somebody opens it in Slicer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from Agg2ExpLib.scene import segments, views
from Agg2ExpLib.scene.tables import strongest

if TYPE_CHECKING:
    from Agg2ExpLib.scene.showing import Measure, SceneExplanation

# Opacity of a structure that is there to find one's way, and from how many on only some are shown.
_FAINT, _MANY = 0.12, 24


def first_class(shown: SceneExplanation) -> str | None:
    """Return the class that is shown first, None when none was explained.

    Of the larger half of the explained structures it is the one that comes nearest to the middle of the scan: slices
    through it show most of the others, and it is large enough to be seen.
    """
    from scipy.ndimage import minimum

    labels, names = shown.explanation.model_prediction(), shown.explanation.labels
    sizes = np.bincount(labels.voxels.ravel(), minlength=len(names))
    there = [name for name in shown.classes if name in names and sizes[names.index(name)]]
    if not there:
        return shown.classes[0] if shown.classes else None
    larger = sorted(there, key=lambda name: -int(sizes[names.index(name)]))[: (len(there) + 1) // 2]
    axes = [
        (np.arange(count) - (count - 1) / 2) * step for count, step in zip(labels.shape, labels.spacing, strict=True)
    ]
    away = sum(axis.reshape([-1 if at == side else 1 for at in range(3)]) ** 2 for side, axis in enumerate(axes))
    nearest = minimum(away, labels.voxels, [names.index(name) for name in larger])
    return larger[int(np.argmin(nearest))]


def arrange(shown: SceneExplanation, name: str | None, *, measure: Measure = "mass") -> None:
    """Make everything there is of one class, and show what is seen best together.

    Slices: CT, outlines, overlay with its legend, at the strongest point. 3D: faint structures and the graph. Beside them
    table and chart. The signed overlay, the surfaces and the glow are in the scene, one click away.

    Parameters
    ----------
    shown : SceneExplanation
        The explanation in its scene.
    name : str or None
        The class; None, when no class was explained, shows CT and structures.
    measure : {"mass", "enrichment"}
        What chart and graph tell.
    """
    scene = shown.scene
    views.add_missing_views(scene)
    outline(shown.segmentation_node, 2)
    if shown.regions_node is not None:
        outline(shown.regions_node, 3)
    context_in_3d(shown, [] if name is None else involved(shown, name, measure))
    views.show_in_slices(scene, shown.ct_node, None, 0.0)
    bounds = bounds_of(shown.ct_node)
    chart = None
    if name is not None:
        shown.show_overlay(name, "signed")
        shown.show_surface(name)
        shown.show_surface(name, visible=False)
        shown.show_volume_rendering(name)
        shown.show_volume_rendering(name, visible=False)
        charts = {"mass": shown.show_chart(name, "mass"), "enrichment": shown.show_chart(name, "enrichment")}
        chart = charts[measure]
        shown.show_graph(name, measure)
        shown.show_overlay(name, "magnitude")
        views.fit_slices(scene, bounds)
        # Only the depth of each slice: the middle of the picture stays the middle of the body.
        views.slice_through(scene, shown.strongest_position(name))
    else:
        views.fit_slices(scene, bounds)
    views.show_table_and_chart(scene, shown.table_node, chart, shown.ct_node)
    views.look_from_front(scene, bounds_of_structures(shown))


def graph_in_patient(shown: SceneExplanation, name: str, measure: Measure = "mass", *, move: bool = True) -> None:
    """Show a class and its strongest sources in 3D, within the faint structures; from the front unless ``move`` is false."""
    shown.show_graph(name, measure)
    context_in_3d(shown, involved(shown, name, measure))
    if move and shown.segmentation_node is not None:
        views.look_from_front(shown.scene, bounds_of_structures(shown), aside=0.2)


def outline(node: Any, thickness: int) -> None:
    """Show a segmentation in slices by outlines alone, so that what lies under it is seen; many are drawn thin."""
    display = node.GetDisplayNode()
    display.SetVisibility(True)
    segments.fill_in_slices(node, False)
    # A faint outline would blend with what is behind the picture, not with the picture.
    display.SetOpacity2DOutline(1.0)
    many = node.GetSegmentation().GetNumberOfSegments() > _MANY
    display.SetSliceIntersectionThickness(1 if many else thickness)


def context_in_3d(shown: SceneExplanation, forward: Sequence[str] = (), *, visible: bool = True) -> None:
    """Show the structures faintly in 3D, or none of them.

    Behind fifty veils nothing would be seen: when there are many structures only those in ``forward`` are shown.
    """
    nodes = _nodes(shown)
    count = sum(len(segments.explained_segments(node, shown.key)) for node in nodes)
    faint = _FAINT if count <= _MANY else _FAINT / 2
    if visible:
        for _surface in surfaces_in_steps(shown, forward):
            pass
    for node in nodes:
        display = node.GetDisplayNode()
        # One redraw, not one for each structure.
        changing = display.StartModify()
        display.SetVisibility3D(visible)
        # All opacity is the segments' own, so that somebody can bring one forward.
        display.SetOpacity3D(1.0)
        for name, segment in segments.explained_segments(node, shown.key):
            identifier = node.GetSegmentation().GetSegmentIdBySegment(segment)
            display.SetSegmentOpacity3D(identifier, faint)
            display.SetSegmentVisibility3D(identifier, count <= _MANY or name in forward)
        display.EndModify(changing)


def surfaces_in_steps(shown: SceneExplanation, forward: Sequence[str]) -> Iterator[str]:
    """Make the closed surfaces that :func:`context_in_3d` shows, those that are not there yet; yield after each.

    One takes a moment, and fifty a long one: between them a window can draw itself.
    """
    import slicer

    kind = slicer.vtkSegmentationConverter.GetClosedSurfaceRepresentationName()
    found = [one for node in _nodes(shown) for one in segments.explained_segments(node, shown.key)]
    rule = slicer.vtkBinaryLabelmapToClosedSurfaceConversionRule()
    for name, segment in found:
        if (len(found) <= _MANY or name in forward) and segment.GetRepresentation(kind) is None:
            rule.Convert(segment)
            yield name


def _nodes(shown: SceneExplanation) -> list[Any]:
    return [node for node in (shown.segmentation_node, shown.regions_node) if node is not None]


def involved(shown: SceneExplanation, name: str, measure: Measure = "mass", count: int = 3) -> list[str]:
    """Return a class and its strongest sources."""
    table = shown.explanation.importance
    return [name, *(source for source, _ in strongest(table, name, measure, count, without=("background", name)))]


def bounds_of_structures(shown: SceneExplanation) -> list[float]:
    """Return the RAS bounds of the predicted structures, the CT's when nothing was predicted."""
    found = bounds_of(shown.segmentation_node)
    return found if found[0] < found[1] else bounds_of(shown.ct_node)


def bounds_of(node: Any) -> list[float]:
    """Return a displayable node's RAS bounds in the world."""
    bounds = [0.0] * 6
    node.GetRASBounds(bounds)
    return bounds
