"""What did the model look at? The shown structure, its overlay, the importance table, pictures and the what-if."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.panel.sections import widgets
from Agg2ExpLib.panel.sections.importance_table import ImportanceTable
from Agg2ExpLib.panel.sections.instance_list import InstanceList
from Agg2ExpLib.panel.sections.task_line import TaskLine
from Agg2ExpLib.panel.sections.whatif_list import WhatIfList
from Agg2ExpLib.panel.signals import Signal
from Agg2ExpLib.panel.words.buttons import PanelState
from Agg2ExpLib.panel.words.choices import FILL_TEXTS

#: Milliseconds that a slider must rest before the overlay follows it: that of a large scan takes longer than the next value.
SLIDER_DELAY_MS = 120


class ResultsSection:
    """The third section.

    Attributes
    ----------
    structure_changed : Signal
        With the identifier.
    mode_changed : Signal
        With magnitude, signed or off.
    pressed : Signal
        With the name of a button: bars, heat map, graph, graph3d, strongest, export, open, whatif, needs,
        instances.
    explanation_changed : Signal
        With the key of another explanation.
    """

    def __init__(self, ui: Any) -> None:
        self.structure_changed, self.mode_changed, self.pressed = Signal(), Signal(), Signal()
        self.explanation_changed = Signal()
        self.frame, self.table = (
            ui.resultsCollapsibleButton,
            ImportanceTable(ui.importanceTable, ui.regionSearchBox, ui.regionGroupComboBox, ui.regionsOverlapLabel),
        )
        self.notice, self.meaning, self.whatif = ui.noticeLabel, ui.meaningLabel, ui.whatIfLabel
        self.line = TaskLine(ui.resultsStatusLabel)
        self._regions: list[tuple[str, str, tuple[int, int, int]]] = []
        self.explanation, self.structure = ui.explanationComboBox, ui.structureComboBox
        self.region, self.fill = ui.whatIfRegionComboBox, ui.whatIfFillComboBox
        self.percentile, self.opacity = ui.hideWeakestSlider, ui.opacitySlider
        self.masked, self.coloured = ui.insideSegmentsCheckBox, ui.colourSegmentsCheckBox
        self.rendering = ui.volumeRenderingCheckBox
        self.modes = {
            "magnitude": ui.overlayStrengthRadioButton,
            "signed": ui.overlaySignedRadioButton,
            "off": ui.overlayOffRadioButton,
        }
        self.buttons = {
            "open": ui.openExplanationButton,
            "previous": ui.previousStructureButton,
            "next": ui.nextStructureButton,
            "bars": ui.barsButton,
            "heat map": ui.heatMapButton,
            "graph": ui.graphButton,
            "graph3d": ui.graph3DButton,
            "strongest": ui.strongestButton,
            "export": ui.exportButton,
            "whatif": ui.whatIfButton,
            "needs": ui.needsButton,
            "instances": ui.instancesButton,
        }
        shown_over = (self.percentile, self.opacity, self.masked, self.coloured, self.rendering)
        # What they do, to be told again after the tooltip has said why they cannot be used.
        self._tips = [(one, str(widgets.read(one, "toolTip"))) for one in (*self.modes.values(), *shown_over)]
        self.whatifs, self.needs, self.instances = WhatIfList(ui), ui.needsLabel, InstanceList(ui)
        for label in (self.meaning, self.whatif, self.needs):
            label.setVisible(False)
        for index, (identifier, (name, tip)) in enumerate(FILL_TEXTS.items()):
            self.fill.addItem(name, identifier)
            self.fill.setItemData(index, tip, qt.Qt.ToolTipRole)
        self._connect()

    def _connect(self) -> None:
        for name, button in self.buttons.items():
            button.clicked.connect(lambda *_, name=name: self._on_button(name))
        for mode, radio in self.modes.items():
            radio.toggled.connect(lambda on, mode=mode: self.mode_changed.emit(mode) if on else None)
        self.structure.currentIndexChanged.connect(self._on_structure)
        self.explanation.currentIndexChanged.connect(
            lambda *_: self.explanation_changed.emit(widgets.chosen(self.explanation))
        )

    def show_mode(self, mode: str) -> None:
        """Show how the overlay is drawn."""
        self.modes[mode].setChecked(True)
        self.table.show_signed(mode == "signed")

    def chosen_structure(self) -> str:
        """Return the identifier of the shown structure; empty when there is none."""
        return str(widgets.chosen(self.structure) or "")

    def show_structures(self, explained: Sequence[str], absent: Sequence[str], selected: str = "") -> None:
        """List the explained structures, and greyed those that the segmentation lacks."""
        self.structure.blockSignals(True)
        self.structure.clear()
        for name in explained:
            found = structure(name)
            self.structure.addItem(widgets.icon(widgets.patch(found.colour)), found.name, name)
        for name in absent:
            self.structure.addItem(
                _("{structure} (absent from the segmentation)").format(structure=structure(name).name), ""
            )
            item = self.structure.model().item(int(widgets.read(self.structure, "count")) - 1)
            item.setEnabled(False)
            item.setToolTip(_("The model found no voxel of it in this scan, so there is nothing to explain."))
        widgets.choose(self.structure, selected or (explained[0] if explained else ""))
        self.structure.blockSignals(False)

    def show_explanations(self, titles: Sequence[tuple[str, str]], selected: str) -> None:
        """List the explanations of the scene as (key, title)."""
        self.explanation.blockSignals(True)
        self.explanation.clear()
        for key, title in titles:
            self.explanation.addItem(title, key)
        widgets.choose(self.explanation, selected)
        if not titles:
            self.explanation.addItem(_("no explanation yet"), "")
        self.explanation.setEnabled(len(titles) > 1)
        self.explanation.blockSignals(False)

    def show_regions(self, regions: Sequence[tuple[str, str, tuple[int, int, int]]], selected: str = "") -> None:
        """List what can be replaced in the what-if as (key, name, colour)."""
        if not selected and list(regions) == self._regions:
            # While somebody paints they stay the same.
            return
        self._regions = list(regions)
        before = selected or str(widgets.chosen(self.region) or "")
        self.region.blockSignals(True)
        self.region.clear()
        for key, name, colour in regions:
            self.region.addItem(widgets.icon(widgets.patch(colour)), name, key)
        widgets.choose(self.region, before)
        self.region.blockSignals(False)

    def show_state(self, state: PanelState) -> None:
        """Give the buttons their looks."""
        for name, widget in self.buttons.items():
            widgets.apply_look(widget, state[name])
        usable = state["overlay"]
        for widget, tip in self._tips:
            widget.setEnabled(usable.enabled)
            widget.setToolTip(tip if usable.enabled else usable.reason)
        self.structure.setEnabled(int(widgets.read(self.structure, "count")) > 0)

    def say(self, text: str) -> None:
        """Show a notice above the results; empty hides it."""
        self.notice.setText(text)
        self.notice.setVisible(bool(text))

    def say_meaning(self, text: str) -> None:
        """Show what the chosen line means; empty hides it."""
        self.meaning.setText(text)
        self.meaning.setVisible(bool(text))

    def say_whatif(self, text: str) -> None:
        """Show what changed; empty hides it."""
        self.whatif.setText(widgets.unbroken(text))
        self.whatif.setVisible(bool(text))

    def say_needs(self, text: str) -> None:
        """Show what the structure needs around it; empty hides it."""
        self.needs.setText(text)
        self.needs.setVisible(bool(text))

    def step(self, by: int) -> None:
        """Show the next or the previous explained structure, round and round."""
        count = int(widgets.read(self.structure, "count"))
        index = int(widgets.read(self.structure, "currentIndex"))
        for _step in range(count):
            index = (index + by) % count
            if self.structure.itemData(index):
                self.structure.setCurrentIndex(index)
                return

    def _on_button(self, name: str) -> None:
        if name in ("previous", "next"):
            self.step(1 if name == "next" else -1)
        else:
            self.pressed.emit(name)

    def _on_structure(self, *_: Any) -> None:
        name = self.chosen_structure()
        if name:
            self.structure_changed.emit(name)
