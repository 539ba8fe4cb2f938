"""The widgets of the cohort section, built and named; what they do is in batch_section.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import qt

from Agg2ExpLib.panel import forms

#: Button -> whether it is as narrow as its text.
BUTTONS = {
    "cases folder": True,
    "cases table": True,
    "batch output": True,
    "batch run": False,
    "batch cancel": False,
    "retry failed": False,
    "open case": False,
    "cohort report": False,
    "cohort profile": False,
}


@dataclass(frozen=True)
class BatchWidgets:
    """Everything that the section wires."""

    frame: Any
    source: Any
    out: Any
    keep: Any
    workers: Any
    settings: Any
    reason: Any
    progress: Any
    status: Any
    table: Any
    more: Any
    buttons: dict[str, Any]


def build_batch(layout: Any) -> BatchWidgets:
    """Add the section to a layout."""
    frame, inner = forms.section("Cohort: many patients", layout, collapsed=True)
    buttons = {name: forms.button("", lambda: None, name=name, small=small) for name, small in BUTTONS.items()}
    for name, text, tip in (
        ("cases folder", "Folder", "Chooses a folder of scans, of case folders or of DICOM studies."),
        (
            "cases table",
            "CSV",
            "Chooses a table with the columns id and image, and optionally truth, roi:NAME, age ...",
        ),
        ("batch output", "Choose", "Chooses the folder that gets the table; that of an earlier batch goes on."),
    ):
        buttons[name].setText(text)
        buttons[name].setToolTip(tip)
    source, out = _path_label("batch cases"), _path_label("batch output folder")
    forms.row(inner, qt.QLabel("Cases"), source, buttons["cases folder"], buttons["cases table"], stretch=1)
    forms.row(inner, qt.QLabel("Output"), out, buttons["batch output"], stretch=1)
    keep = qt.QCheckBox("Keep attributions")
    keep.setObjectName("keep explanations")
    keep.setToolTip("Keeps each case's Explanation folder, so that it can be opened here; takes much disk space.")
    workers = forms.whole_number(
        1, 64, 1, "Cases that are computed at the same time; each process needs the memory of one.", "processes"
    )
    forms.row(inner, keep, qt.QWidget(), qt.QLabel("Processes"), workers, stretch=1)
    settings = _hidden_note(inner, "batch settings")
    forms.row(inner, buttons["batch run"], buttons["batch cancel"], stretch=0)
    reason = _hidden_note(inner, "batch reason")
    progress = qt.QProgressBar()
    progress.setTextVisible(False)
    progress.setMaximumHeight(12)
    progress.setVisible(False)
    inner.addWidget(progress)
    status = _hidden_note(inner, "batch status")
    table = _table()
    inner.addWidget(table)
    more = _hidden_note(inner, "more cases")
    forms.row(inner, buttons["open case"], buttons["retry failed"])
    forms.row(inner, buttons["cohort report"], buttons["cohort profile"])
    return BatchWidgets(frame, source, out, keep, workers, settings, reason, progress, status, table, more, buttons)


def _path_label(name: str) -> Any:
    label = forms.note()
    label.setObjectName(name)
    return label


def _hidden_note(inner: Any, name: str) -> Any:
    label = _path_label(name)
    label.setVisible(False)
    inner.addWidget(label)
    return label


def _table() -> Any:
    table = qt.QTableWidget(0, 2)
    table.setObjectName("batch table")
    table.setAccessibleName("cases of the batch")
    table.setHorizontalHeaderLabels(["case", "state"])
    table.verticalHeader().setVisible(False)
    table.verticalHeader().setDefaultSectionSize(20)
    table.horizontalHeader().setStretchLastSection(True)
    table.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
    table.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
    table.setSelectionMode(qt.QAbstractItemView.SingleSelection)
    table.setTabKeyNavigation(False)
    table.setMinimumHeight(120)
    table.setMaximumHeight(220)
    table.setVisible(False)
    return table
