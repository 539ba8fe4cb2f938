"""Layouts, and pictures in windows of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
import slicer


def show_plot_and_table(chart: Any, table: Any) -> None:
    """Show a chart and a table beside the slice and 3D views; does nothing where Slicer has no window."""
    selection = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSelectionNode")
    if selection is not None:
        selection.SetActivePlotChartID(chart.GetID() if chart else None)
        selection.SetActiveTableID(table.GetID() if table else None)
    manager = slicer.app.layoutManager()
    if manager is None:
        return
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpPlotTableView)
    logic = slicer.app.applicationLogic()
    if logic is not None:
        logic.PropagatePlotChartSelection()
        logic.PropagateTableSelection()


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
    picture.setPixmap(pixmap.scaledToWidth(min(pixmap.width(), 1000), qt.Qt.SmoothTransformation))
    picture.setAccessibleName(title)
    area = qt.QScrollArea()
    area.setWidget(picture)
    layout = qt.QVBoxLayout(window)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.addWidget(area)
    window.resize(1020, 760)
    window.show()
    return window
