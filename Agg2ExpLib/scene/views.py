"""Slice and 3D views: what they show, where they stand; and an empty scene outside of Slicer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

#: Names of the desktop's slice views, and how each looks at the patient.
SLICE_VIEWS = {"Red": "Axial", "Green": "Coronal", "Yellow": "Sagittal"}
_COLOURS = {"Red": (0.953, 0.290, 0.200), "Green": (0.431, 0.690, 0.294), "Yellow": (0.929, 0.835, 0.298)}
_OF_MODULES = (
    "vtkMRMLColorLegendDisplayNode",
    "vtkMRMLGPURayCastVolumeRenderingDisplayNode",
    "vtkMRMLCPURayCastVolumeRenderingDisplayNode",
    "vtkMRMLVolumePropertyNode",
    "vtkMRMLVolumePropertyStorageNode",
    "vtkMRMLVolumePropertyJsonStorageNode",
    "vtkMRMLShaderPropertyNode",
    "vtkMRMLMarkupsJsonStorageNode",
)


def new_scene() -> Any:
    """Return an empty vtkMRMLScene that knows every class of node which explanations need."""
    import slicer

    scene = slicer.vtkMRMLScene()
    know_nodes(scene)
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    return scene


def know_nodes(scene: Any) -> None:
    """Register the classes of node that the desktop's modules register there, and that a bare scene does not know.

    Without a class its nodes cannot be added, and without a storage class a saved scene loses what the nodes hold.
    """
    import slicer

    for name in _OF_MODULES:
        known = scene.CreateNodeByClass(name)
        if known is None:
            scene.RegisterNodeClass(getattr(slicer, name)())
        else:
            known.UnRegister(None)
    factory = slicer.vtkSegmentationConverterFactory.GetInstance()
    if not factory.GetConverterRules():
        # How surfaces are made of label maps.
        factory.RegisterConverterRule(slicer.vtkBinaryLabelmapToClosedSurfaceConversionRule())
        factory.RegisterConverterRule(slicer.vtkClosedSurfaceToBinaryLabelmapConversionRule())


def add_missing_views(scene: Any) -> None:
    """Add the desktop's three slice views and its 3D view to a scene that lacks them."""
    import slicer

    for name, orientation in SLICE_VIEWS.items():
        if _singleton(scene, "vtkMRMLSliceNode", name) is None:
            slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
            # The scene's factory gives the node those presets.
            node = scene.CreateNodeByClass("vtkMRMLSliceNode")
            node.UnRegister(None)
            node.SetName(name)
            node.SetLayoutName(name)
            node.SetLayoutLabel(name[0])
            node.SetLayoutColor(*_COLOURS[name])
            node.SetSingletonTag(name)
            scene.AddNode(node)
            node.SetOrientation(orientation)
        if _singleton(scene, "vtkMRMLSliceCompositeNode", name) is None:
            composite = slicer.vtkMRMLSliceCompositeNode()
            composite.SetName(f"{name} composite")
            composite.SetLayoutName(name)
            composite.SetSingletonTag(name)
            scene.AddNode(composite)
    if _singleton(scene, "vtkMRMLViewNode", "1") is None:
        view = slicer.vtkMRMLViewNode()
        view.SetName("View1")
        view.SetLayoutName("1")
        view.SetLayoutLabel("1")
        view.SetSingletonTag("1")
        scene.AddNode(view)


def show_in_slices(scene: Any, background: Any, foreground: Any, opacity: float) -> None:
    """Show a CT and an overlay (or None) in every slice view."""
    for composite in _of_class(scene, "vtkMRMLSliceCompositeNode"):
        if background is not None:
            composite.SetBackgroundVolumeID(background.GetID())
        composite.SetForegroundVolumeID(foreground.GetID() if foreground is not None else None)
        composite.SetForegroundOpacity(opacity if foreground is not None else 0.0)


def in_slices(scene: Any, nodes: Sequence[Any]) -> bool:
    """Tell whether any slice view has one of these volumes as its foreground."""
    identifiers = {node.GetID() for node in nodes}
    return any(
        composite.GetForegroundVolumeID() in identifiers for composite in _of_class(scene, "vtkMRMLSliceCompositeNode")
    )


def jump_to(scene: Any, position: Sequence[float]) -> None:
    """Centre every slice view on a RAS position."""
    for node in _of_class(scene, "vtkMRMLSliceNode"):
        node.JumpSliceByCentering(*(float(part) for part in position))


def fit_slices(scene: Any, bounds: Sequence[float], *, right: float = 0.0, top: float = 0.0) -> None:
    """Let every slice view hold the whole of a box.

    Parameters
    ----------
    scene : vtkMRMLScene
        Whose slice views.
    bounds : sequence of six float
        x from, x to, y from, y to, z from, z to in RAS millimetres.
    right, top : float
        Shares of the view's width and height that stay free for a legend and a title.
    """
    low, high = np.array(bounds[0::2]), np.array(bounds[1::2])
    middle, size = (low + high) / 2, (high - low) * 1.03
    for node in _of_class(scene, "vtkMRMLSliceNode"):
        to_ras = node.GetSliceToRAS()
        axes = np.array([[to_ras.GetElement(row, column) for column in range(3)] for row in range(3)])
        across, up = np.abs(axes[:, :2]).T @ size
        width, height, _ = node.GetDimensions()
        if width < 2 or height < 2:
            # A view that has never been on a screen has no size; the desktop fits it to its own.
            width = height = 512
            node.SetDimensions(width, height, 1)
        scale = max(across / (width * (1 - right)), up / (height * (1 - top)))
        node.SetFieldOfView(scale * width, scale * height, node.GetFieldOfView()[2] or 1.0)
        at = np.array([to_ras.GetElement(row, 3) for row in range(3)])
        # The slice stays where it is; only its middle moves within the plane.
        moved = middle + axes[:, 2] * float((at - middle) @ axes[:, 2])
        moved = moved + axes[:, 0] * (right * scale * width / 2) + axes[:, 1] * (top * scale * height / 2)
        for row in range(3):
            to_ras.SetElement(row, 3, float(moved[row]))
        node.UpdateMatrices()


def slice_through(scene: Any, position: Sequence[float]) -> None:
    """Move every slice to the depth of a RAS position, without moving it within its plane."""
    for node in _of_class(scene, "vtkMRMLSliceNode"):
        node.JumpSliceByOffsetting(*(float(part) for part in position))


def show_table_and_chart(scene: Any, table: Any, chart: Any, volume: Any) -> None:
    """Choose the layout with slices, 3D, chart and table, and what chart and table views show (None: nothing)."""
    import slicer

    layout = _singleton(scene, "vtkMRMLLayoutNode", "vtkMRMLLayoutNode")
    if layout is None:
        layout = slicer.vtkMRMLLayoutNode()
        layout.SetSingletonTag("vtkMRMLLayoutNode")
        layout = scene.AddNode(layout)
    kind = slicer.vtkMRMLLayoutNode
    layout.SetViewArrangement(kind.SlicerLayoutFourUpView if chart is None else kind.SlicerLayoutFourUpPlotTableView)
    for class_name, tag, show in (
        ("vtkMRMLTableViewNode", "TableView1", lambda node: node.SetTableNodeID(table.GetID() if table else None)),
        ("vtkMRMLPlotViewNode", "PlotView1", lambda node: node.SetPlotChartNodeID(chart.GetID() if chart else None)),
    ):
        node = _singleton(scene, class_name, tag)
        if node is None:
            node = scene.CreateNodeByClass(class_name)
            node.UnRegister(None)
            node.SetName(tag)
            node.SetLayoutName(tag)
            node.SetSingletonTag(tag)
            node = scene.AddNode(node)
        show(node)
    selection = _singleton(scene, "vtkMRMLSelectionNode", "Singleton")
    if selection is None:
        selection = slicer.vtkMRMLSelectionNode()
        selection.SetSingletonTag("Singleton")
        selection = scene.AddNode(selection)
    selection.SetActiveVolumeID(volume.GetID() if volume else None)
    selection.SetActiveTableID(table.GetID() if table else None)
    selection.SetActivePlotChartID(chart.GetID() if chart else None)


def look_from_front(scene: Any, bounds: Sequence[float], *, aside: float = 0.0) -> None:
    """Put the first 3D view's camera before the patient, a little to the left and above, with the whole box in sight.

    ``aside`` is the share of the box's height by which it is moved to the left, to make room for a legend.
    """
    low, high = np.array(bounds[0::2]), np.array(bounds[1::2])
    middle = (low + high) / 2 - np.array([aside * float((high - low).max()), 0.0, 0.0])
    away = np.array([-0.35, 1.0, 0.25])
    # So far that the box's larger side fills the view's height at an angle of 30 degrees.
    away *= 0.62 * float((high - low).max()) / np.linalg.norm(away) / np.tan(np.radians(15))
    for view in _of_class(scene, "vtkMRMLViewNode"):
        view.SetBoxVisible(False)
        view.SetAxisLabelsVisible(False)
        view.SetOrientationMarkerType(view.OrientationMarkerTypeCube)
        camera = next(
            (node for node in _of_class(scene, "vtkMRMLCameraNode") if node.GetLayoutName() == view.GetLayoutName()),
            None,
        )
        if camera is None:
            camera = scene.CreateNodeByClass("vtkMRMLCameraNode")
            camera.UnRegister(None)
            camera.SetName("Camera")
            camera.SetLayoutName(view.GetLayoutName())
            camera = scene.AddNode(camera)
        camera.SetFocalPoint(*(float(part) for part in middle))
        camera.SetPosition(*(float(part) for part in middle + away))
        camera.SetViewUp(0.0, 0.0, 1.0)
        camera.SetViewAngle(30.0)
        camera.ResetClippingRange()


def _of_class(scene: Any, class_name: str) -> Iterator[Any]:
    for index in range(scene.GetNumberOfNodesByClass(class_name)):
        yield scene.GetNthNodeByClass(index, class_name)


def _singleton(scene: Any, class_name: str, tag: str) -> Any:
    return next((node for node in _of_class(scene, class_name) if node.GetSingletonTag() == tag), None)
