"""Controls made of a method's options as it declares them: a check box, a number, a list or a line of text each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

from Agg2ExpLib.methods import Option
from Agg2ExpLib.panel.sections import widgets
from Agg2ExpLib.panel.signals import Signal
from Agg2ExpLib.panel.words.options import allowed, given

#: Steps from the lowest to the highest number of a range that is known, by the arrows of its box.
_STEPS = 20
#: What a box of numbers can hold, where the option has no limit.
_HIGHEST = 2**31 - 1
_DECIMALS = 4


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
    widgets : dict
        Name of an option -> its control.
    """

    def __init__(self, frame: Any) -> None:
        self.changed = Signal()
        self.frame = frame
        self.widgets: dict[str, Any] = {}
        self._options: tuple[Option, ...] = ()
        frame.setVisible(False)

    def show(self, options: Sequence[Option], values: Mapping[str, Any]) -> None:
        """Show these options with these values; where none is given, or it is not allowed, the default."""
        if tuple(options) != self._options:
            form = self.frame.layout()
            for _old in self.widgets:
                form.removeRow(0)
            self._options = tuple(options)
            self.widgets = {one.name: self._add(form, one) for one in self._options}
            self.frame.setVisible(bool(self._options))
        for one in self._options:
            value = values.get(one.name, one.default)
            widget = self.widgets[one.name]
            widget.blockSignals(True)
            _put(widget, one, value if allowed(one, value) else one.default)
            widget.blockSignals(False)

    def values(self) -> dict[str, Any]:
        """Return the values that are not the default."""
        return given(self._options, {one.name: _value(self.widgets[one.name], one) for one in self._options})

    def _add(self, form: Any, one: Option) -> Any:
        widget, signal = _made(one)
        widget.setObjectName(f"option-{one.name}")
        widget.setAccessibleName(one.label)
        widget.setToolTip(one.help)
        label = qt.QLabel(f"{one.label[:1].upper()}{one.label[1:]}")
        label.setToolTip(one.help)
        label.setBuddy(widget)
        form.addRow(label, widget)
        getattr(widget, signal).connect(lambda *_: self.changed.emit())
        return widget


def _made(one: Option) -> tuple[Any, str]:
    """Return the control of an option, and the name of the signal of its changes."""
    if one.kind is bool:
        return qt.QCheckBox(), "toggled"
    if one.choices:
        box = qt.QComboBox()
        # Long names are cut, not the panel widened.
        box.setSizeAdjustPolicy(qt.QComboBox.AdjustToMinimumContentsLengthWithIcon)
        box.setMinimumContentsLength(8)
        for index, (value, meaning) in enumerate(one.choices.items()):
            box.addItem(value, value)
            box.setItemData(index, meaning, qt.Qt.ToolTipRole)
        return box, "currentIndexChanged"
    if one.kind is str:
        return qt.QLineEdit(), "editingFinished"
    low, high = max(one.low, -_HIGHEST), min(one.high, _HIGHEST)
    if one.kind is int:
        box = qt.QSpinBox()
        box.setRange(int(_lowest(one)), int(high))
    else:
        box = qt.QDoubleSpinBox()
        box.setDecimals(_DECIMALS)
        box.setSingleStep(min((high - low) / _STEPS, 0.1))
        box.setRange(float(_lowest(one)), float(high))
    if one.unit:
        box.setSuffix(f" {one.unit}")
    if one.default is None:
        box.setSpecialValueText(_("automatic"))
    return box, "valueChanged"


def _lowest(one: Option) -> float:
    """Return the lowest number of a box: one below the option's own stands for what the method chooses itself."""
    return max(one.low, -_HIGHEST) - (1 if one.default is None else 0)


def _put(widget: Any, one: Option, value: Any) -> None:
    if one.kind is bool:
        widget.setChecked(bool(value))
    elif one.choices:
        widgets.choose(widget, value)
    elif one.kind is str:
        widget.setText("" if value is None else str(value))
    else:
        widget.setValue(one.kind(_lowest(one) if value is None else value))


def _value(widget: Any, one: Option) -> Any:
    if one.kind is bool:
        return bool(widgets.read(widget, "checked"))
    if one.choices:
        return str(widgets.chosen(widget))
    if one.kind is str:
        text = str(widgets.read(widget, "text")).strip()
        # Nothing written leaves the choice to the method.
        return text or one.default
    # A box of decimals keeps no more of them than it shows.
    number = round(float(widgets.read(widget, "value")), _DECIMALS)
    return None if one.default is None and number < one.low else one.kind(number)
