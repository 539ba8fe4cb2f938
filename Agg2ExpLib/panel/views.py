"""Layouts, and pictures in windows of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
import slicer

#: Number of this module's layout, out of the way of Slicer's own.
PLOT_LAYOUT = 2407
#: Attribute of the layout node: the layout before this module's.
BEFORE = "Agg2Exp.LayoutBefore"
# Pixels of a picture in its window, and of that window.
_WIDEST, _HIGHEST = 1000, 860
_SLICES = (
    ("Red", "Axial", "R", "#F34A33"),
    ("Yellow", "Sagittal", "Y", "#EDD54C"),
    ("Green", "Coronal", "G", "#6EB04B"),
)


def add_layout() -> None:
    """Tell Slicer of this module's layout: its own of plot and table has no 3D view. Scenes may have been saved with it."""
    layout = _layout_node()
    if layout is not None and not layout.IsLayoutDescription(PLOT_LAYOUT):
        layout.AddLayoutDescription(PLOT_LAYOUT, _description())


def show_plot_and_table(chart: Any, table: Any) -> None:
    """Show a chart and a table below the slices and beside the 3D view; does nothing where Slicer has no window."""
    layout = _layout_node()
    if layout is not None:
        if layout.GetViewArrangement() != PLOT_LAYOUT:
            layout.SetAttribute(BEFORE, str(layout.GetViewArrangement()))
        add_layout()
        layout.SetViewArrangement(PLOT_LAYOUT)
    choose_chart(chart, table)


def choose_chart(chart: Any, table: Any = None) -> None:
    """Show a chart, or None, in the plot view, where there is one; and a table, when one is given."""
    selection = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSelectionNode")
    if selection is not None:
        if table is not None:
            selection.SetActiveTableID(table.GetID())
        selection.SetActivePlotChartID(chart.GetID() if chart else None)
    logic = slicer.app.applicationLogic()
    if logic is not None:
        logic.PropagatePlotChartSelection()
        logic.PropagateTableSelection()


def active_chart() -> Any:
    """Return the chart that the plot view shows; ``None`` when it shows none."""
    selection = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSelectionNode")
    identifier = selection.GetActivePlotChartID() if selection is not None else None
    return slicer.mrmlScene.GetNodeByID(identifier) if identifier else None


def leave_plots() -> bool:
    """Show the layout that was there before plot and table; returns whether they were shown."""
    layout = _layout_node()
    if layout is None or layout.GetViewArrangement() != PLOT_LAYOUT:
        return False
    layout.SetViewArrangement(int(layout.GetAttribute(BEFORE) or layout.SlicerLayoutFourUpView))
    return True


def show_3d() -> None:
    """Choose a layout with a 3D view when the one that is chosen has none."""
    manager = slicer.app.layoutManager()
    if manager is None:
        return
    logic = manager.layoutLogic()
    views = logic.GetViewNodes()
    shown = [views.GetItemAsObject(index) for index in range(views.GetNumberOfItems())]
    if not any(view.IsA("vtkMRMLViewNode") for view in shown):
        logic.GetLayoutNode().SetViewArrangement(logic.GetLayoutNode().SlicerLayoutFourUpView)


def _layout_node() -> Any:
    """Return the node that says which layout is shown; ``None`` where Slicer has no window."""
    manager = slicer.app.layoutManager()
    return manager.layoutLogic().GetLayoutNode() if manager is not None else None


def _description() -> str:
    slices = [
        f'<item><view class="vtkMRMLSliceNode" singletontag="{name}">'
        f'<property name="orientation" action="default">{orientation}</property>'
        f'<property name="viewlabel" action="default">{label}</property>'
        f'<property name="viewcolor" action="default">{colour}</property></view></item>'
        for name, orientation, label, colour in _SLICES
    ]
    others = [
        f'<item><view class="{kind}" singletontag="{tag}">'
        f'<property name="viewlabel" action="default">{label}</property></view></item>'
        for kind, tag, label in (
            ("vtkMRMLViewNode", "1", "1"),
            ("vtkMRMLPlotViewNode", "PlotView1", "P"),
            ("vtkMRMLTableViewNode", "TableView1", "T"),
        )
    ]
    rows = [f'<item><layout type="horizontal">{"".join(row)}</layout></item>' for row in (slices, others)]
    return f'<layout type="vertical" split="true">{"".join(rows)}</layout>'


def is_dark(widget: Any) -> bool:
    """Whether a widget is drawn light on dark."""
    # Kept by name: PythonQt's colour is a part of it, not a copy.
    palette = widget.property("palette")
    return bool(palette.color(qt.QPalette.Window).lightness() < 128)


def show_picture(parent: Any, path: Path, title: str) -> Any:
    """Show a picture in a window that can be scrolled; returns the window."""
    window = qt.QDialog(parent)
    window.setWindowTitle(title)
    picture = qt.QLabel()
    pixmap = qt.QPixmap(str(path))
    pixmap = pixmap.scaledToWidth(min(pixmap.width(), _WIDEST), qt.Qt.SmoothTransformation)
    picture.setPixmap(pixmap)
    picture.setAccessibleName(title)
    area = qt.QScrollArea()
    area.setWidget(picture)
    layout = qt.QVBoxLayout(window)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.addWidget(area)
    # As large as its picture, as far as a small screen allows.
    window.resize(pixmap.width() + 4, min(pixmap.height() + 4, _HIGHEST))
    window.show()
    return window
