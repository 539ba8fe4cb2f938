"""The importance table: one line a region, sorted by a click on a heading; colours, bars and words together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

from Agg2ExpLib.anatomy import GROUPS, group_of, structure
from Agg2ExpLib.panel.sections import widgets
from Agg2ExpLib.panel.signals import Signal
from Agg2ExpLib.panel.words.importance_rows import COLUMNS, Row, sort_rows

_ORDER = tuple(COLUMNS)
_BAR_WIDTH = 28
#: Pixels of the columns after the first, which takes the rest: a name needs most of 380 pixels.
_WIDTHS = {"share": 84, "size": 70, "for": 75}
# For and against need more than the enrichment, and a long name all of the rest.
_SHARE_BESIDE_SIDES = 79
_ROWS_SHOWN = 11
# More lines than these are searched.
_MANY = 24


class ImportanceTable:
    """The table of one structure.

    Parameters
    ----------
    table, search, group, note : QTableWidget, QLineEdit, QComboBox, QLabel
        Of the .ui: the table, what its lines are searched and grouped by where they are many, and what is said of all of them.

    Attributes
    ----------
    region_chosen : Signal
        With the identifier of the region of the current line.
    """

    def __init__(self, table: Any, search: Any, group: Any, note: Any) -> None:
        self.region_chosen = Signal()
        self._rows: list[Row] = []
        self._explained = ""
        self._sort, self._descending = "share", True
        self.table, self.search, self.group, self.note = table, search, group, note
        self._counts: dict[str, int] = {}
        # The ends of long names differ.
        self.table.setTextElideMode(qt.Qt.ElideMiddle)
        for hidden in (search, group, note):
            hidden.setVisible(False)
        group.currentIndexChanged.connect(lambda *_: self._filter())
        search.textChanged.connect(lambda *_: self._filter())
        self.table.setColumnCount(len(_ORDER))
        self.table.setIconSize(qt.QSize(_BAR_WIDTH, widgets.PATCH))
        header = self.table.horizontalHeader()
        header.setSectionsClickable(True)
        header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
        for index, name in enumerate(_ORDER[1:], start=1):
            header.setSectionResizeMode(index, qt.QHeaderView.Fixed)
            self.table.setColumnWidth(index, _WIDTHS[name])
        header.sectionClicked.connect(self._on_heading)
        self.table.itemSelectionChanged.connect(self._on_selection)
        self._head()
        self.show_signed(False)

    @property
    def rows(self) -> list[Row]:
        """The lines as they are shown, top first."""
        return list(self._rows)

    def show_rows(self, rows: Sequence[Row], explained: str) -> None:
        """Show the regions of a structure; order, scroll position and the chosen line are kept."""
        chosen = self.chosen_region()
        told, self._explained = self._explained == explained, explained
        ordered = sort_rows(rows, self._sort, self._descending)
        same = [row.region for row in ordered] == [row.region for row in self._rows]
        before, self._rows = self._rows, ordered
        self.table.blockSignals(True)
        self.table.setRowCount(len(ordered))
        largest = max((row.share for row in ordered if row.share == row.share), default=0.0)
        was = max((row.share for row in before if row.share == row.share), default=0.0)
        for line, row in enumerate(ordered):
            # While somebody paints only a line or two change; the others are left alone.
            if line >= len(before) or before[line] != row or was != largest or not told:
                self._fill(line, row, largest)
        if not same and chosen:
            self._choose(chosen)
        self.table.blockSignals(False)
        if not same:
            self._show_groups()
        self._filter()
        self._tell_overlap()
        self.table.setMinimumHeight(26 + 22 * min(max(len(ordered), 4), _ROWS_SHOWN))

    def _show_groups(self) -> None:
        """Offer the groups that the regions belong to, with how many each has; the chosen one stays."""
        many = len(self._rows) > _MANY
        self.search.setVisible(many)
        self.group.setVisible(many)
        groups = [group_of(row.region) for row in self._rows] if many else []
        counts = {name: groups.count(name) for name, _pattern in GROUPS if name in groups}
        if counts == self._counts:
            return
        before, self._counts = widgets.chosen(self.group), counts
        self.group.blockSignals(True)
        self.group.clear()
        self.group.addItem(_("all groups"), "")
        for name, count in counts.items():
            self.group.addItem(f"{name} ({count})", name)
        widgets.choose(self.group, before or "")
        self.group.blockSignals(False)

    def _filter(self) -> None:
        """Hide the lines of other groups, and those that lack the searched words in name, identifier, system or group."""
        words = str(widgets.read(self.search, "text")).lower().split() if self._counts else []
        wanted = widgets.chosen(self.group) if self._counts else ""
        for line, row in enumerate(self._rows):
            group = group_of(row.region) if words or wanted else ""
            text = f"{row.name} {row.region} {structure(row.region).system} {group}".lower() if words else ""
            shown = (not wanted or group == wanted) and all(word in text for word in words)
            self.table.setRowHidden(line, not shown)

    def _tell_overlap(self) -> None:
        """Say when regions overlap, so that nobody wonders at shares of more than the whole."""
        whole = sum(row.share for row in self._rows if row.share == row.share)
        self.note.setVisible(whole > 1.005)
        self.note.setText(_("Regions overlap: their shares add up to {whole}.").format(whole=f"{100 * whole:.0f} %"))

    def show_signed(self, signed: bool) -> None:
        """Show for and against in place of the enrichment, as the overlay does: both do not fit beside a name."""
        self.table.setColumnHidden(_ORDER.index("for"), not signed)
        self.table.setColumnHidden(_ORDER.index("size"), signed)
        self.table.setColumnWidth(_ORDER.index("share"), _SHARE_BESIDE_SIDES if signed else _WIDTHS["share"])
        if self._sort == ("size" if signed else "for"):
            self.sort_by("share", True)

    def chosen_region(self) -> str:
        """Return the identifier of the current line's region; empty when there is none."""
        line = self.table.currentRow()
        return self._rows[line].region if 0 <= line < len(self._rows) else ""

    def choose_region(self, region: str, *, quietly: bool = False) -> None:
        """Make a region's line the current one, where there is one; ``quietly`` tells nobody."""
        self.table.blockSignals(quietly)
        self._choose(region)
        self.table.blockSignals(False)

    def sort_by(self, column: str, descending: bool) -> None:
        """Order the lines by a column of :data:`~Agg2ExpLib.panel.words.importance_rows.COLUMNS`."""
        self._sort, self._descending = column, descending
        self._head()
        self.show_rows(self._rows, self._explained)

    def _head(self) -> None:
        self.table.setHorizontalHeaderLabels([COLUMNS[name][0] for name in _ORDER])
        for index, name in enumerate(_ORDER):
            self.table.horizontalHeaderItem(index).setToolTip(COLUMNS[name][1])
            # In the middle there is room for the arrow that tells the order.
            side = qt.Qt.AlignHCenter if index else qt.Qt.AlignLeft
            _align(self.table.horizontalHeaderItem(index), side)
        order = qt.Qt.DescendingOrder if self._descending else qt.Qt.AscendingOrder
        self.table.horizontalHeader().setSortIndicator(_ORDER.index(self._sort), order)

    def _fill(self, line: int, row: Row, largest: float) -> None:
        sentence = row.sentence(self._explained)
        for column, text in enumerate(row.texts()):
            item = self.table.item(line, column)
            if item is None:
                item = qt.QTableWidgetItem()
                self.table.setItem(line, column, item)
            item.setText(text + (" ✎" if column == 0 and row.live else ""))
            item.setToolTip(sentence)
            if column:
                _align(item, qt.Qt.AlignRight)
            font = item.font()
            font.setBold(row.own)
            item.setFont(font)
            # What cannot be told apart by colour alone has words beside it; absent regions are greyed as well.
            item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable if row.voxels else qt.Qt.ItemIsSelectable)
        self.table.item(line, 0).setIcon(widgets.icon(widgets.patch(row.colour)))
        share = row.share / largest if largest > 0 and row.share == row.share else 0.0
        self.table.item(line, 1).setIcon(widgets.icon(widgets.bar(share, row.colour, _BAR_WIDTH)))

    def _choose(self, region: str) -> None:
        line = next((line for line, row in enumerate(self._rows) if row.region == region), -1)
        # The line of a region that is gone is not that of the region which takes its place.
        self.table.setCurrentCell(line, 0)

    def _on_heading(self, index: int) -> None:
        name = _ORDER[index]
        self.sort_by(name, not self._descending if name == self._sort else name != "region")

    def _on_selection(self, *_: Any) -> None:
        region = self.chosen_region()
        if region:
            self.region_chosen.emit(region)


def _align(item: Any, side: Any) -> None:
    # As data, because setTextAlignment takes a number in Qt 5 and a flag in Qt 6.
    item.setData(qt.Qt.TextAlignmentRole, int(side) | int(qt.Qt.AlignVCenter))
