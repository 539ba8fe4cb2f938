"""Cohort: many patients. What the section shows of a batch, and which of its buttons were pressed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from Agg2ExpLib.panel.sections import forms
from Agg2ExpLib.panel.sections.batch_widgets import BatchWidgets
from Agg2ExpLib.panel.signals import Signal
from Agg2ExpLib.panel.words.batch import FAILED, CaseState, Seen
from Agg2ExpLib.panel.words.buttons import PanelState

#: Lines of the list of cases.
MOST_CASES = 200
_WORDS = {"done": "done", "failed": "failed", "waiting": "waiting"}


class BatchSection:
    """The section about many patients.

    Attributes
    ----------
    pressed : Signal
        With the name of a button.
    changed : Signal
        Without values: an option or the chosen case changed.
    """

    def __init__(self, ui: Any) -> None:
        self.pressed, self.changed = Signal(), Signal()
        self.widgets = BatchWidgets.of(ui)
        for hidden in ("settings", "reason", "progress", "status", "table", "more"):
            getattr(self.widgets, hidden).setVisible(False)
        header = self.widgets.table.horizontalHeader()
        header.setStretchLastSection(True)
        self.frame, self.buttons = self.widgets.frame, self.widgets.buttons
        self._listed: list[CaseState] = []
        for name, widget in self.buttons.items():
            widget.clicked.connect(lambda *_, name=name: self.pressed.emit(name))
        self.widgets.keep.toggled.connect(lambda *_: self.changed.emit())
        self.widgets.workers.valueChanged.connect(lambda *_: self.changed.emit())
        self.widgets.table.currentCellChanged.connect(lambda *_: self.changed.emit())

    @property
    def keep(self) -> bool:
        """Whether attribution volumes are to be kept."""
        return bool(forms.read(self.widgets.keep, "checked"))

    @property
    def workers(self) -> int:
        """Processes."""
        return int(forms.read(self.widgets.workers, "value"))

    def chosen_case(self) -> CaseState | None:
        """Return the case whose line is chosen."""
        row = int(self.widgets.table.currentRow())
        return self._listed[row] if 0 <= row < len(self._listed) else None

    def show_paths(self, source: str, out: str) -> None:
        """Name cases and output folder."""
        for label, path, nothing in (
            (self.widgets.source, source, _("none chosen")),
            (self.widgets.out, out, _("none chosen")),
        ):
            label.setText(Path(path).name if path else nothing)
            label.setToolTip(path)

    def show_options(self, keep: bool, workers: int) -> None:
        """Set the options without telling anybody."""
        for widget, put in (
            (self.widgets.keep, lambda: self.widgets.keep.setChecked(keep)),
            (self.widgets.workers, lambda: self.widgets.workers.setValue(workers)),
        ):
            widget.blockSignals(True)
            put()
            widget.blockSignals(False)

    def show_state(self, state: PanelState) -> None:
        """Give the buttons their looks; those that choose have their own words."""
        for name, widget in self.buttons.items():
            if name in ("cases folder", "cases table", "batch output"):
                widget.setEnabled(state["choose"].enabled)
            else:
                forms.apply_look(widget, state[name])
        self.widgets.keep.setEnabled(state["choose"].enabled)
        self.widgets.workers.setEnabled(state["choose"].enabled)
        _say(self.widgets.reason, state["batch run"].reason)

    def show_cases(self, seen: Seen) -> None:
        """List the cases, failed ones first, and say how many more there are."""
        chosen = self.chosen_case()
        table = self.widgets.table
        self._listed = seen.listed(MOST_CASES)
        table.blockSignals(True)
        table.setRowCount(len(self._listed))
        for row, one in enumerate(self._listed):
            words = f"failed: {one.reason}" if one.state == FAILED else _WORDS[one.state]
            for column, text in enumerate((one.case, words)):
                item = table.item(row, column)
                if item is None:
                    item = qt.QTableWidgetItem()
                    table.setItem(row, column, item)
                item.setText(text)
                item.setToolTip(one.reason or one.image)
        line = next((row for row, one in enumerate(self._listed) if chosen and one.case == chosen.case), -1)
        table.setCurrentCell(line, 0)
        table.blockSignals(False)
        table.setVisible(bool(self._listed))
        hidden = len(seen.cases) - len(self._listed)
        _say(
            self.widgets.more,
            _("and {hidden} more; all of them are in cases.parquet").format(hidden=hidden) if hidden else "",
        )

    def show_progress(self, done: int, total: int, words: str) -> None:
        """Show how far the batch is."""
        self.widgets.progress.setVisible(True)
        self.widgets.progress.setRange(0, max(total, 0))
        self.widgets.progress.setValue(min(max(done, 0), max(total, 0)))
        self.say(words)

    def end_progress(self) -> None:
        """Hide the bar."""
        self.widgets.progress.setVisible(False)

    def say(self, text: str) -> None:
        """Show one sentence under the bar; empty hides it."""
        _say(self.widgets.status, text)

    def say_settings(self, text: str) -> None:
        """Show with which settings a batch goes on; empty hides it."""
        _say(self.widgets.settings, text)


def _say(label: Any, text: str) -> None:
    label.setText(text)
    label.setVisible(bool(text))
