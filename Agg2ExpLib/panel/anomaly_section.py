"""Is this patient unusual? The reference, what the comparison found, and what it needs until then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.panel import forms
from Agg2ExpLib.panel.reference_widgets import build_false_alarms, build_reference
from Agg2ExpLib.panel.signals import Signal
from Agg2ExpLib.panel.state import PanelState
from Agg2ExpLib.panel.verdicts import UNUSUAL, Verdicts

NEEDS = (
    "Open a reference profile: the explanations of many patients with the same model, against which this one is compared. "
    "It is made with the commands agg2exp cohort and agg2exp profile."
)
_LINES_SHOWN = 14
_LINE = (
    "Percentile: the share of reference cases that are no more unusual in this structure. "
    "Choosing a line shows its structure, and its region in the table above."
)


class AnomalySection:
    """The fourth section.

    Attributes
    ----------
    pressed : Signal
        With the name of a button: open profile, compare.
    reason_chosen : Signal
        With structure and region of the line that was chosen; the region is empty on a structure's own line.
    """

    def __init__(self, layout: Any) -> None:
        self.pressed, self.reason_chosen = Signal(), Signal()
        self.frame, inner = forms.section("Is this patient unusual?", layout, collapsed=True)
        self.profile = forms.note()
        self.buttons = {
            name: forms.button("", lambda name=name: self.pressed.emit(name), name=name, small=small)
            for name, small in (("open profile", True), ("compare", False))
        }
        forms.row(inner, qt.QLabel("Reference"), self.profile, self.buttons["open profile"], stretch=1)
        self.false_alarms = build_false_alarms(inner)
        inner.addWidget(self.buttons["compare"])
        self.message = forms.note(NEEDS)
        self.message.setObjectName("comparison")
        inner.addWidget(self.message)
        self._lines: list[tuple[str, str]] = []
        self.list = qt.QListWidget()
        self.list.setWordWrap(True)
        self.list.setVisible(False)
        self.list.setHorizontalScrollBarPolicy(qt.Qt.ScrollBarAlwaysOff)
        self.list.setAccessibleName("verdicts")
        self.list.setObjectName("verdicts")
        self.list.currentRowChanged.connect(self._on_line)
        inner.addWidget(self.list)
        self.reference = build_reference(inner)
        self.show_profile("")

    def show_state(self, state: PanelState) -> None:
        """Give the buttons their looks."""
        for name, widget in self.buttons.items():
            forms.apply_look(widget, state[name])

    def show_profile(self, path: str) -> None:
        """Name the reference; empty says that there is none."""
        self.profile.setText(Path(path).name if path else "none yet")
        self.profile.setToolTip(path)

    def say(self, text: str) -> None:
        """Show what is needed, what was found or what went wrong; empty hides it."""
        self.message.setText(text)
        self.message.setVisible(bool(text))

    def show_verdicts(self, found: Verdicts | None) -> None:
        """List the structures with the reasons below each, the most unusual first; ``None`` empties the list."""
        self.list.blockSignals(True)
        self.list.clear()
        self._lines = []
        for one in found.verdicts if found else ():
            self._add(one.words(), one.structure, "", bold=one.verdict == UNUSUAL)
            for reason in one.reasons:
                # The structure's own line is just above.
                sentence = reason.sentence.removeprefix(f"{structure(one.structure).name} ")
                self._add(f"    {sentence}", one.structure, reason.region)
        self.list.setCurrentRow(-1)
        self.list.blockSignals(False)
        self.list.setVisible(bool(self._lines))
        height = 22 * min(max(len(self._lines), 3), _LINES_SHOWN) + 6
        self.list.setMinimumHeight(height)
        self.list.setMaximumHeight(height + 60)

    def _add(self, text: str, name: str, region: str, *, bold: bool = False) -> None:
        item = qt.QListWidgetItem(text)
        item.setToolTip(_LINE)
        font = item.font()
        font.setBold(bold)
        item.setFont(font)
        self.list.addItem(item)
        self._lines.append((name, region))

    def _on_line(self, line: int) -> None:
        if 0 <= line < len(self._lines):
            self.reason_chosen.emit(*self._lines[line])
