"""Controls made of descriptions of options: a check box, a number, a list or a line of text each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import qt

from Agg2ExpLib.panel.sections import widgets
from Agg2ExpLib.panel.signals import Signal
from Agg2ExpLib.panel.words.options import Option, given

#: Steps from the lowest to the highest number of a range that is known, by the arrows of its box.
_STEPS = 20


class OptionControls:
    """A form that is filled anew for each list of options.

    Parameters
    ----------
    frame : QWidget
        With a QFormLayout; hidden while there are no options.

    Attributes
    ----------
    changed : Signal
        Without values: the user has changed one.
    """

    def __init__(self, frame: Any) -> None:
        self.changed = Signal()
        self.frame = frame
        self.widgets: dict[str, Any] = {}
        self._options: tuple[Option, ...] = ()
        frame.setVisible(False)

    def show(self, options: Sequence[Option], values: Mapping[str, Any]) -> None:
        """Show these options with these values; where none is given, or it is not allowed, the default."""
        form = self.frame.layout()
        if tuple(options) != self._options:
            for _old in self.widgets:
                form.removeRow(0)
            self._options = tuple(options)
            self.widgets = {}
            for one in self._options:
                self.widgets[one.name] = self._add(form, one)
            self.frame.setVisible(bool(self._options))
        for one in self._options:
            value = values.get(one.name, one.default)
            widget = self.widgets[one.name]
            widget.blockSignals(True)
            _put(widget, one, value if one.accepts(value) else one.default)
            widget.blockSignals(False)

    def values(self) -> dict[str, Any]:
        """Return the values that are not the default."""
        return given(self._options, {one.name: _value(self.widgets[one.name], one) for one in self._options})

    def _add(self, form: Any, one: Option) -> Any:
        widget = _made(one)
        widget.setObjectName(f"option-{one.name}")
        widget.setAccessibleName(one.label)
        widget.setToolTip(one.help)
        label = qt.QLabel(f"{one.label}:")
        label.setToolTip(one.help)
        label.setBuddy(widget)
        form.addRow(label, widget)
        signal = {"bool": "toggled", "choice": "currentIndexChanged", "text": "editingFinished"}.get(
            one.kind, "valueChanged"
        )
        getattr(widget, signal).connect(lambda *_: self.changed.emit())
        return widget


def _made(one: Option) -> Any:
    if one.kind == "bool":
        return qt.QCheckBox()
    if one.kind == "text":
        return qt.QLineEdit()
    if one.kind == "choice":
        box = qt.QComboBox()
        # Long names are cut, not the panel widened.
        box.setSizeAdjustPolicy(qt.QComboBox.AdjustToMinimumContentsLengthWithIcon)
        box.setMinimumContentsLength(8)
        for index, (value, name) in enumerate(one.choices):
            box.addItem(name, value)
            box.setItemData(index, name, qt.Qt.ToolTipRole)
        return box
    box = qt.QSpinBox() if one.kind == "int" else qt.QDoubleSpinBox()
    if one.kind == "float":
        box.setDecimals(4)
        box.setSingleStep(min((one.high - one.low) / _STEPS, 0.1))
        box.setRange(float(one.low), float(one.high))
    else:
        box.setRange(int(one.low), int(one.high))
    if one.unit:
        box.setSuffix(f" {one.unit}")
    if one.automatic:
        box.setSpecialValueText(one.automatic)
    return box


def _put(widget: Any, one: Option, value: Any) -> None:
    if one.kind == "bool":
        widget.setChecked(bool(value))
    elif one.kind == "text":
        widget.setText(str(value))
    elif one.kind == "choice":
        widgets.choose(widget, value)
    else:
        widget.setValue(int(value) if one.kind == "int" else float(value))


def _value(widget: Any, one: Option) -> Any:
    if one.kind == "bool":
        return bool(widgets.read(widget, "checked"))
    if one.kind == "text":
        return str(widgets.read(widget, "text")).strip()
    if one.kind == "choice":
        return str(widgets.chosen(widget))
    number = widgets.read(widget, "value")
    # A box of decimals keeps no more of them than it shows.
    return int(number) if one.kind == "int" else round(float(number), 4)
