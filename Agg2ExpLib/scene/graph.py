"""The importance graph where the structures are: a tube from each strong source's centre to the explained structure's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.scene.colours import LEVELS, colour_ramp, fill_table, show_legend
from Agg2ExpLib.scene.nodes import MEASURE, NodeKeeper
from Agg2ExpLib.scene.segments import unit_colour
from Agg2ExpLib.scene.tables import TITLES, legend_text

if TYPE_CHECKING:
    from Agg2ExpLib.volume import Volume

SCALARS = "Importance"
#: Radii in millimetres of the tube of the weakest and of the strongest edge, and of a centre.
THINNEST, THICKEST, CENTRE = 1.2, 5.0, 6.0
# Millimetres that a name takes in a view of the whole chest.
_NAME_WIDTH, _NAME_HEIGHT = 110.0, 16.0


def centre_of(mask: np.ndarray, grid: Any) -> np.ndarray | None:
    """Return the RAS position of the mask's voxel that is nearest to its centroid, shape (3,); None for an empty mask.

    The centroid itself lies outside of a ring such as the ribs, often in another organ.
    """
    at = np.argwhere(mask)
    if not len(at):
        return None
    nearest = at[np.argmin(((at - at.mean(axis=0)) ** 2).sum(axis=1))]
    return np.asarray(grid.index_to_world(nearest))


def centres_of(labels: Volume, names: Sequence[str], regions: Mapping[str, Volume]) -> dict[str, np.ndarray]:
    """Return structure -> centre for every class (but background) and region that has voxels."""
    from scipy.ndimage import find_objects

    centres = {}
    for value, box in enumerate(find_objects(labels.voxels.astype(np.int32)), start=1):
        if box is None or value >= len(names):
            continue
        found = centre_of(labels.voxels[box] == value, labels.grid)
        if found is not None:
            corner = np.array([part.start for part in box], dtype=float)
            centres[names[value]] = found + labels.affine[:3, :3] @ corner
    for name, region in regions.items():
        found = centre_of(region.voxels > 0, region.grid)
        if found is not None:
            centres[name] = found
    return centres


def graph_nodes(
    keeper: NodeKeeper,
    name: str,
    edges: Sequence[tuple[str, float]],
    centres: Mapping[str, np.ndarray],
    measure: str,
    top: float,
) -> list[Any]:
    """Make or update the graph of one explained class.

    Parameters
    ----------
    keeper : NodeKeeper
        The explanation's nodes.
    name : str
        The explained class, where every edge ends.
    edges : sequence of (str, float)
        Sources and their importance; sources without a centre, and the class itself, are left out.
    centres : mapping
        Structure -> RAS millimetres.
    measure : str
        What the importance is.
    top : float
        The importance that is drawn thickest and brightest.

    Returns
    -------
    list of vtkMRMLNode
        Edges (model), centres (model), labels (markups); empty when the class has no centre.
    """
    readable = structure(name).name
    drawn = [(source, value) for source, value in edges if source in centres and source != name]
    if name not in centres:
        return []
    table = keeper.get("vtkMRMLColorTableNode", "graph-colours", f"Graph, {TITLES[measure]}", Measure=measure)
    fill_table(table, colour_ramp("importance"), np.ones(LEVELS), (0.0, top))

    tubes = keeper.get("vtkMRMLModelNode", "graph", f"What {readable} relied on, in space", Class=name)
    tubes.SetAndObservePolyData(_edges(drawn, centres, centres[name], top))
    tubes.SetAttribute(MEASURE, measure)
    tubes.SetAttribute("Agg2Exp.Sources", ";".join(f"{source}={value!r}" for source, value in drawn))
    display = keeper.display(tubes, "vtkMRMLModelDisplayNode")
    display.SetActiveScalarName(SCALARS)
    display.SetAndObserveColorNodeID(table.GetID())
    display.SetScalarRangeFlag(display.UseManualScalarRange)
    display.SetScalarRange(0.0, top)
    display.SetScalarVisibility(bool(drawn))
    display.SetVisibility2D(False)
    # Segments may have colours of the same measure on a scale of their own.
    show_legend(display, legend_text(f"arrows, {readable}", measure), visible=bool(drawn))

    places = {name: centres[name]} | {source: centres[source] for source, _ in drawn}
    balls = keeper.get("vtkMRMLModelNode", "graph-centres", f"Structures that {readable} relied on", Class=name)
    balls.SetAndObservePolyData(_balls(places, name))
    shown = keeper.display(balls, "vtkMRMLModelDisplayNode")
    shown.SetActiveScalarName("Colour")
    shown.SetScalarRangeFlag(shown.UseDirectMapping)
    shown.SetScalarVisibility(True)
    shown.SetVisibility2D(False)
    labels = _labels(keeper, name, places, dict(drawn), measure)
    return [tubes, balls, labels]


def _edges(edges: Sequence[tuple[str, float]], centres: Mapping[str, np.ndarray], end: np.ndarray, top: float) -> Any:
    from vtkmodules.vtkFiltersCore import vtkAppendPolyData

    joined = vtkAppendPolyData()
    for source, value in edges:
        for part in _arrow(centres[source], end, value, THINNEST + (THICKEST - THINNEST) * min(value / top, 1.0)):
            joined.AddInputData(part)
    if not edges:
        from vtkmodules.vtkCommonDataModel import vtkPolyData

        return vtkPolyData()
    joined.Update()
    return joined.GetOutput()


def _arrow(start: np.ndarray, end: np.ndarray, value: float, radius: float) -> list[Any]:
    """A tube with a cone at the end that stops at the hull of the target's ball, scalars on every point."""
    from vtkmodules.vtkFiltersCore import vtkTubeFilter
    from vtkmodules.vtkFiltersSources import vtkConeSource, vtkLineSource

    along = end - start
    length = float(np.linalg.norm(along))
    along = along / length if length > 0 else np.array([0.0, 0.0, 1.0])
    head = min(4.0 * radius, 0.4 * length)
    tip = end - along * min(1.3 * CENTRE, 0.3 * length)
    neck = tip - along * head
    line = vtkLineSource()
    line.SetPoint1(*start)
    line.SetPoint2(*neck)
    tube = vtkTubeFilter()
    tube.SetInputConnection(line.GetOutputPort())
    tube.SetRadius(radius)
    tube.SetNumberOfSides(20)
    tube.CappingOn()
    cone = vtkConeSource()
    cone.SetCenter(*((neck + tip) / 2))
    cone.SetDirection(*along)
    cone.SetHeight(head)
    cone.SetRadius(2.0 * radius)
    cone.SetResolution(24)
    parts = []
    for source in (tube, cone):
        source.Update()
        parts.append(_with_scalars(source.GetOutput(), value))
    return parts


def _with_scalars(shape: Any, value: float) -> Any:
    from vtkmodules.util.numpy_support import numpy_to_vtk

    scalars = numpy_to_vtk(np.full(shape.GetNumberOfPoints(), value, dtype=np.float32), deep=True)
    scalars.SetName(SCALARS)
    # Only the scalars: texture coordinates and normals of tube and cone differ and would not join.
    shape.GetPointData().Initialize()
    shape.GetPointData().SetScalars(scalars)
    return shape


def _balls(places: Mapping[str, np.ndarray], target: str) -> Any:
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkFiltersCore import vtkAppendPolyData
    from vtkmodules.vtkFiltersSources import vtkSphereSource

    joined = vtkAppendPolyData()
    for name, place in places.items():
        ball = vtkSphereSource()
        ball.SetCenter(*place)
        ball.SetRadius(1.3 * CENTRE if name == target else CENTRE)
        ball.SetThetaResolution(28)
        ball.SetPhiResolution(20)
        ball.Update()
        shape = ball.GetOutput()
        colour = np.tile(np.round(np.array(unit_colour(name)) * 255).astype(np.uint8), (shape.GetNumberOfPoints(), 1))
        colours = numpy_to_vtk(colour, deep=True)
        colours.SetName("Colour")
        shape.GetPointData().Initialize()
        shape.GetPointData().SetScalars(colours)
        joined.AddInputData(shape)
    joined.Update()
    return joined.GetOutput()


def apart(places: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return where names are written: at their places, moved down where, from the front, one would cover another's.

    The first one, which is explained, stays.

    Examples
    --------
    >>> there = apart({"heart": np.array([0.0, 0.0, 5.0]), "aorta": np.array([10.0, 0.0, 0.0])})
    >>> [float(at[2]) for at in there.values()]
    [5.0, -11.0]
    """
    free: dict[str, np.ndarray] = {}
    first = next(iter(places), None)
    for name in sorted(places, key=lambda one: (one != first, -float(places[one][2]))):
        at = np.array(places[name], dtype=float)
        for other in sorted(free.values(), key=lambda one: -float(one[2])):
            if abs(at[0] - other[0]) < _NAME_WIDTH and abs(at[2] - other[2]) < _NAME_HEIGHT:
                at[2] = other[2] - _NAME_HEIGHT
        free[name] = at
    return {name: free[name] for name in places}


def _labels(
    keeper: NodeKeeper, name: str, places: Mapping[str, np.ndarray], values: Mapping[str, float], measure: str
) -> Any:
    node = keeper.get(
        "vtkMRMLMarkupsFiducialNode", "graph-labels", f"Names of what {structure(name).name} relied on", Class=name
    )
    changing = node.StartModify()
    node.RemoveAllControlPoints()
    for place, at in apart(places).items():
        told = structure(place).name
        if place in values:
            told += f"  {100 * values[place]:.0f} %" if measure == "mass" else f"  {values[place]:.1f}x"
        node.AddControlPoint(*(float(part) for part in at), told)
    node.SetLocked(True)
    node.EndModify(changing)
    display = keeper.display(node, "vtkMRMLMarkupsFiducialDisplayNode")
    display.SetGlyphScale(0.01)
    display.SetUseGlyphScale(True)
    display.SetTextScale(3.4)
    display.SetPropertiesLabelVisibility(False)
    display.SetPointLabelsVisibility(True)
    display.SetVisibility2D(False)
    display.SetOccludedVisibility(True)
    display.SetOccludedOpacity(1.0)
    for paint in (display.SetColor, display.SetSelectedColor, display.SetActiveColor):
        paint(1.0, 1.0, 1.0)
    return node
