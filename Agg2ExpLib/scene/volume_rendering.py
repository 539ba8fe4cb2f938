"""An attribution's strength as a glow in the 3D view, with transfer functions of its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from Agg2ExpLib.scene.colours import Window, colour_ramp
from Agg2ExpLib.scene.nodes import NodeKeeper


def render_volume(keeper: NodeKeeper, node: Any, window: Window, name: str, *, opacity: float = 0.5) -> Any:
    """Show a magnitude overlay by volume rendering; return the display node.

    Parameters
    ----------
    keeper : NodeKeeper
        The explanation's nodes.
    node : vtkMRMLScalarVolumeNode
        |E| of the class.
    window : Window
        Nothing is drawn under its threshold; full colour and ``opacity`` at its top.
    name : str
        The class.
    opacity : float
        Per voxel at the window's top, 0 to 1.
    """
    keeper.mark(node, "overlay")
    display = keeper.display(node, "vtkMRMLVolumeRenderingDisplayNode") if _has(node) else None
    if display is None:
        display = keeper.scene.AddNewNodeByClass("vtkMRMLGPURayCastVolumeRenderingDisplayNode")
        node.AddAndObserveDisplayNodeID(display.GetID())
    chosen = keeper.get("vtkMRMLVolumePropertyNode", "volume-property", f"{node.GetName()}, rendering", Class=name)
    fill_property(chosen, window, opacity)
    display.SetAndObserveVolumePropertyNodeID(chosen.GetID())
    display.SetFollowVolumeDisplayNode(False)
    display.SetCroppingEnabled(False)
    display.SetVisibility(True)
    return display


def hide_renderings(keeper: NodeKeeper) -> None:
    """Hide every volume rendering of the explanation."""
    for node in keeper.all("vtkMRMLScalarVolumeNode", "overlay"):
        for index in range(node.GetNumberOfDisplayNodes()):
            display = node.GetNthDisplayNode(index)
            if display is not None and display.IsA("vtkMRMLVolumeRenderingDisplayNode"):
                display.SetVisibility(False)


def fill_property(node: Any, window: Window, opacity: float) -> None:
    """Give a vtkMRMLVolumePropertyNode the transfer functions of a window, without shading and gradients."""
    from vtkmodules.vtkCommonDataModel import vtkPiecewiseFunction
    from vtkmodules.vtkRenderingCore import vtkColorTransferFunction

    colours, clear, flat = vtkColorTransferFunction(), vtkPiecewiseFunction(), vtkPiecewiseFunction()
    ramp = colour_ramp("magnitude", 16)
    # The same colours as in the slices, so that one legend tells both.
    for value, colour in zip(np.linspace(0.0, window.top, len(ramp)), ramp, strict=True):
        colours.AddRGBPoint(float(value), *(float(part) for part in colour))
    clear.AddPoint(0.0, 0.0)
    clear.AddPoint(window.threshold, 0.0)
    # Squared, so that the strong core is seen through the weak hull.
    for share in (0.25, 0.5, 0.75, 1.0):
        clear.AddPoint(window.threshold + share * (window.top - window.threshold), opacity * share**2)
    flat.AddPoint(0.0, 1.0)
    flat.AddPoint(max(window.top, 1e-30), 1.0)
    shown = node.GetVolumeProperty()
    shown.SetColor(colours)
    shown.SetScalarOpacity(clear)
    shown.SetGradientOpacity(flat)
    shown.ShadeOff()
    shown.SetInterpolationTypeToLinear()
    node.Modified()


def _has(node: Any) -> bool:
    count = node.GetNumberOfDisplayNodes()
    shown = (node.GetNthDisplayNode(index) for index in range(count))
    return any(one is not None and one.IsA("vtkMRMLVolumeRenderingDisplayNode") for one in shown)
