"""The structures of the model as a list that can be searched and ticked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

from Agg2ExpLib.anatomy import RGB, group_of, structure
from Agg2ExpLib.panel.sections import widgets
from Agg2ExpLib.panel.signals import Signal
from Agg2ExpLib.panel.words.choices import QUICK


class StructureList:
    """Search field, three buttons and the list.

    Parameters
    ----------
    ui : object
        The widgets of the .ui by their names.
    visible_names : callable
        Answers the readable names of the segments that are shown in the views.

    Attributes
    ----------
    changed : Signal
        Without values: other structures are ticked.
    """

    def __init__(self, ui: Any, visible_names: Callable[[], Iterable[str]]) -> None:
        self.changed = Signal()
        self._visible_names = visible_names
        self.search, self.list, self.count = ui.structureSearchBox, ui.structuresList, ui.structuresCountLabel
        self.all, self.none, self.visible = ui.allStructuresButton, ui.noStructuresButton, ui.visibleStructuresButton
        self.all.clicked.connect(lambda *_: self.tick(None))
        self.none.clicked.connect(lambda *_: self.tick(()))
        self.visible.clicked.connect(lambda *_: self.tick_visible())
        self.search.textChanged.connect(self._filter)
        self.list.itemChanged.connect(self._on_item)

    def fill(self, labels: Sequence[str], colours: Sequence[RGB] = (), ticked: Iterable[str] | None = None) -> None:
        """List a model's structures, background left out; all are ticked unless ``ticked`` names some."""
        wanted = None if ticked is None else set(ticked)
        self.list.blockSignals(True)
        self.list.clear()
        for index, label in enumerate(labels):
            if index == 0:
                continue
            found = structure(label)
            item = qt.QListWidgetItem(
                widgets.icon(widgets.patch(colours[index] if colours else found.colour)), found.name
            )
            item.setData(qt.Qt.UserRole, label)
            item.setToolTip(f"{found.name} ({label})")
            item.setFlags(qt.Qt.ItemIsUserCheckable | qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable)
            item.setCheckState(qt.Qt.Checked if wanted is None or label in wanted else qt.Qt.Unchecked)
            self.list.addItem(item)
        self.list.blockSignals(False)
        self._filter()
        self._tell()

    def ticked(self) -> tuple[str, ...] | None:
        """Return the ticked structures; ``None`` when all are, which is the command's default."""
        items = self._items()
        found = tuple(str(item.data(qt.Qt.UserRole)) for item in items if item.checkState() == qt.Qt.Checked)
        return None if items and len(found) == len(items) else found

    def tick(self, labels: Iterable[str] | None) -> None:
        """Tick these structures alone; every one for ``None``. What the search hides keeps its tick."""
        wanted = None if labels is None else set(labels)
        self.list.blockSignals(True)
        for item in self._items():
            if not item.isHidden():
                on = wanted is None or item.data(qt.Qt.UserRole) in wanted
                item.setCheckState(qt.Qt.Checked if on else qt.Qt.Unchecked)
        self.list.blockSignals(False)
        self._on_item()

    def tick_visible(self) -> None:
        """Tick the structures whose segments are shown."""
        self.tick(self.labels_of(self._visible_names()))

    def labels_of(self, names: Iterable[str]) -> list[str]:
        """Return the structures that have one of these readable names or identifiers."""
        wanted = {name.lower() for name in names}
        labels = [str(item.data(qt.Qt.UserRole)) for item in self._items()]
        return [label for label in labels if label.lower() in wanted or structure(label).name.lower() in wanted]

    def _items(self) -> list[Any]:
        return [self.list.item(index) for index in range(int(widgets.read(self.list, "count")))]

    def _filter(self, *_: Any) -> None:
        words = str(widgets.read(self.search, "text")).lower().split()
        for item in self._items():
            label = str(item.data(qt.Qt.UserRole))
            text = f"{item.text()} {label} {group_of(label)}".lower()
            item.setHidden(not all(word in text for word in words))
        self._tell()

    def _on_item(self, *_: Any) -> None:
        self._tell()
        self.changed.emit()

    def _tell(self) -> None:
        items, ticked = self._items(), self.ticked()
        count = len(items) if ticked is None else len(ticked)
        quick = _("a quick look at what is visible, or at the {count} largest").format(count=QUICK)
        if not items:
            words = _("The model's structures are told when it runs; Apply takes {quick}.").format(quick=quick)
        elif ticked == () and not any(item.isHidden() for item in items):
            words = _("None ticked: {quick}.").format(quick=quick)
        elif all(item.isHidden() for item in items):
            words = _("No structure has this in its name or group; {count} of {all} are ticked.").format(
                count=count, all=len(items)
            )
        else:
            words = _("{count} of {all} structures").format(count=count, all=len(items))
            hidden = sum(item.isHidden() and item.checkState() == qt.Qt.Checked for item in items)
            if hidden:
                words = _("{count}, {hidden} of them not in the search").format(count=words, hidden=hidden)
        self.count.setText(words)
