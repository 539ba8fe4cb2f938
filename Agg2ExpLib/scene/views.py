"""Slice and 3D views: what they show, where they stand; and an empty scene outside of Slicer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

#: Names of the desktop's slice views, and how each looks at the patient.
SLICE_VIEWS = {"Red": "Axial", "Green": "Coronal", "Yellow": "Sagittal"}
_COLOURS = {"Red": (0.953, 0.290, 0.200), "Green": (0.431, 0.690, 0.294), "Yellow": (0.929, 0.835, 0.298)}


def new_scene() -> Any:
    """Return an empty vtkMRMLScene that knows every class of node which explanations need."""
    import slicer

    scene = slicer.vtkMRMLScene()
    # Slicer's modules register these when it starts; the core's scene does not know them by itself.
    for kind in (
        slicer.vtkMRMLColorLegendDisplayNode,
        slicer.vtkMRMLGPURayCastVolumeRenderingDisplayNode,
        slicer.vtkMRMLCPURayCastVolumeRenderingDisplayNode,
        slicer.vtkMRMLVolumePropertyNode,
        slicer.vtkMRMLVolumePropertyStorageNode,
        slicer.vtkMRMLShaderPropertyNode,
    ):
        scene.RegisterNodeClass(kind())
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    factory = slicer.vtkSegmentationConverterFactory.GetInstance()
    if not factory.GetConverterRules():
        # How surfaces are made of label maps: also registered by a module of the desktop.
        factory.RegisterConverterRule(slicer.vtkBinaryLabelmapToClosedSurfaceConversionRule())
        factory.RegisterConverterRule(slicer.vtkClosedSurfaceToBinaryLabelmapConversionRule())
    return scene


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


def fit_slices(scene: Any, bounds: Sequence[float], margin: float = 1.05) -> None:
    """Let every slice view hold the whole of a box (x from, x to, y from, y to, z from, z to in RAS millimetres)."""
    low, high = np.array(bounds[0::2]), np.array(bounds[1::2])
    middle, size = (low + high) / 2, (high - low) * margin
    for node in _of_class(scene, "vtkMRMLSliceNode"):
        to_ras = node.GetSliceToRAS()
        axes = np.array([[to_ras.GetElement(row, column) for column in range(2)] for row in range(3)])
        across, up = np.abs(axes).T @ size
        width, height, _ = node.GetDimensions()
        if width < 2 or height < 2:
            width = height = 512
            node.SetDimensions(width, height, 1)
        scale = max(across / width, up / height)
        node.SetFieldOfView(scale * width, scale * height, node.GetFieldOfView()[2] or 1.0)
        at = np.array([to_ras.GetElement(row, 3) for row in range(3)])
        normal = np.array([to_ras.GetElement(row, 2) for row in range(3)])
        # The slice stays where it is; only its middle moves within the plane.
        moved = middle + normal * float((at - middle) @ normal)
        for row in range(3):
            to_ras.SetElement(row, 3, float(moved[row]))
        node.UpdateMatrices()


def _of_class(scene: Any, class_name: str) -> Iterator[Any]:
    for index in range(scene.GetNumberOfNodesByClass(class_name)):
        yield scene.GetNthNodeByClass(index, class_name)


def _singleton(scene: Any, class_name: str, tag: str) -> Any:
    return next((node for node in _of_class(scene, class_name) if node.GetSingletonTag() == tag), None)
