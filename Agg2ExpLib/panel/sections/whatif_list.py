"""The what-ifs of an explanation side by side: which one is shown, and whether before, after or both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

from Agg2ExpLib.panel.sections import widgets
from Agg2ExpLib.panel.signals import Signal


class WhatIfList:
    """A small table with a switch below it; both hidden while there is no what-if.

    Parameters
    ----------
    ui : object
        The widgets of the .ui by their names.

    Attributes
    ----------
    chosen : Signal
        With the identifier of the line that was chosen.
    switched : Signal
        Without values.
    """

    def __init__(self, ui: Any) -> None:
        self.chosen, self.switched = Signal(), Signal()
        self.table, self.switch = ui.whatIfTable, ui.whatIfSwitchFrame
        self.modes = {
            "before": ui.whatIfBeforeRadioButton,
            "both": ui.whatIfBothRadioButton,
            "after": ui.whatIfAfterRadioButton,
        }
        self._lines: list[str] = []
        self.table.setColumnCount(3)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
        for column, width in ((1, 56), (2, 104)):
            header.setSectionResizeMode(column, qt.QHeaderView.Fixed)
            self.table.setColumnWidth(column, width)
        self.modes["both"].setChecked(True)
        for radio in self.modes.values():
            radio.toggled.connect(lambda on: self.switched.emit() if on else None)
        self.table.itemSelectionChanged.connect(self._on_line)
        for widget in (self.table, self.switch):
            widget.setVisible(False)

    @property
    def mode(self) -> str:
        """What is shown: before, both or after."""
        return next(name for name, radio in self.modes.items() if widgets.read(radio, "checked"))

    def show(self, rows: Sequence[tuple[str, str, Any]], explained: str, chosen: str) -> None:
        """List what-ifs as (identifier, name, change of the explained structure or ``None``)."""
        self.table.blockSignals(True)
        self._lines = [identifier for identifier, _name, _change in rows]
        self.table.setHorizontalHeaderLabels([_("what if"), _("Dice"), _("volume, ml")])
        self.table.setRowCount(len(rows))
        for line, (identifier, name, change) in enumerate(rows):
            known = change is not None and change.dice == change.dice
            texts = (
                name,
                f"{change.dice:.2f}" if known else "–",
                f"{change.before_ml:.0f} → {change.after_ml:.0f}" if change is not None else "–",
            )
            for column, text in enumerate(texts):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(_("{name}; the numbers are of {structure}").format(name=name, structure=explained))
                self.table.setItem(line, column, item)
            if identifier == chosen:
                self.table.setCurrentCell(line, 0)
        self.table.blockSignals(False)
        self.table.setFixedHeight(28 + 22 * min(max(len(rows), 1), 5))
        for widget in (self.table, self.switch):
            widget.setVisible(bool(rows))

    def _on_line(self, *_: Any) -> None:
        line = int(self.table.currentRow())
        if 0 <= line < len(self._lines):
            self.chosen.emit(self._lines[line])
