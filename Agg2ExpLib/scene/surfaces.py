"""Closed surfaces of segments that carry the attribution sampled on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.scene.colours import LEVELS, colour_ramp, fill_table, robust_window, show_legend
from Agg2ExpLib.scene.nodes import UNITS, NodeKeeper
from Agg2ExpLib.scene.overlay import unit_of
from Agg2ExpLib.scene.segments import explained_segments

if TYPE_CHECKING:
    from Agg2ExpLib.volume import Grid, Volume

SCALARS = "Attribution strength"


def sample(volume: Volume, points: np.ndarray) -> np.ndarray:
    """Return the volume's values at RAS points of shape (n, 3), trilinear; 0 outside of it."""
    from scipy.ndimage import map_coordinates

    at = volume.grid.world_to_index(points).T
    values: np.ndarray = map_coordinates(volume.voxels.astype(np.float32, copy=False), at, order=1, mode="nearest")
    outside = ((at < -0.5) | (at > np.array(volume.shape)[:, None] - 0.5)).any(axis=0)
    return np.where(outside, np.float32(0), values)


def surface_of(node: Any, segment: Any) -> Any:
    """Return the closed surface of a segment as vtkPolyData in RAS."""
    import slicer

    name = slicer.vtkSegmentationConverter.GetClosedSurfaceRepresentationName()
    if not node.GetSegmentation().ContainsRepresentation(name):
        node.CreateClosedSurfaceRepresentation()
    return segment.GetRepresentation(name)


def surface_nodes(
    keeper: NodeKeeper, segmentation: Any, attribution: Volume, name: str, structures: list[str]
) -> list[Any]:
    """Make or update a model for the surface of each structure, coloured by |E| of a class on it.

    Parameters
    ----------
    keeper : NodeKeeper
        The explanation's nodes.
    segmentation : vtkMRMLSegmentationNode
        Holds the structures as segments.
    attribution : Volume
        E_c, on any grid.
    name : str
        The explained class.
    structures : list of str
        Whose surfaces; those without a segment are left out.

    Returns
    -------
    list of vtkMRMLModelNode
    """
    from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
    from vtkmodules.vtkCommonDataModel import vtkPolyData

    strength = _smoothed(np.abs(attribution.voxels), attribution.grid)
    segments = dict(explained_segments(segmentation, keeper.key))
    sampled = []
    for other in structures:
        surface = surface_of(segmentation, segments[other]) if other in segments else None
        if surface is None or not surface.GetNumberOfPoints():
            continue
        model = vtkPolyData()
        model.DeepCopy(surface)
        values = sample(strength, vtk_to_numpy(model.GetPoints().GetData()))
        scalars = numpy_to_vtk(np.ascontiguousarray(values, dtype=np.float32), deep=True)
        scalars.SetName(SCALARS)
        model.GetPointData().SetScalars(scalars)
        sampled.append((other, model, values))
    if not sampled:
        return []
    top = robust_window(np.concatenate([values for _, _, values in sampled]), 0, 99).top
    table = keeper.get(
        "vtkMRMLColorTableNode", "surface-colours", f"{structure(name).name}, colours of surfaces", Class=name
    )
    fill_table(table, colour_ramp("magnitude"), np.ones(LEVELS), (0.0, top))
    nodes = []
    for index, (other, model, _) in enumerate(sampled):
        node = keeper.get(
            "vtkMRMLModelNode",
            "surface",
            f"{structure(other).name}, attribution of {structure(name).name}",
            Class=name,
            Structure=other,
        )
        node.SetAndObservePolyData(model)
        node.SetAttribute(UNITS, unit_of(keeper.told["Agg2Exp.Method"]))
        node.SetAndObserveTransformNodeID(segmentation.GetTransformNodeID())
        display = keeper.display(node, "vtkMRMLModelDisplayNode")
        display.SetActiveScalarName(SCALARS)
        display.SetAndObserveColorNodeID(table.GetID())
        display.SetScalarRangeFlag(display.UseManualScalarRange)
        display.SetScalarRange(0.0, top)
        display.SetScalarVisibility(True)
        # What was used most must not hide inside another structure's surface.
        display.SetOpacity(1.0 if other == name else 0.4)
        display.SetVisibility2D(False)
        display.SetBackfaceCulling(False)
        show_legend(display, f"{structure(name).name}\nstrength\non surfaces", visible=index == 0)
        nodes.append(node)
    return nodes


def _smoothed(strength: np.ndarray, grid: Grid) -> Volume:
    """Blur by one voxel: gradients alternate from voxel to voxel, and a surface cuts between voxels."""
    from scipy.ndimage import gaussian_filter

    from Agg2ExpLib.volume import Volume

    return Volume(gaussian_filter(strength.astype(np.float32), 1.0), grid)
