"""Is this patient unusual? The reference, what the comparison found, and what it needs until then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.panel.sections import widgets
from Agg2ExpLib.panel.sections.task_line import TaskLine
from Agg2ExpLib.panel.signals import Signal
from Agg2ExpLib.panel.words.buttons import PanelState
from Agg2ExpLib.panel.words.verdicts import UNUSUAL, Verdicts

NEEDS = _(
    "Open a reference profile: the explanations of many patients with the same model, against which this one is compared. "
    "It is made under Cohort below, or with the commands agg2exp cohort and agg2exp profile."
)
SHIPPED = _(
    "A reference profile of 60 healthy phantoms comes with the extension. It fits what the bundled model explains by plain "
    "gradient, as Apply does at first: press Compare. For another model or method open another profile."
)
_LINES_SHOWN = 14
_LINE = _(
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

    def __init__(self, ui: Any) -> None:
        self.pressed, self.reason_chosen = Signal(), Signal()
        self.frame = ui.anomalyCollapsibleButton
        self.profile, self.message, self.list = ui.profileLabel, ui.comparisonLabel, ui.verdictsList
        self.false_alarms = ui.falseAlarmsSpinBox
        self.line = TaskLine(ui.comparisonLabel)
        self.picture, self.words, self.plot = ui.referencePictureLabel, ui.referenceWordsLabel, ui.plotReferenceButton
        self.coloured, self.colours_key = ui.colourByAnomalyCheckBox, ui.anomalyColoursKeyLabel
        self.buttons = {"open profile": ui.openProfileButton, "compare": ui.compareProfileButton}
        for name, button in self.buttons.items():
            button.clicked.connect(lambda *_, name=name: self.pressed.emit(name))
        self._lines: list[tuple[str, str]] = []
        self.list.setVisible(False)
        self.list.currentRowChanged.connect(self._on_line)
        self.say(NEEDS)
        self.show_profile("")

    def show_state(self, state: PanelState) -> None:
        """Give the buttons their looks."""
        for name, widget in self.buttons.items():
            widgets.apply_look(widget, state[name])

    def show_profile(self, path: str) -> None:
        """Name the reference; empty says that there is none."""
        self.profile.setText(Path(path).name if path else _("none yet"))
        self.profile.setToolTip(path)

    def say(self, text: str) -> None:
        """Show what is needed, what was found or what went wrong; empty hides it."""
        self.line.say(text)

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
        line = max(int(self.list.sizeHintForRow(0)), 16)
        height = line * min(max(len(self._lines), 3), _LINES_SHOWN) + 8
        self.list.setMinimumHeight(height)
        # A line or two may be broken.
        self.list.setMaximumHeight(height + 2 * line)

    def _add(self, text: str, name: str, region: str, *, bold: bool = False) -> None:
        item = qt.QListWidgetItem(widgets.unbroken(text))
        item.setToolTip(_LINE)
        font = item.font()
        font.setBold(bold)
        item.setFont(font)
        self.list.addItem(item)
        self._lines.append((name, region))

    def _on_line(self, line: int) -> None:
        if 0 <= line < len(self._lines):
            self.reason_chosen.emit(*self._lines[line])
