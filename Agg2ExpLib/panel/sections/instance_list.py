"""The instances of the shown structure: a small table, and what is said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

from Agg2ExpLib.panel.signals import Signal


class InstanceList:
    """A table of instances with a sentence below it; both hidden while there is none.

    Parameters
    ----------
    ui : object
        The widgets of the .ui by their names.

    Attributes
    ----------
    chosen : Signal
        With the number of the line that was chosen, from 0.
    """

    def __init__(self, ui: Any) -> None:
        self.chosen = Signal()
        self._count = 0
        self.table, self.label = ui.instancesTable, ui.instancesLabel
        self.table.setColumnCount(6)
        header = self.table.horizontalHeader()
        for column, width in enumerate((30, 46, 52, 42, 58)):
            header.setSectionResizeMode(column, qt.QHeaderView.Fixed)
            self.table.setColumnWidth(column, width)
        header.setSectionResizeMode(5, qt.QHeaderView.Stretch)
        self.table.itemSelectionChanged.connect(self._on_line)
        # Whoever has scrolled away gets back by a press on the line that is chosen already.
        self.table.cellClicked.connect(self._on_line)
        self.show([], "")

    def show(self, rows: Sequence[Mapping[str, Any]], told: str) -> None:
        """List instances as the command answers with them, and what is said of them all."""
        self.table.blockSignals(True)
        self.table.setHorizontalHeaderLabels([_("no."), _("ml"), _("inside"), _("rim"), _("outside"), _("unlike")])
        self.table.clearSelection()
        self._count = len(rows)
        self.table.setRowCount(self._count)
        for line, row in enumerate(rows):
            shares = [_percent(row.get(zone)) for zone in ("inside", "rim", "outside")]
            texts = (
                str(row["number"]),
                f"{row['volume_ml']:.2f}" if row["volume_ml"] < 10 else f"{row['volume_ml']:.0f}",
                *shares,
                str(row.get("why", "")) if row.get("odd") else "",
            )
            for column, text in enumerate(texts):
                item = qt.QTableWidgetItem(text)
                font = item.font()
                font.setBold(bool(row.get("odd")))
                item.setFont(font)
                item.setToolTip(_tip(row))
                self.table.setItem(line, column, item)
        self.table.blockSignals(False)
        self.table.setFixedHeight(28 + 22 * min(max(len(rows), 1), 8))
        self.label.setText(told)
        self.table.setVisible(bool(rows))
        self.label.setVisible(bool(told))

    def _on_line(self, *_: Any) -> None:
        line = int(self.table.currentRow())
        if 0 <= line < self._count:
            self.chosen.emit(line)


def _percent(value: Any) -> str:
    return "–" if value is None else f"{100 * float(value):.0f} %"


def _tip(row: Mapping[str, Any]) -> str:
    place = " ".join(f"{float(row[axis]):.0f}" for axis in "xyz")
    told = _(
        "Instance {number} at {place} (LPS mm): {inside} of its importance lies inside, {rim} in the rim, {outside} farther out; a "
        "shell of its size around it holds {shell}."
    ).format(
        number=row["number"],
        place=place,
        shell=_percent(row.get("shell")),
        **{zone: _percent(row.get(zone)) for zone in ("inside", "rim", "outside")},
    )
    if row.get("oddness") is None:
        return told
    more = _("Robust z {z} among the others, size taken off; of as many alike ones, chance puts {chance} as far out.")
    return f"{told} {more.format(z=format(row['oddness'], '.1f'), chance=format(row['expected'], '.2g'))}"
