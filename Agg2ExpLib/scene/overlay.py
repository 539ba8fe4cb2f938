"""An attribution over the CT: a float32 volume, a colour table with an opacity ramp, a fixed window, a legend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.scene.colours import Window, fill_overlay_table, robust_window, show_legend
from Agg2ExpLib.scene.nodes import CLASS, METHOD, MODE, UNITS, NodeKeeper
from Agg2ExpLib.scene.volumes import array_of, coded, fill_volume_node

if TYPE_CHECKING:
    from Agg2ExpLib.volume import Volume

Mode = Literal["magnitude", "signed"]
MODES: tuple[Mode, ...] = ("magnitude", "signed")
#: What attributions are measured in: gradients are slopes, integrated gradients and Shapley values are amounts of logit.
# Voxels of each axis that are compared to see whether an overlay is still what was drawn.
_SEEN = 64
_SLOPES = ("gradient", "smoothgrad")
_TITLES = {"magnitude": "relied on\nweak to strong", "signed": "spoke against -\nspoke for +"}


def short_unit(unit: str) -> str:
    """Return a unit as short as a legend needs it."""
    return "logit / input" if unit.startswith("logit per") else unit


def unit_of(method: str) -> str:
    """Return the unit of a method's attributions."""
    return "logit per unit of network input" if method in _SLOPES else "logit"


def overlay_node(
    keeper: NodeKeeper,
    attribution: Volume,
    name: str,
    mode: Mode,
    *,
    percentile: float,
    mask: np.ndarray | None = None,
    mask_name: str = "",
) -> tuple[Any, Window]:
    """Make or update the overlay of one class.

    Parameters
    ----------
    keeper : NodeKeeper
        The explanation's nodes.
    attribution : Volume of float32
        E_c on the model's grid.
    name : str
        The class.
    mode : {"magnitude", "signed"}
        |E| from 0, or E around 0.
    percentile : float
        Attributions weaker than this percentile of |E| are transparent, 0 to 100.
    mask : ndarray of bool, shape of the attribution
        Where it is shown; everywhere for None. The window does not depend on it.
    mask_name : str
        What the mask is, for the node's attribute.

    Returns
    -------
    node : vtkMRMLScalarVolumeNode
        With display, colour table and legend.
    window : Window
        What it shows.
    """
    if mode not in MODES:
        raise InputError(f"the overlay mode {mode!r} is unknown; use {', '.join(MODES)} or off")
    if not 0 <= percentile <= 100:
        raise InputError(f"the percentile {percentile:g} of an overlay is not from 0 to 100")
    from Agg2ExpLib.volume import Volume

    values = attribution.voxels
    window = robust_window(values, percentile)
    readable = structure(name).name
    node = keeper.get("vtkMRMLScalarVolumeNode", "overlay", f"{readable}, attribution ({mode})", Class=name, Mode=mode)
    kept = node.GetImageData() is not None and not mask_name and not node.GetAttribute("Agg2Exp.Mask")
    if not kept or mask is not None or not _holds(node, values, mode):
        # Where only the window changes the voxels stay: uploading them again would hold up the window.
        shown = np.abs(values) if mode == "magnitude" else values
        shown = shown if mask is None else np.where(mask, shown, np.float32(0))
        fill_volume_node(node, Volume(shown.astype(np.float32, copy=False), attribution.grid))
    unit = unit_of(keeper.told[METHOD])
    node.SetAttribute(UNITS, unit)
    node.SetAttribute("Agg2Exp.Mask", mask_name)
    node.SetAttribute("Agg2Exp.Percentile", f"{percentile:g}")
    node.SetAttribute("Agg2Exp.Threshold", repr(window.threshold))
    node.SetAttribute("Agg2Exp.WindowTop", repr(window.top))
    # UCUM writes a logit, which has no dimension, as 1.
    node.SetVoxelValueUnits(coded("1", "UCUM", unit))
    node.SetVoxelValueQuantity(coded("attribution", "99AGG2EXP", "Voxel attribution"))
    _show(keeper, node, name, mode, window)
    return node, window


def _holds(node: Any, values: np.ndarray, mode: Mode) -> bool:
    """Whether an overlay holds these values still: somebody may have changed it. A part of a large one tells."""
    there = array_of(node)
    if there.shape != values.shape:
        return False
    some = tuple(slice(None, None, max(size // _SEEN, 1)) for size in values.shape)
    wanted = np.abs(values[some]) if mode == "magnitude" else values[some]
    return bool(np.array_equal(there[some], wanted))


def _show(keeper: NodeKeeper, node: Any, name: str, mode: Mode, window: Window) -> None:
    readable = structure(name).name
    table = keeper.get(
        "vtkMRMLColorTableNode", "overlay-colours", f"{readable}, colours ({mode})", Class=name, Mode=mode
    )
    fill_overlay_table(table, mode, window)
    display = keeper.display(node, "vtkMRMLScalarVolumeDisplayNode")
    display.SetAndObserveColorNodeID(table.GetID())
    display.AutoWindowLevelOff()
    low = -window.top if mode == "signed" else 0.0
    display.SetWindowLevelMinMax(low, window.top)
    # A threshold takes away what is exactly 0 at interpolated borders, too; the table's opacity does it softly.
    display.ApplyThresholdOff()
    display.InterpolateOn()
    show_legend(display, legend_title(node), visible=False, space=False)


def table_of(keeper: NodeKeeper, name: str, mode: Mode) -> Any:
    """Return the colour table of a class's overlay, None before it was shown."""
    return keeper.find("vtkMRMLColorTableNode", "overlay-colours", Class=name, Mode=mode)


def legend_title(node: Any) -> str:
    """Return what the legend of an overlay says, in words; the unit is an attribute of the node."""
    return f"{structure(node.GetAttribute(CLASS)).name}\n{_TITLES[node.GetAttribute(MODE)]}"


def hide_legends(keeper: NodeKeeper) -> None:
    """Hide the legends of every overlay of the explanation."""
    import slicer

    for node in keeper.all("vtkMRMLScalarVolumeNode", "overlay"):
        legend = slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(node.GetDisplayNode())
        if legend is not None:
            legend.SetVisibility(False)
