"""Small parts that every section of the panel is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ctk
import qt

from Agg2ExpLib.panel.state import Look

#: Side of a colour patch in tables and lists, pixels.
PATCH = 12


def read(widget: Any, name: str) -> Any:
    """Return a Qt property: PythonQt has properties as attributes, PySide6 as methods, both answer this."""
    return widget.property(name)


@contextmanager
def busy() -> Iterator[None]:
    """Show the waiting cursor while something is read that takes longer than a moment."""
    qt.QApplication.setOverrideCursor(qt.QCursor(qt.Qt.WaitCursor))
    try:
        yield
    finally:
        qt.QApplication.restoreOverrideCursor()


def section(title: str, layout: Any, *, collapsed: bool = False) -> tuple[Any, Any]:
    """Add a collapsible section to a layout; return it and its own vertical layout."""
    frame = ctk.ctkCollapsibleButton()
    frame.text = title
    inner = qt.QVBoxLayout(frame)
    inner.setContentsMargins(6, 6, 6, 6)
    inner.setSpacing(5)
    layout.addWidget(frame)
    frame.collapsed = collapsed
    return frame, inner


def form(layout: Any) -> Any:
    """Add a form to a layout; its fields wrap under long labels, so that 380 pixels suffice."""
    found = qt.QFormLayout()
    found.setContentsMargins(0, 0, 0, 0)
    found.setSpacing(5)
    found.setRowWrapPolicy(qt.QFormLayout.WrapLongRows)
    found.setFieldGrowthPolicy(qt.QFormLayout.AllNonFixedFieldsGrow)
    layout.addLayout(found)
    return found


def row(layout: Any, *widgets: Any, stretch: int = -1) -> Any:
    """Add widgets side by side; the one at ``stretch`` takes the room."""
    found = qt.QHBoxLayout()
    found.setContentsMargins(0, 0, 0, 0)
    found.setSpacing(4)
    for index, widget in enumerate(widgets):
        found.addWidget(widget, 1 if index == stretch else 0)
    layout.addLayout(found)
    return found


def button(text: str, pressed: Callable[..., Any], tip: str = "", *, name: str = "", small: bool = False) -> Any:
    """Return a button; a small one is as narrow as its text."""
    made = qt.QToolButton() if small else qt.QPushButton()
    made.setText(text)
    made.setToolTip(tip)
    made.setAccessibleName(name or text)
    made.setObjectName(name or text)
    made.clicked.connect(lambda *_: pressed())
    return made


def apply_look(widget: Any, look: Look) -> None:
    """Give a button its text, tooltip and whether it can be pressed."""
    widget.setText(look.text)
    widget.setToolTip(look.tooltip)
    widget.setEnabled(look.enabled)


def note(text: str = "") -> Any:
    """Return a line of words that wraps and can be copied."""
    label = qt.QLabel(text)
    label.setWordWrap(True)
    label.setTextInteractionFlags(qt.Qt.TextSelectableByMouse | qt.Qt.TextSelectableByKeyboard)
    label.setFocusPolicy(qt.Qt.NoFocus)
    # A long word, such as a path, must not widen the whole panel; the height follows the width that there is.
    policy = qt.QSizePolicy(qt.QSizePolicy.Ignored, qt.QSizePolicy.Preferred)
    policy.setHeightForWidth(True)
    label.setSizePolicy(policy)
    label.setMinimumWidth(1)
    return label


def choice(tip: str = "", name: str = "") -> Any:
    """Return a drop-down list that shortens long entries instead of widening the panel."""
    box = qt.QComboBox()
    box.setToolTip(tip)
    box.setAccessibleName(name)
    box.setObjectName(name)
    box.setSizeAdjustPolicy(qt.QComboBox.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(6)
    return box


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


def whole_number(low: int, high: int, value: int, tip: str, name: str) -> Any:
    """Return a box for whole numbers."""
    box = qt.QSpinBox()
    box.setRange(low, high)
    box.setValue(value)
    box.setToolTip(tip)
    box.setAccessibleName(name)
    box.setObjectName(name)
    return box


def slider(low: float, high: float, value: float, step: float, tip: str, name: str, suffix: str = "") -> Any:
    """Return a slider beside a number."""
    made = ctk.ctkSliderWidget()
    # Decimals first: the limits are rounded to them.
    made.decimals = 0 if step >= 1 else 1 if step >= 0.1 else 2
    made.minimum, made.maximum = low, high
    made.singleStep = step
    made.suffix = suffix
    made.value = value
    made.setToolTip(tip)
    made.setObjectName(name)
    return made


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
