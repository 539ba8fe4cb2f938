"""Small parts that every section of the panel is made of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import qt

from Agg2ExpLib.panel.words.buttons import Look

#: Side of a colour patch in tables and lists, pixels.
PATCH = 12


def read(widget: Any, name: str) -> Any:
    """Return a Qt property: PythonQt has properties as attributes, PySide6 as methods, both answer this."""
    return widget.property(name)


@contextmanager
def busy() -> Iterator[None]:
    """Show the waiting cursor while something is read that takes longer than a moment; views are drawn once, at the end."""
    import slicer.util

    qt.QApplication.setOverrideCursor(qt.QCursor(qt.Qt.WaitCursor))
    try:
        with slicer.util.RenderBlocker():
            yield
    finally:
        qt.QApplication.restoreOverrideCursor()


def unbroken(text: str) -> str:
    """Return a text in which a number keeps its unit, and a range its ends, on one line."""
    return re.sub(r"(?<=\d)-(?=\d)", "\u2011", text).replace(" %", "\u00a0%")


def apply_look(widget: Any, look: Look) -> None:
    """Give a button its text, tooltip and whether it can be pressed."""
    widget.setText(look.text)
    widget.setToolTip(look.tooltip)
    widget.setEnabled(look.enabled)


def chosen(box: Any) -> Any:
    """Return the data of a drop-down list's current entry; ``None`` when it is empty."""
    index = read(box, "currentIndex")
    return box.itemData(index) if index >= 0 else None


def choose(box: Any, data: Any) -> bool:
    """Select the entry with that data; returns whether there is one."""
    index = box.findData(data)
    if index >= 0:
        box.setCurrentIndex(index)
    return bool(index >= 0)


def patch(colour: tuple[int, int, int], size: int = PATCH) -> Any:
    """Return a square of a structure's colour with an outline, so that black and white show on any theme."""
    pixmap = qt.QPixmap(size, size)
    pixmap.fill(qt.QColor(128, 128, 128))
    painter = qt.QPainter(pixmap)
    painter.fillRect(1, 1, size - 2, size - 2, qt.QColor(*colour))
    painter.end()
    return pixmap


def icon(pixmap: Any) -> Any:
    """Return a picture as an icon that is not tinted on a chosen line: its colour is what it says."""
    made = qt.QIcon(pixmap)
    made.addPixmap(pixmap, qt.QIcon.Selected)
    made.addPixmap(pixmap, qt.QIcon.Disabled)
    return made


def bar(share: float, colour: tuple[int, int, int], width: int, height: int = PATCH) -> Any:
    """Return a bar whose length is a share of ``width``; drawn on nothing, so that it fits any theme."""
    pixmap = qt.QPixmap(width, height)
    pixmap.fill(qt.QColor(0, 0, 0, 0))
    length = max(round(min(max(share, 0.0), 1.0) * (width - 1)), 1 if share > 0 else 0)
    if length:
        painter = qt.QPainter(pixmap)
        painter.fillRect(0, 1, length, height - 2, qt.QColor(128, 128, 128))
        painter.fillRect(1, 2, max(length - 2, 0), height - 4, qt.QColor(*colour))
        painter.end()
    return pixmap


def reveal(widget: Any) -> None:
    """Scroll what a widget lies in, such as Slicer's module panel, so that the widget stands at the top."""
    area = widget.parentWidget()
    while area is not None and not area.inherits("QScrollArea"):
        area = area.parentWidget()
    if area is None:
        return

    def scroll() -> None:
        area.verticalScrollBar().setValue(widget.mapTo(area.widget(), qt.QPoint(0, 0)).y())

    # Widgets that were filled or shown just now get their places first.
    qt.QTimer.singleShot(0, scroll)
