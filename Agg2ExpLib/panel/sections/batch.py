"""Cohort: many patients. What the section shows of a batch, and which of its buttons were pressed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from Agg2ExpLib.panel.sections import widgets
from Agg2ExpLib.panel.sections.task_line import TaskLine
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
        self.frame, self.source, self.out = ui.cohortCollapsibleButton, ui.batchCasesLabel, ui.batchOutputLabel
        self.keep_box, self.workers_box = ui.keepExplanationsCheckBox, ui.batchProcessesSpinBox
        self.settings, self.reason = ui.batchSettingsLabel, ui.batchReasonLabel
        self.table, self.more = ui.batchTable, ui.batchMoreLabel
        self.line = TaskLine(ui.batchStatusLabel, ui.batchProgressBar)
        self.buttons = {
            "cases folder": ui.casesFolderButton,
            "cases table": ui.casesTableButton,
            "batch output": ui.batchOutputButton,
            "batch run": ui.batchRunButton,
            "batch cancel": ui.batchCancelButton,
            "retry failed": ui.retryFailedButton,
            "open case": ui.openCaseButton,
            "cohort report": ui.cohortReportButton,
            "cohort profile": ui.cohortProfileButton,
        }
        for hidden in (self.settings, self.reason, self.table, self.more):
            hidden.setVisible(False)
        self.table.horizontalHeader().setStretchLastSection(True)
        self.table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.ResizeToContents)
        self.show_paths("", "")
        self._listed: list[CaseState] = []
        for name, widget in self.buttons.items():
            widget.clicked.connect(lambda *_, name=name: self.pressed.emit(name))
        self.keep_box.toggled.connect(lambda *_: self.changed.emit())
        self.workers_box.valueChanged.connect(lambda *_: self.changed.emit())
        self.table.currentCellChanged.connect(lambda *_: self.changed.emit())

    @property
    def keep(self) -> bool:
        """Whether attribution volumes are to be kept."""
        return bool(widgets.read(self.keep_box, "checked"))

    @property
    def workers(self) -> int:
        """Processes."""
        return int(widgets.read(self.workers_box, "value"))

    def chosen_case(self) -> CaseState | None:
        """Return the case whose line is chosen."""
        row = int(self.table.currentRow())
        return self._listed[row] if 0 <= row < len(self._listed) else None

    def show_paths(self, source: str, out: str) -> None:
        """Name cases and output folder."""
        for label, path, nothing in (
            (self.source, source, _("none chosen")),
            (self.out, out, _("none chosen")),
        ):
            label.setText(Path(path).name if path else nothing)
            label.setToolTip(path)

    def show_options(self, keep: bool, workers: int) -> None:
        """Set the options without telling anybody."""
        for widget, put in (
            (self.keep_box, lambda: self.keep_box.setChecked(keep)),
            (self.workers_box, lambda: self.workers_box.setValue(workers)),
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
                widgets.apply_look(widget, state[name])
        self.keep_box.setEnabled(state["choose"].enabled)
        self.workers_box.setEnabled(state["choose"].enabled)
        _say(self.reason, state["batch run"].reason)

    def show_cases(self, seen: Seen) -> None:
        """List the cases, failed ones first, and say how many more there are."""
        chosen = self.chosen_case()
        table = self.table
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
            self.more,
            _("and {hidden} more; all of them are in cases.parquet").format(hidden=hidden) if hidden else "",
        )

    def say_settings(self, text: str) -> None:
        """Show with which settings a batch goes on; empty hides it."""
        _say(self.settings, text)


def _say(label: Any, text: str) -> None:
    label.setText(text)
    label.setVisible(bool(text))
