"""The ctk widgets that the panel uses."""

from PySide6.QtCore import Property, Qt, Signal
from PySide6.QtWidgets import QDoubleSpinBox, QHBoxLayout, QLineEdit, QPushButton, QSizePolicy, QSlider, QWidget


class ctkCollapsibleButton(QWidget):
    """A title that shows and hides what is under it; the layout belongs to the widget itself, as in ctk."""

    contentsCollapsed = Signal(bool)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._collapsed, self._text = False, ""
        self._button = QPushButton(self)
        self._button.setFlat(True)
        self._button.setStyleSheet(
            "text-align: left; padding: 2px 4px; font-weight: bold; border: 1px solid palette(mid);"
        )
        self._button.clicked.connect(lambda *_: self.setCollapsed(not self._collapsed))
        self.setContentsMargins(0, 30, 0, 0)

    def setText(self, text):
        self._text = text
        self._draw()

    def setCollapsed(self, collapsed):
        if bool(collapsed) == self._collapsed:
            return
        self._collapsed = bool(collapsed)
        # What is inside is cut off, not hidden: some of it is hidden for reasons of its own.
        self.setMaximumHeight(30 if self._collapsed else 16777215)
        self._draw()
        self.contentsCollapsed.emit(self._collapsed)

    def resizeEvent(self, event):
        self._button.setGeometry(0, 2, self.width(), 26)

    def _draw(self):
        self._button.setText(("▸ " if self._collapsed else "▾ ") + self._text)

    text = Property(str, lambda self: self._text, setText)
    collapsed = Property(bool, lambda self: self._collapsed, setCollapsed)


class ctkSearchBox(QLineEdit):
    """A line with a button that empties it."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self.setClearButtonEnabled(True)


class ctkSliderWidget(QWidget):
    """A slider beside a number."""

    valueChanged = Signal(float)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._slider, self._box = QSlider(Qt.Horizontal), QDoubleSpinBox()
        self._slider.setRange(0, 1000)
        self._box.setSizePolicy(QSizePolicy.Fixed, QSizePolicy.Fixed)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._slider, 1)
        row.addWidget(self._box)
        self._box.valueChanged.connect(self._box_moved)
        self._slider.valueChanged.connect(self._slider_moved)
        self._box.setRange(0, 99)

    def _box_moved(self, value):
        low, high = self._box.minimum(), self._box.maximum()
        self._slider.blockSignals(True)
        self._slider.setValue(round((value - low) / max(high - low, 1e-9) * 1000))
        self._slider.blockSignals(False)
        self.valueChanged.emit(value)

    def _slider_moved(self, position):
        low, high = self._box.minimum(), self._box.maximum()
        self._box.setValue(low + position / 1000 * (high - low))

    value = Property(float, lambda self: self._box.value(), lambda self, value: self._box.setValue(value))
    minimum = Property(float, lambda self: self._box.minimum(), lambda self, value: self._box.setMinimum(value))
    maximum = Property(float, lambda self: self._box.maximum(), lambda self, value: self._box.setMaximum(value))
    singleStep = Property(
        float, lambda self: self._box.singleStep(), lambda self, value: self._box.setSingleStep(value)
    )
    decimals = Property(int, lambda self: self._box.decimals(), lambda self, value: self._box.setDecimals(value))
    suffix = Property(str, lambda self: self._box.suffix(), lambda self, value: self._box.setSuffix(value))


def __getattr__(name):
    """Slicer's own files name many widgets; a bare one is enough to name."""
    if not name.startswith("ctk"):
        raise AttributeError(name)
    globals()[name] = type(name, (QWidget,), {})
    return globals()[name]
